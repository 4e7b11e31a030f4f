"""The sounds of the synthetic rainforest: calls, their look-alikes, insects, rain and distance.

A `Call` is a score of notes; a `PlacedCall` is a call at a time in a recording; `perform` turns the
sounds of a recording into samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
import scipy.signal

SNR_RANGE_DB = (0.0, 20.0)  # a call against the background noise inside its box
MAX_PITCH = 1.12
MIN_SAMPLE_RATE_HZ = 22050


@dataclass(frozen=True)
class Call:
    """A kind of sound.

    Attributes:
        notes: (start_s, length_s, from_hz, to_hz) of every note.
        harmonics: levels of the fundamental, of twice its frequency, and so on.
        pulse_hz: rate at which the level swells from nothing to full; 0 for a steady one.
        noise_hz: half the bandwidth of the noise that replaces a pure tone; 0 for a tone.
    """

    notes: tuple[tuple[float, float, float, float], ...]
    harmonics: tuple[float, ...] = (1.0,)
    pulse_hz: float = 0.0
    noise_hz: float = 0.0

    @property
    def length_s(self) -> float:
        """Seconds from the first note's start to the last one's end."""
        return max(start_s + length_s for start_s, length_s, _, _ in self.notes)

    @property
    def band_hz(self) -> tuple[float, float]:
        """Lowest and highest frequency of a box around the call."""
        pitches = [hz for note in self.notes for hz in note[2:]]
        low_hz = min(pitches) - self.noise_hz
        high_hz = max(pitches) * len(self.harmonics) + self.noise_hz
        return 0.97 * low_hz - 60.0, 1.03 * high_hz + 60.0

    def sung(self, pitch: float, tempo: float) -> Call:
        """The call of an individual that is higher and faster by these factors."""
        notes = [(a / tempo, b / tempo, pitch * c, pitch * d) for a, b, c, d in self.notes]
        return replace(self, notes=tuple(notes), pulse_hz=self.pulse_hz * tempo)


@dataclass(frozen=True)
class Species:
    """A species, and what template matching takes for it.

    Attributes:
        prevalence: relative frequency in the test recordings; in training all are equally
            frequent, so that scores meet a shifted prior as they do in the real data.
        mimic: a sound that resembles the call and belongs to no species.
        look_alike: id of a species with a similar call, if there is one.
    """

    name: str
    prevalence: float
    call: Call
    mimic: Call
    look_alike: int | None = None


def _series(count: int, period_s: float, *note: float) -> tuple[tuple[float, ...], ...]:
    return tuple((k * period_s, *note) for k in range(count))


# Lengths and bands are those of boxes in the real data; the pairs differ only in the order of
# their notes, the direction of their glide, or their tempo.
SPECIES = (
    Species(
        name="rising two-note whistle",
        prevalence=8,
        call=Call(((0.0, 0.28, 1450, 1450), (0.34, 0.30, 2250, 2330))),
        mimic=Call(((0.0, 0.28, 1900, 1900), (0.34, 0.30, 1900, 1900))),
        look_alike=1,
    ),
    Species(
        name="falling two-note whistle",
        prevalence=3,
        call=Call(((0.0, 0.30, 2330, 2250), (0.36, 0.28, 1450, 1450))),
        mimic=Call(((0.0, 0.64, 2330, 1450),)),
        look_alike=0,
    ),
    Species(
        name="upward glide",
        prevalence=3,
        call=Call(((0.0, 0.90, 3850, 5600),)),
        mimic=Call(((0.0, 0.90, 4700, 4700),)),
        look_alike=3,
    ),
    Species(
        name="downward glide",
        prevalence=5,
        call=Call(((0.0, 0.90, 5600, 3850),)),
        mimic=Call(((0.0, 0.40, 5300, 5300), (0.50, 0.40, 4200, 4200))),
        look_alike=2,
    ),
    Species(
        name="fast trill",
        prevalence=2,
        call=Call(_series(22, 0.085, 0.055, 2550, 4000)),
        mimic=Call(_series(22, 0.085, 0.055, 3200, 3200)),
        look_alike=5,
    ),
    Species(
        name="slow chirp series",
        prevalence=4,
        call=Call(_series(8, 0.27, 0.09, 2550, 4000)),
        mimic=Call(_series(8, 0.27, 0.09, 4000, 2550)),
        look_alike=4,
    ),
    Species(
        name="pulsed buzz",
        prevalence=3,
        call=Call(((0.0, 1.10, 7000, 7000),), pulse_hz=11, noise_hz=800),
        mimic=Call(((0.0, 1.10, 7000, 7000),), noise_hz=800),
    ),
    Species(
        name="falling harmonic call",
        prevalence=2,
        call=Call(((0.0, 1.10, 690, 560),), harmonics=(0.7, 1.0, 0.8, 0.6, 0.5, 0.3)),
        mimic=Call(((0.0, 1.10, 560, 690),), harmonics=(0.7, 1.0, 0.8, 0.6, 0.5, 0.3)),
    ),
    Species(
        name="long throbbing tone",
        prevalence=2,
        call=Call(((0.0, 4.30, 8800, 8800),), pulse_hz=4.5),
        mimic=Call(((0.0, 4.30, 8800, 8800),)),
    ),
    Species(
        name="low hoot",
        prevalence=4,
        call=Call(((0.0, 0.69, 430, 340),), harmonics=(1.0, 0.3)),
        mimic=Call(((0.0, 0.27, 430, 340), (0.42, 0.27, 430, 340)), harmonics=(1.0, 0.3)),
    ),
)


@dataclass(frozen=True)
class PlacedCall:
    """What is heard once in a recording.

    Attributes:
        species_id: the species that sings, or that is mimicked; None for an insect.
        mimic: it does not come from that species.
        t_min: start in seconds.
        snr_db: level against the background noise inside the call's box.
    """

    species_id: int | None
    mimic: bool
    call: Call
    t_min: float
    snr_db: float

    @property
    def t_max(self) -> float:
        """End in seconds."""
        return self.t_min + self.call.length_s

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(t_min, f_min, t_max, f_max) in seconds and Hz, in the order of Kaggle's columns."""
        f_min, f_max = self.call.band_hz
        return self.t_min, f_min, self.t_max, f_max


def perform(
    rng: np.random.Generator, sounds: list[PlacedCall], duration_s: float, sample_rate_hz: int
) -> np.ndarray:
    """The recording: every sound at its time and distance, over the background.

    Returns:
        float32 [samples] in [-1, 1].
    """
    samples = round(duration_s * sample_rate_hz)
    recording = background(rng, samples, sample_rate_hz)
    power = 2 * np.abs(scipy.fft.rfft(recording) / samples) ** 2
    echo = _forest_echo(rng, sample_rate_hz)
    for sound in sounds:
        low, high = (round(hz * duration_s) for hz in sound.call.band_hz)
        heard = at_distance(
            render(rng, sound.call, sample_rate_hz),
            near=np.interp(sound.snr_db, SNR_RANGE_DB, (0.0, 1.0)),
            power=power[low:high].sum() * 10 ** (sound.snr_db / 10),
            echo=echo,
            sample_rate_hz=sample_rate_hz,
        )
        first = round(sound.t_min * sample_rate_hz)
        heard = heard[: samples - first]
        recording[first : first + len(heard)] += heard
    recording *= 10 ** (rng.uniform(-46, -34) / 20) / np.std(recording)
    return (recording * min(1.0, 0.9 / np.abs(recording).max())).astype(np.float32)


def at_distance(
    dry: np.ndarray, near: float, power: float, echo: np.ndarray, sample_rate_hz: int
) -> np.ndarray:
    """A sound as it arrives: dulled, at the given power, followed by its echo.

    Args:
        dry: [samples] close by.
        near: 1 for the nearest singer, 0 for the farthest.
        power: mean square of the direct sound when it arrives.
        echo: [samples] impulse response.

    Returns:
        float [samples], longer than the dry sound by the echo.
    """
    # Air and leaves take the high notes first.
    dull = scipy.signal.butter(1, 3000.0 + 7000.0 * near, fs=sample_rate_hz)
    direct = scipy.signal.lfilter(*dull, dry)
    direct *= np.sqrt(power / np.mean(direct**2))
    heard = (0.6 - 0.4 * near) * scipy.signal.oaconvolve(direct, echo)
    heard[: len(direct)] += direct
    return heard


def render(rng: np.random.Generator, call: Call, sample_rate_hz: int) -> np.ndarray:
    """The call close by and dry: float [samples]."""
    spans = [
        (round(start_s * sample_rate_hz), round(length_s * sample_rate_hz))
        for start_s, length_s, _, _ in call.notes
    ]
    waveform = np.zeros(max(first + count for first, count in spans))
    bend = rng.uniform(0.75, 1.3)  # 1 glides evenly; the ends stay where they are
    for (first, count), (_, _, from_hz, to_hz) in zip(spans, call.notes, strict=True):
        frequency_hz = from_hz + (to_hz - from_hz) * np.linspace(0.0, 1.0, count) ** bend
        phase = 2 * np.pi / sample_rate_hz * np.cumsum(frequency_hz)
        tone = sum(level * np.sin((k + 1) * phase) for k, level in enumerate(call.harmonics))
        waveform[first : first + count] += tone * scipy.signal.windows.tukey(count, 0.35)
    if call.noise_hz:
        smooth = scipy.signal.butter(4, call.noise_hz, fs=sample_rate_hz, output="sos")
        waveform *= scipy.signal.sosfilt(smooth, rng.standard_normal(len(waveform)))
    if call.pulse_hz:
        time_s = np.arange(len(waveform)) / sample_rate_hz
        waveform *= 0.5 - 0.5 * np.cos(2 * np.pi * call.pulse_hz * time_s)
    return waveform


def background(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
    """Wind-like coloured noise that comes and goes, in some recordings rain, and clicks.

    Returns:
        float [samples] with a standard deviation near 1.
    """
    frequencies_hz = scipy.fft.rfftfreq(samples, 1 / sample_rate_hz)
    tilt = np.maximum(frequencies_hz, 80.0) ** (-rng.uniform(0.8, 1.6) / 2)
    spectrum = rng.standard_normal(2 * len(tilt), dtype=np.float32).view(np.complex64)
    noise = scipy.fft.irfft(spectrum * tilt.astype(np.float32), samples)
    knots = max(2, round(samples / sample_rate_hz / 3))
    swell = 10 ** (rng.normal(0, 2.0, knots) / 20)
    noise *= np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), swell) / np.std(noise)
    if rng.random() < 0.25:
        noise += 0.8 * _patter(rng, samples, sample_rate_hz, rng.uniform(50, 300), ring_s=0.002)
    return noise + 3 * _patter(rng, samples, sample_rate_hz, rng.uniform(0, 0.4), ring_s=0.004)


def _patter(
    rng: np.random.Generator, samples: int, sample_rate_hz: int, per_s: float, ring_s: float
) -> np.ndarray:
    """Drops or clicks at random times: float [samples], each a burst of noise that dies away."""
    hits = np.zeros(samples, dtype=np.float32)
    count = rng.poisson(per_s * samples / sample_rate_hz)
    hits[rng.integers(0, samples, count)] = rng.lognormal(0.0, 0.6, count)
    decay = np.exp(-1 / (ring_s * sample_rate_hz))
    level = scipy.signal.lfilter(np.float32([1]), np.float32([1, -decay]), hits)
    return level * rng.standard_normal(samples, dtype=np.float32)


def insect(rng: np.random.Generator, duration_s: float) -> PlacedCall:
    """A band of noise through a good part of the recording."""
    length_s = duration_s * rng.uniform(0.15, 0.6)
    pitch_hz = rng.uniform(4500, 10500)
    call = Call(
        ((0.0, length_s, pitch_hz, pitch_hz),),
        pulse_hz=rng.choice([0.0, rng.uniform(0.3, 1.5)]),
        noise_hz=rng.uniform(60, 250),
    )
    return PlacedCall(None, True, call, rng.uniform(0.0, duration_s - length_s), rng.uniform(-2, 7))


def _forest_echo(rng: np.random.Generator, sample_rate_hz: int) -> np.ndarray:
    """Impulse response of what stands around the microphone, without the direct sound."""
    decay_s = rng.uniform(0.04, 0.12)
    time_s = np.arange(0.0, 5 * decay_s, 1 / sample_rate_hz)
    response = rng.standard_normal(len(time_s)) * np.exp(-time_s / decay_s)
    return response / np.linalg.norm(response)
