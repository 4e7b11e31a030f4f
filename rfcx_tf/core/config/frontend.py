"""Sound to spectrogram: the section `frontend`, part of the fingerprint of shards."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from rfcx_tf.core.config.section import (
    ConfigSection,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
)

# To be raised by whoever changes what the front end computes.
FRONTEND_VERSION = 1
# Every compression of the mel spectrogram, and what its channels hold
# (`rfcx_tf.frontend.frontend.CHANNELS` computes them).
COMPRESSIONS = {"pcen": ("pcen",), "log": ("log",), "pcen_log": ("pcen", "log")}

# Settings that shards of earlier versions do not name. With their defaults a front end is theirs.
_ADDED_LATER = ("mel_scale", "log_offset")


class PcenConfig(ConfigSection):
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


class FrontEndConfig(ConfigSection):
    """Waveform to compressed mel spectrogram. All of it is part of the shards' fingerprint.

    Attributes:
        sample_rate_hz: rate to which every recording is resampled.
        f_max_hz: upper edge of the highest mel band; None means half the sample rate.
        magnitude_power: 1 for a magnitude spectrogram, 2 for power.
        mel_scale: `slaney`, bands of equal area as librosa's; or `htk`, bands of equal height on
            HTK's scale as TensorFlow's `linear_to_mel_weight_matrix`, which YAMNet hears.
        compression: `pcen`, `log` for ln(log_offset + mel), or `pcen_log` for both as two channels.
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
    mel_scale: Literal["slaney", "htk"] = "slaney"
    compression: Literal[tuple(COMPRESSIONS)] = "pcen"
    log_offset: PositiveFloat = 1e-6
    input_scale: PositiveFloat = 2.0**31
    pcen: PcenConfig = PcenConfig()

    @property
    def channels(self) -> int:
        """Values that every frame has for every mel band."""
        return len(COMPRESSIONS[self.compression])

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
        values = self.model_dump(mode="json")
        for key in _ADDED_LATER:
            if values[key] == type(self).model_fields[key].default:
                del values[key]
        text = json.dumps([FRONTEND_VERSION, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def frames(self, seconds: float) -> int:
        """Number of frames nearest to a duration in seconds."""
        return round(seconds / self.frame_s)

    @pydantic.model_validator(mode="after")
    def _rules(self) -> FrontEndConfig:
        nyquist_hz = self.sample_rate_hz / 2
        top_hz = nyquist_hz if self.f_max_hz is None else self.f_max_hz
        self.require(
            self.win_length <= self.n_fft,
            f"win_length must not exceed frontend.n_fft ({self.n_fft})",
        )
        self.require(
            self.hop_length <= self.win_length,
            f"hop_length must not exceed frontend.win_length ({self.win_length}), or sound is "
            "skipped",
        )
        self.require(
            top_hz <= nyquist_hz,
            f"f_max_hz must not exceed half the sample rate ({nyquist_hz:g})",
        )
        self.require(self.f_min_hz < top_hz, f"f_min_hz must lie below the upper edge ({top_hz:g})")
        return self
