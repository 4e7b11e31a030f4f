"""Boxes, headers and a machine -> the front end of a recipe, each value with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rfcx_tf.check.facts import Facts
from rfcx_tf.check.speed import Machine
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError

# A call's highest frequency lies so far below half the sample rate.
_HEADROOM = 1.1
# Fewer samples a second save nothing that matters.
_LOWEST_RATE_HZ = 8000
# Seconds of a frame, and from one to the next without a GPU and with one; less for short calls.
_WINDOW_S, _FRAME_S = 0.04, {False: 0.0213, True: 0.0107}
_FRAMES_A_CALL = 8
# Calls are narrow if the usual band of the middle species is less than this part of the mel scale.
_NARROW = 1 / 3


class Choice(NamedTuple):
    """A value of a recipe, by its dotted key, and why."""

    key: str
    value: object
    reason: str


def values_of(choices: Sequence[Choice]) -> dict[str, object]:
    """Values by key."""
    return {choice.key: choice.value for choice in choices}


class Sound(NamedTuple):
    """The most common sample rate of the annotated recordings, and what calls there are."""

    file_rate_hz: int
    rate_hz: int
    low_hz: float
    high_hz: float
    median_s: float

    @classmethod
    def of(cls, facts: Facts) -> Sound:
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


def choose_frontend(sound: Sound, species: pd.DataFrame, machine: Machine) -> list[Choice]:
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


def check_hears(start: Config, sound: Sound, species: pd.DataFrame) -> None:
    """Refuses a published network that cannot hear the calls.

    Args:
        start: a recipe with that network's front end.
        sound, species: as for `choose_frontend`.

    Raises:
        UserError: if the recordings have a lower sample rate, or a species calls above its band.
    """
    front, name = start.frontend, start.model.backbone.name
    if sound.file_rate_hz < front.sample_rate_hz:
        raise UserError(
            f"The weights of {name} need recordings at {front.sample_rate_hz} Hz or more. Most "
            f"have {sound.file_rate_hz} Hz. Leave out --weights."
        )
    above = species.loc[middle_hz(species) >= front.f_max_hz, "name"]
    if len(above):
        raise UserError(
            f"The weights of {name} hear up to {front.f_max_hz:.0f} Hz. Above that calls "
            f"{', '.join(above)}. Leave out --weights."
        )


def middle_hz(species: pd.DataFrame) -> pd.Series:
    """The middle of every species' usual box; NaN where it has none."""
    return (species["low_hz"] + species["high_hz"]) / 2


def published_frontend(start: Config) -> list[Choice]:
    """The front end of a published network, as a recipe for it has it."""
    reason = f"The front end of {start.model.backbone.name}, by which its weights were learned."
    return [Choice(f"frontend.{key}", value, reason) for key, value in start.frontend]


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
