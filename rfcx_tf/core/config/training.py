"""Optimisation and prediction: the sections `training` and `prediction`."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from rfcx_tf.core.config.section import ConfigSection, NonNegativeFloat, PositiveFloat, PositiveInt

Monitor = Literal[
    "last",
    "val_tp_log_loss",
    "val_fp_log_loss",
    "val_log_loss",
    "val_lrap",
    "val_recording_lwlrap",
]


class TrainingConfig(ConfigSection):
    """Optimisation of one fold.

    Attributes:
        folds: number of cross-validation folds, grouped by recording.
        fold_seed: decides which recordings are in which fold. It is not `seed`, so that trainings
            with different seeds are compared on the same folds and shards.
        precision: `auto` is mixed bfloat16 where the hardware multiplies it (GPUs from
            Ampere on, CPUs with AMX), mixed float16 on another single GPU, float32 elsewhere.
        accumulation_steps: a batch goes through the network in this many parts, one after the
            other, for less memory. Batch normalisation sees the parts, not the batch.
        logical_cpus: try MirroredStrategy on this many logical CPU devices.
        schedule: `cosine` with warm-up, or `plateau` on the monitor (the write-up's).
        ema: decay of the moving average of the weights; 0: off. The average is what is
            evaluated, saved and exported, what teaches, and what a warm student begins with.
        monitor: the figure that decides the checkpoint, plateau and early stopping.
        recording_validation: slide over the whole held-out recordings after every epoch, which
            gives the monitor val_recording_lwlrap.
        early_stopping_epochs: stop after so many epochs without a better monitor; 0: never.
        pictures_every_epochs: validation pictures in TensorBoard; 0: none.
        xla: compile the step with XLA (pays on GPUs, costs on CPUs).
    """

    folds: Annotated[int, Field(ge=2)] = 5
    fold_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    epochs: PositiveInt = 30
    steps_per_epoch: PositiveInt = 100
    batch_size: PositiveInt = 64
    accumulation_steps: PositiveInt = 1
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    logical_cpus: Annotated[int, Field(ge=1)] = 1
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-4
    gradient_clip_norm: NonNegativeFloat = 0.0
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup_epochs: NonNegativeFloat = 1.0
    plateau_epochs: PositiveInt = 3
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    early_stopping_epochs: Annotated[int, Field(ge=0)] = 0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    monitor: Monitor = "last"
    recording_validation: bool = False
    pictures_every_epochs: Annotated[int, Field(ge=0)] = 5
    xla: bool = False

    @pydantic.model_validator(mode="after")
    def _rules(self) -> TrainingConfig:
        self.require(
            not self.xla or self.logical_cpus == 1,
            f"xla must be off with several logical CPUs ({self.logical_cpus})",
        )
        self.require(
            self.batch_size % (self.logical_cpus * self.accumulation_steps) == 0,
            "batch_size must be a multiple of training.logical_cpus x training.accumulation_steps "
            f"({self.logical_cpus} x {self.accumulation_steps})",
        )
        self.require(
            self.schedule != "plateau" or self.monitor != "last",
            "monitor must name a validation figure when training.schedule is plateau",
        )
        self.require(
            self.early_stopping_epochs == 0 or self.monitor != "last",
            "monitor must name a validation figure when training.early_stopping_epochs is set",
        )
        self.require(
            self.monitor != "val_recording_lwlrap" or self.recording_validation,
            "monitor needs training.recording_validation for this one",
        )
        return self


class PredictionConfig(ConfigSection):
    """Whole recordings to scores.

    Attributes:
        running_mean_s: window scores are averaged over so many seconds before the maximum.
        time_shifts: passes over a recording, each shifted by a further part of a cell, whose
            scores are averaged.
    """

    running_mean_s: NonNegativeFloat = 0.0
    time_shifts: PositiveInt = 1
