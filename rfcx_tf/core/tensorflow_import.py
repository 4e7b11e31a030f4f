"""Keeps the notes that TensorFlow's libraries print off the screen, at their import and elsewhere.

`TF_CPP_MIN_LOG_LEVEL` did that up to TensorFlow 2.18. Later ones print them before they read it.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType

# Notes and warnings in abseil's form. Real failures arrive as Python exceptions.
NOTE = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog")


def quiet_import() -> None:
    """Makes the first import of TensorFlow leave its notes out, whoever imports it.

    A TF_CPP_MIN_LOG_LEVEL below 3 in the environment asks for them, and they stay.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        with without_notes():
            self._loader.exec_module(module)


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Holds what is written to file descriptor 2, and passes on all but notes at the end."""
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
        except OSError:  # No place for files, or no stderr: notes are the least trouble.
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not NOTE.match(line)))
