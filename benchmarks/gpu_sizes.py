"""What the GPU benchmark runs: sizes for a GPU, and small ones for a try on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.stages.train import CLASSES

# Usual lengths of the competition's species, 0.3 to 5 s.
MEAN_BOX_S = {number: round(0.3 * 1.13**number, 3) for number in range(len(CLASSES))}


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        batch: of the training step that counts; `other_batches` come later, with time left.
        recordings: scored at once, one number after the other.
        recording_s: their length.
        round_s: length of one timing.
        overrides: of the recipe.
        trial_overrides: of the recipe of the trials.
        epoch_examples: of the trials.
        processes: that draw examples for the trials.
        precision: of the trials.
    """

    batch: int = 128
    other_batches: tuple[int, ...] = (64, 256)
    recordings: tuple[int, ...] = (1, 8)
    recording_s: float = 60.0
    round_s: float = 0.6
    overrides: tuple[str, ...] = ()
    trial_overrides: tuple[str, ...] = ()
    epoch_examples: int = 4096
    processes: int = 12
    precision: str = "mixed_bfloat16"


GPU = Sizes()
SMALL = Sizes(
    batch=4,
    other_batches=(2,),
    recordings=(1, 2),
    recording_s=6.0,
    round_s=0.1,
    overrides=("model.backbone.name=resnet10", "model.backbone.width=4"),
    trial_overrides=(
        "model.backbone.name=resnet10",
        "model.backbone.width=4",
        "training.epochs=2",
    ),
    epoch_examples=256,
    processes=1,
    precision="float32",
)
