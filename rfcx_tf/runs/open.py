"""A folder under runs/ holds a run of one kind or another; this opens each.

A run is a folder `path` with `config` (its recipe), `info` (classes, shards and what else it needs
to know), numbered folds and the weights of each. What differs between kinds stands in their
classes; what scores with them, in `rfcx_tf.scoring.load`, by `kind`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rfcx_tf.audio.channels import MEAN
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import check_same_classes
from rfcx_tf.runs.listener_run import ListenerRun, is_listener
from rfcx_tf.runs.run import RunFolder

Run = RunFolder | ListenerRun


def open_run(path: str | Path, overrides: Sequence[str] = ()) -> Run:
    """Opens a run folder of any kind.

    Args:
        path: the folder.
        overrides: of the `prediction` section of a run of detectors, such as
            `prediction.running_mean_s=3`. A listener has nothing to set and is opened as it is.

    Raises:
        UserError: if it is no run, or `RunFolder.open` refuses an override.
    """
    return ListenerRun.open(path) if is_listener(path) else RunFolder.open(path, overrides)


def open_runs(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> list[Run]:
    """Opens runs that are used together.

    Raises:
        UserError: as `open_run`, or if there are overrides but no run that takes them.
    """
    runs = [open_run(path, overrides) for path in paths]
    if overrides and all(run.kind != "detector" for run in runs):
        raise UserError(
            f"A {runs[0].kind} has nothing to set at prediction. Received: --set {overrides[0]}. "
            "Leave it out."
        )
    return runs


def channel_of(runs: Iterable[Run]) -> str:
    """The channel that runs were trained on; the mean of listeners, whose recipes do not say.

    Raises:
        UserError: if they differ.
    """
    channels = {run.config.audio.channel for run in runs if run.kind != "listener"} or {MEAN}
    if len(channels) > 1:
        raise UserError(
            f"Runs must be of one channel. Received: {', '.join(sorted(channels))}. Say which with "
            "--channel, or channel= of rfcx_tf.load."
        )
    return channels.pop()


def check_classes(runs: Sequence[Run]) -> None:
    """Refuses runs that do not have the same classes in the same order.

    Raises:
        UserError: as `check_same_classes`.
    """
    check_same_classes([(run.path, run.info.classes) for run in runs])
