"""Boxes, headers and a machine -> the values of a recipe, each with its reason.

The rules are those by which configs/ was chosen, and what docs/recipe.md measured. What they take
from data are the boxes and the headers of recordings, nothing that only a complete truth would say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rfcx_tf.check.facts import Facts
from rfcx_tf.check.speed import Machine
from rfcx_tf.core.errors import UserError

# A call's highest frequency lies so far below half the sample rate.
_HEADROOM = 1.1
# Fewer samples a second save nothing that matters.
_LOWEST_RATE_HZ = 8000
# Seconds of a frame, and from one to the next without a GPU and with one; less for short calls.
_WINDOW_S, _FRAME_S = 0.04, {False: 0.0213, True: 0.0107}
_FRAMES_A_CALL = 8
# A crop is so many times as long as the mean call of nine species in ten.
_CROP_TIMES, _LONGEST_CROP_S = 1.2, 10.0
_FEWEST_CELLS, _STRIDE = 4, 16
# Calls are narrow if the usual band of the middle species is less than this part of the mel scale.
_NARROW = 1 / 3
# A window so many times as long as the shortest call is too long for it.
_ONE_WINDOW = 6
# Examples for every TP row: more where the sound itself is changed from draw to draw.
_EXAMPLES_A_ROW = {"pcen": 150, "log": 300}
_FEWEST_EXAMPLES, _MOST_EXAMPLES = 20_000, 400_000
_EPOCHS, _FEWEST_STEPS, BATCH = 48, 20, 64
# TP rows from which a deeper network is proposed: without a GPU and narrow calls, with a GPU.
_SOME_ROWS, _MANY_ROWS = 400, 1000


class Choice(NamedTuple):
    """A value of a recipe, by its dotted key, and why."""

    key: str
    value: object
    reason: str


def choose_values(facts: Facts, machine: Machine) -> list[Choice]:
    """The values that fit a data folder and a machine, defaults among them.

    All boxes count, those of recordings that are not here too.

    Raises:
        UserError: if there is no TP row, or no recording can be opened.
    """
    if not facts.rows["present"].any():
        raise UserError("A recipe is proposed by TP rows. There are none.")
    species = facts.species[facts.species["tp"] > 0]
    sound = _Sound.of(facts)
    choices = _frontend(sound, species, machine)
    choices += _crops(choices, sound, species)
    choices += _examples(choices, species)
    choices += _network(choices, species, facts.rows, machine)
    return choices + _training(choices, species, facts.rows, machine)


class _Sound(NamedTuple):
    """The most common sample rate of the annotated recordings, and what calls there are."""

    file_rate_hz: int
    rate_hz: int
    low_hz: float
    high_hz: float
    median_s: float

    @classmethod
    def of(cls, facts: Facts) -> _Sound:
        tp = facts.rows[facts.rows["present"]]
        rates_hz = facts.sounds[facts.sounds["recording_id"].isin(set(tp["recording_id"]))]
        rates_hz = rates_hz if len(rates_hz) else facts.sounds
        if rates_hz.empty:
            raise UserError("A recipe needs recordings that can be opened. There are none.")
        file_rate_hz = int(rates_hz["rate_hz"].mode().max())
        high_hz = min(float(tp["f_max"].quantile(0.99)), file_rate_hz / 2)
        # Whole parts of the files' own rate: nothing is resampled for little.
        part = max(1, math.floor(file_rate_hz / (2 * _HEADROOM * high_hz)))
        while file_rate_hz % part or (part > 1 and file_rate_hz // part < _LOWEST_RATE_HZ):
            part -= 1
        return cls(
            file_rate_hz,
            file_rate_hz // part,
            float(tp["f_min"].quantile(0.01)),
            high_hz,
            float(facts.sounds["duration_s"].median()),
        )


def _frontend(sound: _Sound, species: pd.DataFrame, machine: Machine) -> list[Choice]:
    shortest_s = float(species["mean_s"].min())
    frame_s = min(_FRAME_S[machine.has_gpu], shortest_s / _FRAMES_A_CALL)
    window_s = min(_WINDOW_S, 4 * frame_s)
    n_fft = 2 ** math.ceil(math.log2(window_s * sound.rate_hz))
    hop = min(n_fft, 2 ** round(math.log2(frame_s * sound.rate_hz)))
    low_hz = 10 * round(0.8 * sound.low_hz / 10)
    top_hz = sound.rate_hz / 2
    bands, why_bands = 128, "As a GPU has the time for them."
    if not machine.has_gpu:
        bands = 64
        why_bands = "With twice the examples no worse than 128 in the same time (docs/recipe.md)."

    def are_filled(highest_hz: float) -> bool:
        """Whether no band is narrower than the distance of two frequencies of a frame."""
        width_hz = (_mel(highest_hz) - _mel(low_hz)) / bands / _mel(1)
        return width_hz > sound.rate_hz / n_fft

    high_hz = 500 * round(_HEADROOM * sound.high_hz / 500)
    spares = 1 - (_mel(high_hz) - _mel(low_hz)) / (_mel(top_hz) - _mel(low_hz))
    if high_hz >= top_hz or spares < 0.1 or not are_filled(high_hz):
        high_hz = None
    of_top = top_hz if high_hz is None else high_hz
    if bands > 64 and not are_filled(of_top):
        bands, why_bands = 64, "With more bands the lowest would be empty at this window."
    rate = (
        f"The boxes end at {sound.high_hz:.0f} Hz (99 % of them) and the recordings have "
        f"{sound.file_rate_hz} Hz"
    )
    rate += (
        f": 1 of {sound.file_rate_hz // sound.rate_hz} samples holds that."
        if sound.rate_hz != sound.file_rate_hz
        else ", which are kept."
    )
    narrow = _narrow(species, of_top)
    share = f"{np.median(_band_share(species, of_top)):.0%} of the mel scale in the middle species"
    compression = (
        "pcen",
        f"Calls are narrow ({share}): PCEN levels out the steady noise that they stand in.",
    )
    if not narrow:
        compression = (
            "log",
            f"Sounds are broad ({share}), as rain and engines are, which PCEN removes: log-mel was "
            "0.05 better on such (docs/recipe.md).",
        )
    frames = (
        f"Frames of {1000 * n_fft / sound.rate_hz:.0f} ms, one every "
        f"{1000 * hop / sound.rate_hz:.1f} ms: the shortest mean call lasts "
        f"{shortest_s:.2f} s."
    )
    return [
        Choice("frontend.sample_rate_hz", sound.rate_hz, rate),
        Choice("frontend.n_fft", n_fft, frames),
        Choice("frontend.win_length", n_fft, frames),
        Choice("frontend.hop_length", hop, frames),
        Choice("frontend.n_mels", bands, why_bands),
        Choice(
            "frontend.f_min_hz", low_hz, f"A fifth below the lowest boxes ({sound.low_hz:.0f} Hz)."
        ),
        Choice(
            "frontend.f_max_hz",
            high_hz,
            f"A tenth above the highest boxes ({sound.high_hz:.0f} Hz): the bands above would be "
            f"{spares:.0%} of all.",
        ),
        Choice("frontend.compression", *compression),
    ]


def _crops(choices: Sequence[Choice], sound: _Sound, species: pd.DataFrame) -> list[Choice]:
    values = _values(choices)
    cell_s = _STRIDE * values["frontend.hop_length"] / sound.rate_hz
    usual_s = float(species["mean_s"].quantile(0.9))
    wanted_s = min(_CROP_TIMES * usual_s, _LONGEST_CROP_S)
    cells = max(_FEWEST_CELLS, round(wanted_s / cell_s))
    why = (
        f"{cells} cells of {cell_s:.3f} s: 1.2 times the mean call of nine species in ten "
        f"({usual_s:.2f} s)."
    )
    if cells * cell_s > sound.median_s > _FEWEST_CELLS * cell_s:
        cells = math.floor(sound.median_s / cell_s)
        why = f"{cells} cells of {cell_s:.3f} s: the recordings themselves are no longer."
    crop_s = round(cells * cell_s, 3)
    shift_s = _shift_s(crop_s)
    # Half a crop, or what a shift and a stretch by a tenth take (core/config/recipe.py).
    least_s = (1.1 * (crop_s + 2 * shift_s) - crop_s) / 2
    margin_s = math.ceil(10 * max(crop_s / 2, least_s)) / 10
    return [
        Choice("crops.crop_s", crop_s, why),
        Choice("crops.margin_s", margin_s, "Half a crop: room for shifts and for slower sound."),
    ]


def _values(choices: Sequence[Choice]) -> dict[str, object]:
    """Values by key."""
    return {choice.key: choice.value for choice in choices}


def _shift_s(crop_s: float) -> float:
    return min(1.0, round(0.4 * crop_s, 1))


def _examples(choices: Sequence[Choice], species: pd.DataFrame) -> list[Choice]:
    values = _values(choices)
    bands = values["frontend.n_mels"]
    found = [
        Choice(
            "dataset.tp_fraction",
            0.75 if species["fp"].sum() else 0.5,
            "With half FP examples it was no better than with a quarter (docs/recipe.md).",
        ),
        Choice(
            "augment.tp_shift_s",
            _shift_s(values["crops.crop_s"]),
            "A sliding window meets calls off its centre, and cut in two.",
        ),
    ]
    alike = _alike(species)
    if alike and values["frontend.compression"] == "pcen":
        found.append(
            Choice(
                "augment.fp_flip",
                0.0,
                f"{alike[0]} and {alike[1]} have one band and one length: they may be each other's "
                "calls backwards.",
            )
        )
    if values["frontend.compression"] == "log":
        power = "Sounds added as power, as in air: 0.04 better than none (docs/recipe.md)."
        found += [
            Choice("augment.tp_mixup", 1.0, power),
            Choice("augment.mixup_alpha", 1.0, power),
            Choice("augment.mixup_domain", "power", power),
        ]
    long = "Changes of the sound itself pay on a long schedule (docs/recipe.md)."
    if values["frontend.compression"] == "log":
        found.append(Choice("augment.equalizer_sd", 0.3, long))
    return [
        *found,
        Choice("augment.band_shift", max(1, bands // 64), long),
        Choice("augment.stretch", 0.1, long),
        Choice("augment.frequency_masks", 2, "Stripes of a tenth of the bands, beside the box."),
        Choice(
            "augment.frequency_mask_bands",
            max(1, bands // 10),
            "Stripes of a tenth of the bands, beside the box.",
        ),
    ]


def _network(
    choices: Sequence[Choice], species: pd.DataFrame, rows: pd.DataFrame, machine: Machine
) -> list[Choice]:
    values = _values(choices)
    tp = int(rows["present"].sum())
    is_narrow = values["frontend.compression"] == "pcen"
    if machine.has_gpu:
        found = [
            Choice(
                "model.backbone.name",
                "resnet34" if tp >= _MANY_ROWS else "resnet18",
                f"{tp} TP rows: on 651 ResNet34 was no better than ResNet18 (docs/recipe.md).",
            )
        ]
    elif is_narrow and tp < _SOME_ROWS:
        slim = f"{tp} TP rows of narrow calls: as configs/demo.yaml, 0.97 with 281 rows."
        found = [
            Choice("model.backbone.name", "resnet10", slim),
            Choice("model.backbone.width", 24, slim),
        ]
    else:
        slim = (
            "Width 32 was 0.05 better than 16; wider costs two to four times the time, of which "
            "more examples make as much (docs/recipe.md)."
        )
        found = [
            Choice("model.backbone.name", "resnet18", slim),
            Choice("model.backbone.width", 32, slim),
        ]
        if not is_narrow:
            half = "Half the cost of [2, 2]: the bands of broad sounds need not be told finely."
            found.append(Choice("model.backbone.stem_stride", [2, 4], half))
    shortest_s, crop_s = float(species["mean_s"].min()), values["crops.crop_s"]
    if crop_s > _ONE_WINDOW * shortest_s:
        found.append(
            Choice(
                "model.head.kind",
                "per_class",
                f"The shortest call lasts {shortest_s:.2f} s, a crop {crop_s:.1f} s: every species "
                "is pooled over its own mean box.",
            )
        )
    as_measured = "As in the recipes that were measured."
    found += [
        Choice("model.head.frequency_pooling", "mean_max", as_measured),
        Choice("model.head.time_pooling", "mean_max", as_measured),
    ]
    if not machine.has_gpu:
        found.append(Choice("model.head.dropout", 0.3, as_measured))
    return [
        *found,
        Choice(
            "loss.unknown_negative_weight",
            0.3,
            "What is not marked is mostly not there: masked out, 0.47 instead of 0.81; at full "
            "weight 0.79 (docs/recipe.md).",
        ),
    ]


def _training(
    choices: Sequence[Choice], species: pd.DataFrame, rows: pd.DataFrame, machine: Machine
) -> list[Choice]:
    values = _values(choices)
    tp = int(rows["present"].sum())
    annotated = rows["recording_id"].nunique()
    a_row = _EXAMPLES_A_ROW["log" if machine.has_gpu else values["frontend.compression"]]
    examples = min(max(a_row * tp, _FEWEST_EXAMPLES), _MOST_EXAMPLES)
    usual = float(species["recordings"].quantile(0.25))
    folds = int(min(5, max(2, math.floor(usual)), annotated))
    steps, epochs = schedule(examples)
    shown = epochs * steps * BATCH
    why = f"{shown:,} examples, {shown / tp:.0f} for every TP row."
    if values["frontend.compression"] == "log":
        why = why[:-1] + "; a quarter of that scored 0.04 lower on fieldmix (docs/recipe.md)."
    found = [
        Choice(
            "training.folds",
            folds,
            f"Three species in four are in {math.floor(usual)} recordings or more: every fold "
            "holds some of each.",
        ),
        Choice("training.epochs", epochs, why),
        Choice("training.steps_per_epoch", steps, why),
    ]
    if not machine.has_gpu:
        found.append(
            Choice(
                "training.learning_rate",
                0.002,
                "Half as much scored 0.02 lower with a slim network (docs/recipe.md).",
            )
        )
    return found


def schedule(examples: float) -> tuple[int, int]:
    """Steps an epoch, and epochs."""
    steps = max(_FEWEST_STEPS, math.floor(examples / _EPOCHS / BATCH))
    return steps, max(1, round(examples / BATCH / steps))


def _mel(hz: float) -> float:
    """Slaney's mel scale, as librosa has it."""
    return hz * 3 / 200 if hz < 1000 else 15 + math.log(hz / 1000) * 27 / math.log(6.4)


def _band_share(species: pd.DataFrame, top_hz: float) -> np.ndarray:
    """What part of the mel scale the usual box of every species covers."""
    return np.array(
        [
            (_mel(min(row.high_hz, top_hz)) - _mel(row.low_hz)) / _mel(top_hz)
            for row in species.itertuples()
        ]
    )


def _narrow(species: pd.DataFrame, top_hz: float) -> bool:
    return bool(np.median(_band_share(species, top_hz)) < _NARROW)


def _alike(species: pd.DataFrame) -> tuple[str, str] | None:
    """Two species whose usual boxes are as good as equal; None where there are none."""
    lines = list(species.itertuples())
    for number, one in enumerate(lines):
        for other in lines[:number]:
            shared = min(one.high_hz, other.high_hz) - max(one.low_hz, other.low_hz)
            union = max(one.high_hz, other.high_hz) - min(one.low_hz, other.low_hz)
            lengths_s = sorted((one.mean_s, other.mean_s))
            if shared > 0.9 * union and lengths_s[0] > 0.85 * lengths_s[1]:
                return other.name, one.name
    return None
