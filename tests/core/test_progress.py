"""Progress is a bar in a terminal, and lines without control characters in a file."""

import io
import sys

import pytest

from rfcx_tf.core import progress
from rfcx_tf.core.progress import keras_verbosity, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def put_in_place(stream, monkeypatch):
    """pytest has streams of its own in every phase of a test, so this is for the test itself."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()])
def test_a_file_gets_lines_and_a_terminal_a_bar(stderr, monkeypatch):
    put_in_place(stderr, monkeypatch)
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with progress_bar(total=4, desc="shards", unit="recording") as bar:
        for _ in range(4):
            bar.update()
    said = stderr.getvalue()
    if stderr.isatty():
        assert "\r" in said and "|##########|" in said
        return
    assert not set(said) & set("\r\b\x1b|")
    lines = said.splitlines()
    assert lines[0].startswith("shards:   0% 0/4 [") and lines[-1].startswith("shards: 100% 4/4 [")
    assert 3 <= len(lines) == len(set(lines))


def test_a_file_gets_few_lines_of_work_that_is_soon_done(monkeypatch):
    put_in_place(stderr := io.StringIO(), monkeypatch)
    for _ in progress_bar(range(1000), bar_format="{percentage:3.0f}%|{bar}| done"):
        pass
    assert stderr.getvalue().splitlines() == ["0% done", "100% done"]


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()])
def test_nothing_is_shown_where_that_is_not_wanted(stderr, monkeypatch):
    put_in_place(stderr, monkeypatch)
    list(progress_bar(range(3), shown=False))
    assert stderr.getvalue() == ""
    assert keras_verbosity(False) == 0
    assert keras_verbosity(True) == (1 if stderr.isatty() else 2)
