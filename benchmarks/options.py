"""What a benchmark is told on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rfcx_tf.core.config import Config


@dataclass(frozen=True)
class Options:
    """Choices for all benchmarks; each uses some of them.

    Attributes:
        config: the recipe.
        slim: the recipe of a small network, to predict with beside the other.
        data: a folder in the Kaggle layout; None: a synthetic one is made.
        run: a trained run; None: random weights.
        truth: complete labels of the run's recordings; None: no LWLRAP.
        out: where the tables go.
        repeats: rounds of every measurement.
        recordings: how many of the data are used.
        duration_s: of a synthetic recording.
        batch_size: of training steps, and of crops that are scored together.
        steps: training steps, or batches, in one timing.
        cores: what is measured on several cores gets this many.
        skip: names of variants to leave out.
    """

    config: Config
    slim: Config
    data: Path | None
    run: Path | None
    truth: Path | None
    out: Path
    repeats: int
    recordings: int
    duration_s: float
    batch_size: int
    steps: int
    cores: int
    skip: tuple[str, ...] = ()

    def settings(self) -> dict:
        """All of it as plain values, for a report."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {name: str(values[name] or "") for name in ("data", "run", "truth", "out")}
        values |= {name: values[name].model_dump(mode="json") for name in ("config", "slim")}
        return values | {"skip": list(self.skip)}
