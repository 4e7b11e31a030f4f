"""A folder under runs/ is a run of our own or a listener's; this opens either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rfcx_tf.runs.listener_run import ListenerRun, is_listener
from rfcx_tf.runs.run import RunFolder


def open_any_run(path: str | Path, overrides: Sequence[str] = ()) -> RunFolder | ListenerRun:
    """Opens a run folder of either kind.

    Args:
        path: the folder.
        overrides: for a run of our own, as `RunFolder.open` takes them. A listener has nothing
            to set and is opened as it is.

    Raises:
        UserError: if it is no run, or `RunFolder.open` refuses an override.
    """
    return ListenerRun.open(path) if is_listener(path) else RunFolder.open(path, overrides)
