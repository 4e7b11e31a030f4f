"""A seed -> a small synthetic rainforest in the Kaggle layout, with complete truth.

It stands in for the real data in the demo and in tests: ten made-up species sing over a noisy
forest, only part of their calls carry a TP row, and FP rows mark look-alikes, as template
matching would. Unlike in the real data, every call is known, so every score can be checked.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.fft
import scipy.signal
import soundfile
from tqdm import tqdm

from rfcx_tf.errors import InputError

VERSION = 1  # of the sounds and labels; a folder made by another version is not reused
PARAMETERS_FILE = "synthetic.json"
BOX_COLUMNS = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
EVENT_COLUMNS = [*BOX_COLUMNS, "split", "snr_db", "labelled"]

SNR_RANGE_DB = (0.0, 20.0)  # a call against the background noise inside its box
LABELLED_FRACTION = 0.75  # of the calls, before the limit per recording
MAX_LABELLED = 2  # TP rows per species and recording
MIMIC_PROBABILITY = 0.3  # per species and recording
BACKGROUND_BOX_PROBABILITY = 0.9  # per species and recording
FP_CLEARANCE_S = 1.0  # silence of the species on either side of its FP boxes
MIN_GAP_S = 0.5  # between two calls of one species


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

MAX_PITCH = 1.12
MIN_SAMPLE_RATE_HZ = 22050
MIN_DURATION_S = 10.0


@dataclass(frozen=True)
class Sound:
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


@dataclass(frozen=True)
class RainforestSummary:
    """What lies in a folder of `make_rainforest`.

    Attributes:
        reused: the folder was there already, made with the same parameters.
        species: one row a species: species_id, name, events, tp_rows, fp_rows (in training),
            test_recordings (in which it calls).
    """

    folder: Path
    reused: bool
    train_recordings: int
    test_recordings: int
    species: pd.DataFrame


def make_rainforest(
    out_dir: str | Path,
    *,
    seed: int = 0,
    train_recordings: int = 64,
    test_recordings: int = 32,
    duration_s: float = 30.0,
    sample_rate_hz: int = 24000,
) -> RainforestSummary:
    """Writes a synthetic data set, all of it or nothing.

    The folder gets train/ and test/ with 16-bit FLAC files, train_tp.csv, train_fp.csv,
    species.csv and sample_submission.csv as on Kaggle; and the truth that Kaggle keeps:
    train_truth.csv and test_truth.csv (recording_id, s0, ... with 1 for a species that calls)
    and truth_events.csv (every call's box, split, snr_db, and whether it is a TP row).
    The same arguments give the same bytes (with the same libraries and kind of CPU). A folder
    that this function made with the same arguments is left as it is.

    Raises:
        InputError: out_dir holds something else or cannot be written; a value is out of range.
    """
    parameters = {
        "version": VERSION,
        "seed": seed,
        "train_recordings": train_recordings,
        "test_recordings": test_recordings,
        "duration_s": float(duration_s),
        "sample_rate_hz": sample_rate_hz,
    }
    for name, lowest in (
        ("seed", 0),
        ("train_recordings", 1),
        ("test_recordings", 1),
        ("duration_s", MIN_DURATION_S),
        ("sample_rate_hz", MIN_SAMPLE_RATE_HZ),
    ):
        # Written so that NaN fails too.
        if not lowest <= parameters[name] < float("inf"):
            raise InputError(f"{name} must be at least {lowest}. Received: {parameters[name]}.")

    folder = Path(out_dir).resolve()
    try:
        reused = _is_made(folder, parameters)
        if not reused:
            _write_atomically(folder, parameters)
        return _summarise(folder, reused)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InputError(f"The data set {folder} cannot be written or read: {error}.") from error


def _is_made(folder: Path, parameters: dict) -> bool:
    """Whether the folder holds what these parameters give; InputError if it is in the way."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    rule = "The output folder must be new, empty, or one made earlier with the same parameters."
    advice = "Give another folder or remove it."
    try:
        found = dict(json.loads((folder / PARAMETERS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{rule} Found something else in {folder}. {advice}") from None
    differing = [name for name in parameters if found.get(name) != parameters[name]]
    if differing:
        was = ", ".join(f"{name}={found.get(name)}" for name in differing)
        raise InputError(f"{rule} {folder} was made with {was}. {advice}")
    return True


def _write_atomically(folder: Path, parameters: dict) -> None:
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        _write(partial, parameters)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(folder: Path, parameters: dict) -> None:
    train_seed, test_seed = np.random.SeedSequence(parameters["seed"]).spawn(2)
    events, absent, _ = _write_split(folder, "train", train_seed, parameters)
    test_events, _, test_truth = _write_split(folder, "test", test_seed, parameters)
    tables = {
        "train_tp": events.loc[events["labelled"] == 1, BOX_COLUMNS],
        "train_fp": absent,
        "truth_events": pd.concat([events, test_events]),
        "sample_submission": (0 * test_truth).reset_index(),
        "species": pd.DataFrame(
            [(k, species.name) for k, species in enumerate(SPECIES)], columns=["species_id", "name"]
        ),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    text = json.dumps(parameters, indent=2) + "\n"
    (folder / PARAMETERS_FILE).write_text(text, encoding="utf-8")


def _write_split(
    folder: Path, split: str, split_seed: np.random.SeedSequence, parameters: dict
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Writes the recordings and the truth table of one split.

    Returns:
        The events as in truth_events.csv, the FP rows (used for training only), and the truth
        with the recordings as index.
    """
    training = split == "train"
    count = parameters[f"{split}_recordings"]
    duration_s, sample_rate_hz = parameters["duration_s"], parameters["sample_rate_hz"]
    plan_seed, sound_seed = split_seed.spawn(2)
    ids, casts = _plan(np.random.default_rng(plan_seed), count, balanced=training)
    (folder / split).mkdir()
    events, absent = [], []
    # One generator a recording: none depends on what the others drew.
    work = zip(ids, casts, sound_seed.spawn(count), strict=True)
    for recording_id, cast, recording_seed in tqdm(work, total=count, desc=split, disable=None):
        rng = np.random.default_rng(recording_seed)
        sounds = compose(rng, cast, duration_s)
        labelled = choose_labelled(rng, sounds) if training else set()
        events += [
            (recording_id, sound.species_id, 1, *sound.box, split, sound.snr_db, int(k in labelled))
            for k, sound in enumerate(sounds)
            if not sound.mimic
        ]
        absent += [
            (recording_id, species_id, 1, *box)
            for species_id, box in absent_boxes(rng, sounds, duration_s)
        ]
        waveform = perform(rng, sounds, duration_s, sample_rate_hz)
        path = folder / split / f"{recording_id}.flac"
        soundfile.write(path, waveform, sample_rate_hz, subtype="PCM_16")
    columns = [f"s{k}" for k in range(len(SPECIES))]
    truth = pd.DataFrame(0, index=pd.Index(ids, name="recording_id"), columns=columns)
    for recording_id, species_id, *_ in events:
        truth.loc[recording_id, f"s{species_id}"] = 1
    truth.to_csv(folder / f"{split}_truth.csv")
    return (
        pd.DataFrame(events, columns=EVENT_COLUMNS),
        pd.DataFrame(absent, columns=BOX_COLUMNS),
        truth,
    )


def _plan(rng: np.random.Generator, count: int, balanced: bool) -> tuple[list[str], list]:
    """Recording ids like Kaggle's (nine hexadecimal digits) and who sings where."""
    ids = [f"{number:09x}" for number in rng.choice(16**9, size=count, replace=False)]
    prevalence = np.array([species.prevalence for species in SPECIES])
    heard = np.zeros(len(SPECIES))
    casts = []
    for _ in range(count):
        if balanced:
            order = np.argsort(heard + rng.random(len(SPECIES)))
        else:  # weighted, without replacement: the first arrivals of a Poisson race
            order = np.argsort(rng.exponential(size=len(SPECIES)) / prevalence)
        cast = order[: rng.integers(2, 5)]
        heard[cast] += 1
        casts.append(cast)
    return ids, casts


def compose(rng: np.random.Generator, cast: Iterable[int], duration_s: float) -> list[Sound]:
    """Places the calls of the species in `cast`, mimics of any species, and insects."""
    mimics = np.flatnonzero(rng.random(len(SPECIES)) < MIMIC_PROBABILITY)
    singers = [(int(k), False) for k in cast] + [(int(k), True) for k in mimics]
    sounds = []
    for species_id, mimic in singers:
        species = SPECIES[species_id]
        pitch, tempo = rng.normal(1.0, (0.035, 0.06))  # this individual's
        own: list[Sound] = []
        for _ in range(rng.integers(1, 4 if mimic else 5)):
            call = (species.mimic if mimic else species.call).sung(
                pitch=np.clip(pitch + rng.normal(0, 0.01), 2 - MAX_PITCH, MAX_PITCH),
                tempo=np.clip(tempo + rng.normal(0, 0.03), 0.8, 1.25),
            )
            t_min = rng.uniform(0.0, duration_s - call.length_s)
            sound = Sound(species_id, mimic, call, t_min, rng.uniform(*SNR_RANGE_DB))
            if all(_apart(sound.box, other, MIN_GAP_S) for other in own):
                own.append(sound)
        sounds += own
    return sounds + [_insect(rng, duration_s) for _ in range(rng.integers(0, 4))]


def choose_labelled(rng: np.random.Generator, sounds: list[Sound]) -> set[int]:
    """Positions of the calls that get a TP row; the others stay in the recording unlabelled."""
    chosen = set()
    for species_id in range(len(SPECIES)):
        own = [k for k, s in enumerate(sounds) if s.species_id == species_id and not s.mimic]
        kept = [k for k in own if rng.random() < LABELLED_FRACTION]
        chosen.update(kept[:MAX_LABELLED])
    return chosen


def absent_boxes(
    rng: np.random.Generator, sounds: list[Sound], duration_s: float
) -> list[tuple[int, tuple[float, float, float, float]]]:
    """FP rows: boxes of a species' usual size on look-alikes and anywhere, free of its calls.

    Returns:
        (species_id, (t_min, f_min, t_max, f_max)) with seconds and Hz.
    """
    rows = []
    for species_id, species in enumerate(SPECIES):
        own = [s for s in sounds if s.species_id == species_id and not s.mimic]
        similar = [
            s for s in sounds if s.species_id == (species_id if s.mimic else species.look_alike)
        ]
        centres_s = [(s.t_min + s.t_max) / 2 for s in similar]
        if rng.random() < BACKGROUND_BOX_PROBABILITY:
            centres_s.append(rng.uniform(0.0, duration_s))
        f_min, f_max = species.call.band_hz
        length_s = species.call.length_s
        for centre_s in centres_s:
            t_min = np.clip(centre_s - length_s / 2, 0.0, duration_s - length_s)
            box = (t_min, f_min, t_min + length_s, f_max)
            if all(_apart(box, call, FP_CLEARANCE_S) for call in own):
                rows.append((species_id, box))
    return rows


def _apart(box: tuple[float, float, float, float], sound: Sound, gap_s: float) -> bool:
    return box[2] + gap_s < sound.t_min or sound.t_max + gap_s < box[0]


def perform(
    rng: np.random.Generator, sounds: list[Sound], duration_s: float, sample_rate_hz: int
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


def _insect(rng: np.random.Generator, duration_s: float) -> Sound:
    """A band of noise through a good part of the recording."""
    length_s = duration_s * rng.uniform(0.15, 0.6)
    pitch_hz = rng.uniform(4500, 10500)
    call = Call(
        ((0.0, length_s, pitch_hz, pitch_hz),),
        pulse_hz=rng.choice([0.0, rng.uniform(0.3, 1.5)]),
        noise_hz=rng.uniform(60, 250),
    )
    return Sound(None, True, call, rng.uniform(0.0, duration_s - length_s), rng.uniform(-2, 7))


def _forest_echo(rng: np.random.Generator, sample_rate_hz: int) -> np.ndarray:
    """Impulse response of what stands around the microphone, without the direct sound."""
    decay_s = rng.uniform(0.04, 0.12)
    time_s = np.arange(0.0, 5 * decay_s, 1 / sample_rate_hz)
    response = rng.standard_normal(len(time_s)) * np.exp(-time_s / decay_s)
    return response / np.linalg.norm(response)


def _summarise(folder: Path, reused: bool) -> RainforestSummary:
    tables = {
        name: pd.read_csv(folder / f"{name}.csv")
        for name in ("species", "train_tp", "train_fp", "truth_events", "train_truth", "test_truth")
    }
    species = tables["species"]
    for column, name in (
        ("events", "truth_events"),
        ("tp_rows", "train_tp"),
        ("fp_rows", "train_fp"),
    ):
        counts = tables[name].groupby("species_id").size()
        species[column] = counts.reindex(species["species_id"], fill_value=0).to_numpy()
    scores = tables["test_truth"].drop(columns="recording_id")
    species["test_recordings"] = scores.sum().to_numpy()
    return RainforestSummary(
        folder=folder,
        reused=reused,
        train_recordings=len(tables["train_truth"]),
        test_recordings=len(tables["test_truth"]),
        species=species,
    )
