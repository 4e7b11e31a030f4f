"""What a stage of `speed.py` is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rfcx_tf.core.config import Config


@dataclass(frozen=True)
class Options:
    """Choices for all stages; each uses some of them.

    Attributes:
        config: the recipe.
        slim: the recipe of a small network, for comparison in `predict`.
        data: a folder in the Kaggle layout; None: synthetic recordings.
        run: a trained run; None: random weights.
        out: where the reports go.
        recordings: how many to use.
        duration_s: length of a synthetic recording.
        repeats: rounds that count.
        batch_size: crops in a batch.
        steps: training steps in one timing.
        cores: for tasks that use several.
    """

    config: Config
    slim: Config
    data: Path | None
    run: Path | None
    out: Path
    recordings: int
    duration_s: float
    repeats: int
    batch_size: int
    steps: int
    cores: int
