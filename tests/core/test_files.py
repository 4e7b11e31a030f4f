"""Files that are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
import tensorflow as tf

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text, check_writable


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "scores.csv"
    atomic_write_text(path, "earlier\n")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_text("half a li")
        raise KeyboardInterrupt
    assert path.read_text() == "earlier\n"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_the_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "net.weights.h5"
    with atomic_file(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".weights.h5")
        temporary.write_bytes(b"weights")
        assert not path.exists()
    assert path.read_bytes() == b"weights"
    assert os.listdir(tmp_path) == ["net.weights.h5"]


def test_places_that_cannot_be_written_are_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "scores.csv", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(UserError) as caught:
            atomic_write_text(path, "text")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_checking_that_a_file_can_be_written_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "new" / "scores.csv")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "file" / "scores.csv")


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path):
    for name in ("x" * 251 + ".npz", "ü" * 125 + ".json"):
        atomic_write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is full")
def test_a_full_disk_takes_one_line_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "scores.csv"
    atomic_write_text(path, "earlier\n")
    with pytest.raises(UserError) as caught, atomic_file(path):
        Path("/dev/full").write_text("more than there is room for")
    assert str(path) in str(caught.value) and "room" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "earlier\n"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_what_is_said_of_a_full_disk_in_words_only(tmp_path):
    words = "Shard 0 failed; No space left on device [Op:Save]"
    error = tf.errors.ResourceExhaustedError(None, None, words)
    with pytest.raises(UserError, match="room on the disk"), atomic_file(tmp_path / "a.h5"):
        raise error
    # Memory that runs out is something else.
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(tf.errors.ResourceExhaustedError), atomic_file(tmp_path / "a.h5"):
        raise error


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no system call asks for room")
def test_room_is_asked_for_before_anything_is_written(tmp_path, monkeypatch):
    with atomic_file(tmp_path / "a.h5", room_bytes=10_000) as temporary:
        assert temporary.stat().st_size == 0
        temporary.write_bytes(b"whole")

    def full(descriptor, begin, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    refusal = pytest.raises(UserError, match="room on the disk")
    with refusal, atomic_file(tmp_path / "a.h5", room_bytes=10_000):
        raise AssertionError("nothing is written")
    assert (tmp_path / "a.h5").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a.h5"]
