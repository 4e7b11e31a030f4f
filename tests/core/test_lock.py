"""One command at a time, whatever became of the one before."""

import os
import subprocess
import sys
import time

import pytest
from refused import refused

from rfcx_tf.core import lock
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text, temporary_folder
from rfcx_tf.core.lock import lock_file, lock_files, lock_folder

_HOLD = """
import sys
from rfcx_tf.core.lock import {kind}
with {kind}(sys.argv[1], "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Starts a process that holds a lock until its stdin ends or it is killed."""
    started = []

    def start(kind, place):
        command = [sys.executable, "-c", _HOLD.format(kind=kind), str(place)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def enter(kind, place):
    with kind(place, "predict"):
        pass


@pytest.mark.parametrize("kind", [lock_folder, lock_file])
def test_the_second_process_is_told_who_is_there(kind, hold, tmp_path):
    process = hold(kind.__name__, tmp_path / "out")
    message = refused(enter, kind, tmp_path / "out")
    assert f"Process {process.pid} on " in message and "(train)" in message
    (tmp_path / "way").symlink_to(tmp_path)
    assert str(process.pid) in refused(enter, kind, tmp_path / "way" / "out")
    process.communicate()
    enter(kind, tmp_path / "out")
    assert os.listdir(tmp_path) == ["way"]


def test_a_killed_process_blocks_nobody(hold, tmp_path):
    process = hold("lock_folder", tmp_path)
    process.kill()
    process.wait()
    assert os.listdir(tmp_path) == [".rfcx-tf-lock"]
    enter(lock_folder, tmp_path)
    assert os.listdir(tmp_path) == []


def test_where_files_cannot_be_locked_the_named_process_counts(hold, tmp_path, monkeypatch):
    process = hold("lock_folder", tmp_path)
    monkeypatch.setattr(lock, "fcntl", None)
    assert str(process.pid) in refused(enter, lock_folder, tmp_path)
    process.kill()
    process.wait()
    enter(lock_folder, tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_lock_leaves_a_folder_only_where_something_was_put(tmp_path):
    with lock_folder(tmp_path / "a" / "b", "train"):
        assert os.listdir(tmp_path / "a" / "b") == [".rfcx-tf-lock"]
        with pytest.raises(UserError, match=str(os.getpid())):
            enter(lock_folder, tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
    with lock_folder(tmp_path / "a" / "b", "train"):
        atomic_write_text(tmp_path / "a" / "b" / "run.json", "{}")
    assert os.listdir(tmp_path / "a" / "b") == ["run.json"]


def test_files_of_one_command(hold, tmp_path):
    (tmp_path / "way").symlink_to(tmp_path)
    ends_alike = [tmp_path / f"{letter}{'x' * 60}.csv" for letter in "ab"]
    with lock_files([tmp_path / "a", None, tmp_path / "way" / "a", *ends_alike], "predict"):
        assert len(os.listdir(tmp_path)) == 1 + 3
        for place in (tmp_path / "a", *ends_alike):
            assert str(os.getpid()) in refused(enter, lock_file, place)
    process = hold("lock_file", tmp_path / "c")
    assert str(process.pid) in refused(enter, lock_files, [tmp_path / "a", tmp_path / "c"])
    enter(lock_file, tmp_path / "a")


def test_where_nothing_can_be_written_there_is_no_lock(tmp_path):
    (tmp_path / "file").write_text("")
    for kind, place in [(lock_folder, "file"), (lock_folder, "file/run"), (lock_file, "file/x")]:
        assert str(tmp_path / place) in refused(enter, kind, tmp_path / place)
    assert os.listdir(tmp_path) == ["file"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from rfcx_tf.core.files import atomic_file, temporary_folder
folder = Path(sys.argv[1])
with atomic_file(folder / "fold0" / "history.csv") as one, temporary_folder(folder) as two:
    one.write_text("half a li")
    (two / "model").mkdir()
    (two / "model" / "saved_model.pb").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_half_written_files_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert sum(len(files) for _, _, files in os.walk(tmp_path)) == 2
    (tmp_path / ".rfcx-tf-notes").write_text("of the user")
    with atomic_file(tmp_path / "summary.md") as own, temporary_folder(tmp_path) as folder:
        # As another machine's processes would call theirs.
        other = own.with_name(f".rfcx-tf-00000000-{own.name.split('-', 3)[3]}")
        old = own.with_name(f".rfcx-tf-00000000-1-{own.name.split('-', 4)[4]}")
        other.touch()
        old.touch()
        os.utime(old, (0, time.time() - 25 * 3600))
        with lock_folder(tmp_path, "train"):
            kept = {path.name for path in tmp_path.iterdir()} - {".rfcx-tf-lock"}
        assert kept == {"fold0", ".rfcx-tf-notes", own.name, folder.name, other.name}
        assert os.listdir(tmp_path / "fold0") == []
