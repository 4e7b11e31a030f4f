"""The whole recipe, and the rules that involve several of its sections."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import pydantic
from pydantic import Field

from rfcx_tf.core.config.audio import AudioConfig
from rfcx_tf.core.config.augment import AugmentConfig
from rfcx_tf.core.config.crops import CropConfig, DatasetConfig
from rfcx_tf.core.config.frontend import FrontEndConfig
from rfcx_tf.core.config.loss import LossConfig
from rfcx_tf.core.config.model import ModelConfig
from rfcx_tf.core.config.pseudo import PseudoConfig
from rfcx_tf.core.config.section import ConfigSection
from rfcx_tf.core.config.training import PredictionConfig, TrainingConfig


class Config(ConfigSection):
    """A recipe: everything that one run needs beside its data.

    Attributes:
        seed: decides initial weights, draws, augmentation and dropout.
    """

    kind: ClassVar[str] = "detector"

    # Below 2**31: TensorFlow's stateless seeds are int32.
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    audio: AudioConfig = AudioConfig()
    frontend: FrontEndConfig = FrontEndConfig()
    crops: CropConfig = CropConfig()
    dataset: DatasetConfig = DatasetConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    pseudo: PseudoConfig = PseudoConfig()
    training: TrainingConfig = TrainingConfig()
    prediction: PredictionConfig = PredictionConfig()

    @property
    def crop_frames(self) -> int:
        """Frames in one training crop."""
        return self.frontend.frames(self.crops.crop_s)

    @property
    def margin_frames(self) -> int:
        """Frames that shards keep on either side of a crop."""
        return self.frontend.frames(self.crops.margin_s)

    @property
    def stored_frames(self) -> int:
        """Frames of a crop in shards: with a margin on either side."""
        return self.crop_frames + 2 * self.margin_frames

    @property
    def cell_s(self) -> float:
        """Seconds from one backbone cell (and window) to the next."""
        return self.model.backbone.stride[0] * self.frontend.frame_s

    @property
    def window_cells(self) -> int:
        """Backbone cells in one classification window."""
        frames = self.frontend.frames(self.model.head.window_s or self.crops.crop_s)
        return math.ceil(frames / self.model.backbone.stride[0])

    @property
    def pseudo_slide_cells(self) -> int:
        """Backbone cells from one pseudo-labelled window to the next, at least one."""
        return max(1, round(self.pseudo.slide_s / self.cell_s))

    @pydantic.model_validator(mode="after")
    def _rules(self) -> Config:
        front, crops, augment = self.frontend, self.crops, self.augment
        stride_frames, stride_bands = self.model.backbone.stride
        # A single band is of no use, and TensorFlow 2.17 computes the last convolution wrongly
        # then, in bfloat16 on CPUs with AMX.
        self.require(
            front.n_mels >= 2 * stride_bands,
            f"frontend.n_mels must be at least twice the backbone's stride ({stride_bands})",
        )
        window_s = self.model.head.window_s
        self.require(
            window_s is None or window_s <= crops.crop_s,
            f"model.head.window_s must not exceed crops.crop_s ({crops.crop_s:g})",
        )
        self.require(
            self.window_cells > 0,
            f"model.head.window_s must span at least one frame ({front.frame_s:.4g} s)",
        )
        self.require(
            self.crop_frames >= stride_frames,
            f"crops.crop_s must span at least one backbone cell ({self.cell_s:.4g} s)",
        )
        self.require(
            crops.margin_s >= augment.tp_shift_s,
            f"augment.tp_shift_s must not exceed crops.margin_s ({crops.margin_s:g})",
        )
        shifted_s = crops.crop_s + 2.0 * augment.tp_shift_s
        margin_s = ((1.0 + augment.stretch) * shifted_s - crops.crop_s) / 2.0
        self.require(
            augment.stretch == 0 or crops.margin_s >= margin_s,
            f"crops.margin_s must be at least {margin_s:.4g} for augment.stretch "
            f"{augment.stretch:g} and augment.tp_shift_s {augment.tp_shift_s:g}",
        )
        self.require(
            augment.band_shift < front.n_mels,
            f"augment.band_shift must be smaller than frontend.n_mels ({front.n_mels})",
        )
        self.require(
            augment.frequency_mask_bands <= front.n_mels,
            f"augment.frequency_mask_bands must not exceed frontend.n_mels ({front.n_mels})",
        )
        self.require(
            augment.background == 0 or crops.unlabelled_per_recording > 0,
            "augment.background needs crops.unlabelled_per_recording above 0",
        )
        self.require(
            augment.mixup_domain != "power" or front.compression == "log",
            "augment.mixup_domain can be power only where frontend.compression is log (not "
            f"{front.compression})",
        )
        self.require(
            self.prediction.time_shifts <= stride_frames,
            f"prediction.time_shifts must not exceed the backbone's stride ({stride_frames})",
        )
        return self
