"""The one schema of every YAML in configs/: file + overrides -> a checked, immutable Config.

All checks that involve more than one value live here, so that a wrong recipe is refused
before any work starts and every other module can trust what it is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pydantic
import yaml
from pydantic import Field

from rfcx_tf.core.errors import UserError

# To be raised by whoever changes what the front end computes.
FRONTEND_VERSION = 1

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Monitor = Literal[
    "last",
    "val_tp_log_loss",
    "val_fp_log_loss",
    "val_log_loss",
    "val_lrap",
    "val_recording_lwlrap",
]
StridePair = tuple[PositiveInt, PositiveInt]
Schema = TypeVar("Schema", bound=pydantic.BaseModel)


class ConfigError(UserError):
    """A configuration that cannot be used; the message is one line that names the key."""


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class PcenConfig(_Section):
    """Per-channel energy normalisation (Wang et al. 2017), in librosa's parametrisation.

    The defaults are librosa's and assume audio scaled to +-2**31. For bioacoustics
    Lostanlen et al. (2019) use gain 0.8, bias 10, power 0.25, time_constant_s 0.06.

    Attributes:
        initial: the smoothed level before the first frame: `one`, as in librosa, with which
            every recording begins with a burst in all bands; or that of the `first_frame`.
    """

    gain: Probability = 0.98
    bias: NonNegativeFloat = 2.0
    power: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    time_constant_s: PositiveFloat = 0.4
    eps: PositiveFloat = 1e-6
    initial: Literal["one", "first_frame"] = "one"


class FrontEndConfig(_Section):
    """Waveform to compressed mel spectrogram. All of it is part of the shards' fingerprint.

    Attributes:
        sample_rate_hz: rate to which every recording is resampled.
        f_max_hz: upper edge of the highest mel band; None means half the sample rate.
        magnitude_power: 1 for a magnitude spectrogram, 2 for power.
        compression: `pcen`, `log` for ln(1e-6 + mel), or `pcen_log` for both as two channels.
        input_scale: factor on the waveform in [-1, 1] before anything else.
    """

    sample_rate_hz: PositiveInt = 48000
    n_fft: PositiveInt = 2048
    win_length: PositiveInt = 2048
    hop_length: PositiveInt = 512
    n_mels: PositiveInt = 128
    f_min_hz: NonNegativeFloat = 0.0
    f_max_hz: PositiveFloat | None = None
    magnitude_power: Literal[1, 2] = 1
    compression: Literal["pcen", "log", "pcen_log"] = "pcen"
    input_scale: PositiveFloat = 2.0**31
    pcen: PcenConfig = PcenConfig()

    @property
    def channels(self) -> int:
        """Values that every frame has for every mel band."""
        return 2 if self.compression == "pcen_log" else 1

    @property
    def bands(self) -> int:
        """Values in a frame: the mel bands in order, all channels of one beside each other."""
        return self.n_mels * self.channels

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate_hz

    @property
    def fingerprint(self) -> str:
        """Differs between two front ends unless all of their values are equal."""
        text = json.dumps([FRONTEND_VERSION, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def frames(self, seconds: float) -> int:
        """Number of frames nearest to a duration in seconds."""
        return round(seconds / self.frame_s)


class CropConfig(_Section):
    """What is cut out of a recording's spectrogram for training.

    Attributes:
        crop_s: length of sound that the network sees as one training example.
        margin_s: what the shards keep on either side of it, as room for random shifts.
        unlabelled_per_recording: crops per recording from where no row lies (0: none).
        recordings_per_shard: recordings whose crops share one shard file.
    """

    crop_s: PositiveFloat = 5.0
    margin_s: NonNegativeFloat = 2.0
    unlabelled_per_recording: Annotated[int, Field(ge=0)] = 0
    recordings_per_shard: PositiveInt = 64


class DatasetConfig(_Section):
    """How training examples are drawn from the shards.

    Attributes:
        tp_fraction: share of the examples drawn from TP rows; the rest come from FP rows.
        balance_classes: draw every class equally often; otherwise every row equally often.
    """

    tp_fraction: Probability = 0.5
    balance_classes: bool = True


class AugmentConfig(_Section):
    """How training crops are varied. The write-up's are those in the time direction; 0 is off.

    Attributes:
        tp_shift_s: a TP crop is moved by up to this many seconds either way.
        fp_shift_boxes: an FP crop is moved by up to this many widths of its box.
        fp_flip: probability that an FP crop is reversed in time; 0 where a species' call is
            another's backwards.
        fp_cut_paste: probability that an FP box is pasted a second time, shifted.
        fp_mixup: probability that an FP crop is mixed with another FP crop of its class.
        tp_mixup: probability that a TP crop is mixed with any other TP crop, or a pseudo-labelled
            one with any other of its kind.
        mixup_alpha: the first crop of a mix weighs the larger of x and 1 - x, where x is drawn
            from Beta(alpha, alpha). A small alpha gives mixes in which the second crop, whose
            labels count too, can hardly be heard.
        mixup_labels: `union` for labels that do not depend on the weight, `weighted` for
            targets in proportion to it.
        mixup_domain: `spectrogram` mixes the compressed values; `power`, for log-mel only, adds
            the power of both sounds, as in air: the weights are shares of power.
        feature_mixup: probability that the features which enter the head's dense layers are
            mixed with those of another crop of the batch (manifold mixup), weighted by
            `mixup_alpha`.
        background: probability that a crop without any row is laid under a crop, by
            `mixup_alpha` and `mixup_domain`; needs `crops.unlabelled_per_recording`.
        gain_sd: standard deviation of the log gain on a whole crop: of PCEN values, or of what
            the logarithm is taken of.
        equalizer_sd: standard deviation of such a log gain that varies smoothly over the bands.
        band_shift: a crop is moved up or down by at most this many mel bands.
        stretch: a crop is played slower or faster by up to this part (0.15: 1.15 times).
        noise_sd: standard deviation of noise added to a crop, in those of the crop.
        click: probability of a click: one frame as loud in all bands as the loudest cell.
        frequency_masks: number of mel stripes set to the crop's mean.
        frequency_mask_bands: largest width of one stripe, in mel bands.
        frequency_masks_spare_box: leave the bands of the box that the crop was cut for alone.
        time_masks, time_mask_s: the same in time; stripes in seconds.
    """

    tp_shift_s: NonNegativeFloat = 0.02
    fp_shift_boxes: NonNegativeFloat = 1.0
    fp_flip: Probability = 0.5
    fp_cut_paste: Probability = 0.5
    fp_mixup: Probability = 0.5
    tp_mixup: Probability = 0.0
    mixup_alpha: PositiveFloat = 4.0
    mixup_labels: Literal["union", "weighted"] = "union"
    mixup_domain: Literal["spectrogram", "power"] = "spectrogram"
    feature_mixup: Probability = 0.0
    background: Probability = 0.0
    gain_sd: NonNegativeFloat = 0.0
    equalizer_sd: NonNegativeFloat = 0.0
    band_shift: Annotated[int, Field(ge=0)] = 0
    stretch: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    noise_sd: NonNegativeFloat = 0.0
    click: Probability = 0.0
    frequency_masks: Annotated[int, Field(ge=0)] = 0
    frequency_mask_bands: PositiveInt = 8
    frequency_masks_spare_box: bool = True
    time_masks: Annotated[int, Field(ge=0)] = 0
    time_mask_s: PositiveFloat = 0.2


class PseudoConfig(_Section):
    """How windows are labelled by models, and how a training draws from them.

    Attributes:
        fraction: share of the training examples drawn from pseudo-labelled crops, when a run is
            given some. The others are TP and FP rows in `dataset.tp_fraction`, so that every
            batch stays anchored in labels of experts.
        weight: of their labels in the loss. Neither `loss.unknown_negative_weight` nor
            `loss.label_smoothing` applies to them.
        slide_s: distance of the labelled windows, rounded to whole backbone cells.
        present_above, absent_below: a class whose probability lies between is unknown in that
            window; the others have their probability as a soft target.
        windows_per_recording: at most so many windows of a recording are kept.
        background: at most this share of them holds nothing that is known to be present.
        balance_classes: draw the windows of every most probable class equally often, and
            background like one class more; otherwise every window equally often.
        mixup: probability that a window is mixed with another one, as TP crops are.
    """

    fraction: Probability = 0.5
    weight: PositiveFloat = 1.0
    slide_s: PositiveFloat = 0.5
    present_above: Probability = 0.5
    absent_below: Probability = 0.05
    windows_per_recording: PositiveInt = 20
    background: Probability = 0.5
    balance_classes: bool = False
    mixup: Probability = 0.5


class BackboneConfig(_Section):
    """Residual network (He et al. 2016) or EfficientNet (Tan and Le 2019).

    The total stride of a residual network is that of stem, pooling and stages. An EfficientNet's
    is 16, and `name` and `weights` are all that it takes.

    Attributes:
        name: kind of network, depth and kind of block.
        width: channels of the first stage, 64 in the publication; later stages double it.
        stem_stride, stage_strides: each one number or a [time, frequency] pair.
        stem_pooling: the 3x3 max-pooling of stride 2 after the stem; off gives stride 16.
        weights: where training begins: `none` (random), `imagenet`, or the path of a weights file
            (`rfcx_tf.model.pretrained`).
    """

    name: Literal[
        "resnet10", "resnet18", "resnet34", "resnet50", "efficientnet_b0", "efficientnet_b2"
    ] = "resnet34"
    width: PositiveInt = 64
    stem_kernel: Annotated[int, Field(gt=0, lt=32)] = 7
    stem_stride: PositiveInt | StridePair = 2
    stem_pooling: bool = False
    stage_strides: tuple[PositiveInt | StridePair, ...] = (1, 2, 2, 2)
    weights: str = "none"

    @property
    def stride(self) -> tuple[int, int]:
        """Total stride in frames and in mel bands."""
        if self._is_efficientnet:
            return (16, 16)
        pairs = [as_pair(s) for s in (self.stem_stride, *self.stage_strides)]
        pool = 2 if self.stem_pooling else 1
        return tuple(pool * math.prod(axis) for axis in zip(*pairs, strict=True))

    @property
    def _is_efficientnet(self) -> bool:
        return self.name.startswith("efficientnet")

    @pydantic.model_validator(mode="after")
    def _options_apply(self) -> BackboneConfig:
        if self._is_efficientnet:
            for key, field in type(self).model_fields.items():
                _require(
                    key in ("name", "weights") or getattr(self, key) == field.default,
                    f"model.backbone.{key}",
                    f"is an option of residual networks: leave it out for {self.name}",
                    getattr(self, key),
                )
        return self


class HeadConfig(_Section):
    """Sliding-window classifier on the backbone's cells.

    Attributes:
        kind: `shared`: one window length for all classes. `per_class`: inside that window
            every class pools over its own mean box length, centred.
        window_s: length of the window; None: as long as a training crop.
        frequency_pooling, time_pooling: how cells are pooled over mel bands, over the window.
        hidden: units of the hidden layer; 0: none.
        dropout: rate before each dense layer.
    """

    kind: Literal["shared", "per_class"] = "shared"
    window_s: PositiveFloat | None = None
    frequency_pooling: Literal["mean", "max", "mean_max"] = "mean"
    time_pooling: Literal["mean", "max", "mean_max"] = "mean"
    hidden: Annotated[int, Field(ge=0)] = 0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5


class ModelConfig(_Section):
    """Spectrogram to window logits."""

    backbone: BackboneConfig = BackboneConfig()
    frequency_coordinate: bool = False
    head: HeadConfig = HeadConfig()


class LossConfig(_Section):
    """Weights in the masked binary cross-entropy.

    Attributes:
        present_weight, absent_weight: weight of a known-present, a known-absent label.
        unknown_negative_weight: weight at which an unknown class counts as absent; 0 keeps
            unknown classes out of the loss.
        unknown_negative_in: `tp`: only in crops that hold a known-present class; `all`.
        label_smoothing: known-present targets become 1 - this.
    """

    present_weight: PositiveFloat = 1.0
    absent_weight: NonNegativeFloat = 1.0
    unknown_negative_weight: Probability = 0.0
    unknown_negative_in: Literal["tp", "all"] = "tp"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0


class TrainingConfig(_Section):
    """Optimisation of one fold.

    Attributes:
        folds: number of cross-validation folds, grouped by recording.
        fold_seed: of the assignment of recordings to folds. Apart from `seed`, so that
            trainings with different seeds are compared on the same folds and shards.
        precision: `auto` is mixed bfloat16 where the hardware multiplies it (GPUs from
            Ampere on, CPUs with AMX), mixed float16 on another single GPU, float32 elsewhere.
        accumulation_steps: a batch goes through the network in this many parts, one after the
            other, for less memory. Batch normalisation sees the parts, not the batch.
        logical_cpus: try MirroredStrategy on this many logical CPU devices.
        schedule: `cosine` with warm-up, or `plateau` on the monitor (the write-up's).
        ema: decay of the moving average of the weights; 0: off. The average is what is
            evaluated, saved and exported.
        monitor: what decides the checkpoint, plateau and early stopping.
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


class PredictionConfig(_Section):
    """Whole recordings to scores.

    Attributes:
        running_mean_s: window scores are averaged over so many seconds before the maximum.
        time_shifts: passes over a recording, each shifted by a further part of a cell, whose
            scores are averaged.
    """

    running_mean_s: NonNegativeFloat = 0.0
    time_shifts: PositiveInt = 1


class Config(_Section):
    """A recipe: everything that one run needs beside its data.

    Attributes:
        seed: of initial weights, draws, augmentation and dropout.
    """

    # Below 2**31: TensorFlow's stateless seeds are int32.
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
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
    def _values_go_together(self) -> Config:
        front, head, crops = self.frontend, self.model.head, self.crops
        nyquist_hz = front.sample_rate_hz / 2
        top_hz = nyquist_hz if front.f_max_hz is None else front.f_max_hz
        _require(
            front.win_length <= front.n_fft,
            "frontend.win_length",
            f"must not exceed frontend.n_fft ({front.n_fft})",
            front.win_length,
        )
        _require(
            front.hop_length <= front.win_length,
            "frontend.hop_length",
            f"must not exceed frontend.win_length ({front.win_length}), or sound is skipped",
            front.hop_length,
        )
        _require(
            top_hz <= nyquist_hz,
            "frontend.f_max_hz",
            f"must not exceed half the sample rate ({nyquist_hz:g})",
            top_hz,
        )
        _require(
            front.f_min_hz < top_hz,
            "frontend.f_min_hz",
            f"must lie below the upper edge ({top_hz:g})",
            front.f_min_hz,
        )
        _require(
            len(self.model.backbone.stage_strides) == 4,
            "model.backbone.stage_strides",
            "must have four entries, one a stage",
            self.model.backbone.stage_strides,
        )
        _require(
            self.model.backbone.stem_kernel % 2 == 1,
            "model.backbone.stem_kernel",
            "must be odd",
            self.model.backbone.stem_kernel,
        )
        _require(
            # A single band is of no use, and TensorFlow 2.17 computes the last convolution
            # wrongly then, in bfloat16 on CPUs with AMX.
            front.n_mels >= 2 * self.model.backbone.stride[1],
            "frontend.n_mels",
            f"must be at least twice the backbone's stride ({self.model.backbone.stride[1]})",
            front.n_mels,
        )
        _require(
            head.window_s is None or head.window_s <= crops.crop_s,
            "model.head.window_s",
            f"must not exceed crops.crop_s ({crops.crop_s:g})",
            head.window_s,
        )
        _require(
            self.window_cells > 0,
            "model.head.window_s",
            f"must span at least one frame ({front.frame_s:.4g} s)",
            head.window_s,
        )
        stride_frames = self.model.backbone.stride[0]
        _require(
            self.crop_frames >= stride_frames,
            "crops.crop_s",
            f"must span at least one backbone cell ({self.cell_s:.4g} s)",
            crops.crop_s,
        )
        _require(
            crops.margin_s >= self.augment.tp_shift_s,
            "augment.tp_shift_s",
            f"must not exceed crops.margin_s ({crops.margin_s:g})",
            self.augment.tp_shift_s,
        )
        stretch, shifted_s = self.augment.stretch, crops.crop_s + 2.0 * self.augment.tp_shift_s
        margin_s = ((1.0 + stretch) * shifted_s - crops.crop_s) / 2.0
        _require(
            stretch == 0 or crops.margin_s >= margin_s,
            "crops.margin_s",
            f"must be at least {margin_s:.4g} for augment.stretch {stretch:g} and "
            f"augment.tp_shift_s {self.augment.tp_shift_s:g}",
            crops.margin_s,
        )
        _require(
            self.augment.band_shift < front.n_mels,
            "augment.band_shift",
            f"must be smaller than frontend.n_mels ({front.n_mels})",
            self.augment.band_shift,
        )
        _require(
            self.augment.frequency_mask_bands <= front.n_mels,
            "augment.frequency_mask_bands",
            f"must not exceed frontend.n_mels ({front.n_mels})",
            self.augment.frequency_mask_bands,
        )
        _require(
            self.augment.background == 0 or crops.unlabelled_per_recording > 0,
            "augment.background",
            "needs crops.unlabelled_per_recording above 0",
            self.augment.background,
        )
        _require(
            self.pseudo.absent_below < self.pseudo.present_above,
            "pseudo.absent_below",
            f"must lie below pseudo.present_above ({self.pseudo.present_above:g})",
            self.pseudo.absent_below,
        )
        _require(
            self.prediction.time_shifts <= stride_frames,
            "prediction.time_shifts",
            f"must not exceed the backbone's stride ({stride_frames})",
            self.prediction.time_shifts,
        )
        training = self.training
        _require(
            not training.xla or training.logical_cpus == 1,
            "training.xla",
            f"must be off with several logical CPUs ({training.logical_cpus})",
            training.xla,
        )
        _require(
            training.batch_size % (training.logical_cpus * training.accumulation_steps) == 0,
            "training.batch_size",
            "must be a multiple of training.logical_cpus x training.accumulation_steps "
            f"({training.logical_cpus} x {training.accumulation_steps})",
            training.batch_size,
        )
        _require(
            self.augment.mixup_domain != "power" or front.compression == "log",
            "augment.mixup_domain",
            f"can be power only where frontend.compression is log (not {front.compression})",
            self.augment.mixup_domain,
        )
        _require(
            training.schedule != "plateau" or training.monitor != "last",
            "training.monitor",
            "must name a validation figure when training.schedule is plateau",
            training.monitor,
        )
        _require(
            training.early_stopping_epochs == 0 or training.monitor != "last",
            "training.monitor",
            "must name a validation figure when training.early_stopping_epochs is set",
            training.monitor,
        )
        _require(
            training.monitor != "val_recording_lwlrap" or training.recording_validation,
            "training.monitor",
            "needs training.recording_validation for this one",
            training.monitor,
        )
        backbone = self.model.backbone
        if backbone.weights != "none" and backbone.name.startswith("resnet"):
            _require(
                backbone.name != "resnet10",
                "model.backbone.weights",
                "must be none for resnet10, of which none are published",
                backbone.weights,
            )
            _require(
                backbone.width == 64,
                "model.backbone.width",
                "must be 64, as published, with model.backbone.weights",
                backbone.width,
            )
            _require(
                backbone.stem_kernel == 7,
                "model.backbone.stem_kernel",
                "must be 7, as published, with model.backbone.weights",
                backbone.stem_kernel,
            )
            _require(
                # Strided, it has a shortcut with weights that no published file holds.
                backbone.name == "resnet50" or as_pair(backbone.stage_strides[0]) == (1, 1),
                "model.backbone.stage_strides",
                "must begin with 1, as published, with model.backbone.weights",
                backbone.stage_strides,
            )
        return self


def as_pair(stride: int | tuple[int, int]) -> tuple[int, int]:
    """A stride as (frames, mel bands)."""
    return (stride, stride) if isinstance(stride, int) else tuple(stride)


def _require(holds: bool, key: str, rule: str, found: object) -> None:
    if not holds:
        raise ValueError(f"{key} {rule}. Received: {found}.")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a recipe; see `load_yaml`."""
    return load_yaml(Config, path, overrides)


def load_yaml(schema: type[Schema], path: str | Path, overrides: Sequence[str] = ()) -> Schema:
    """Reads a YAML file, applies `a.b=value` overrides, and checks the result.

    Args:
        schema: what the file describes; what it leaves out keeps its default.
        path: a YAML file.
        overrides: such as `training.epochs=3`; values are read as YAML.

    Raises:
        ConfigError: with one line that names the file or the key.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The config {path} is not valid YAML: {reason}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"The config {path} must map keys to values. Received: {values!r:.60}.")
    for override in overrides:
        _apply_override(values, override)
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def save_config(config: Config, path: str | Path) -> None:
    """Writes every value, defaults included, as YAML that `load_config` takes."""
    Path(path).write_text(
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )


def differences(old: dict, new: dict, prefix: str = "") -> list[tuple[str, object, object]]:
    """The values of `new` that differ from those of `old`: (dotted key, old, new)."""
    changed = []
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            changed += differences(old[key], value, f"{prefix}{key}.")
        elif old.get(key) != value:
            changed.append((f"{prefix}{key}", old.get(key), value))
    return changed


def _apply_override(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes key.sub=value. Received: {override!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"--set {key}: the value is not valid YAML. Received: {text!r}."
        ) from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no point) as text; people mean the number.
        with contextlib.suppress(ValueError):
            value = float(value)
    *parents, last = key.strip().split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {key}: {parent} is a value, not a section.")
    section[last] = value


def _first_problem(error: pydantic.ValidationError) -> str:
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        text = f"{key} is not a known key."
    elif first["type"] == "value_error":
        text = str(first["ctx"]["error"])
    else:
        text = f"{key}: {first['msg']}. Received: {first['input']!r:.60}."
    more = len(problems) - 1
    return text + (f" (and {more} more)" if more else "")
