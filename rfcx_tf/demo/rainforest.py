"""A seed -> a small synthetic rainforest in the Kaggle layout, with complete truth.

It stands in for the real data in the demo and in tests: ten made-up species sing over a noisy
forest, only part of their calls carry a TP row, and FP rows mark look-alikes, as template
matching would. Unlike in the real data, every call is known, so every score can be checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from rfcx_tf.core.documents import read_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import remove_stale, temporary_folder
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.demo.sounds import (
    MAX_PITCH,
    MIN_SAMPLE_RATE_HZ,
    SNR_RANGE_DB,
    SPECIES,
    PlacedCall,
    insect,
    perform,
)

VERSION = 1  # of the sounds and labels; a folder made by another version is not reused
PARAMETERS_FILE = "synthetic.json"
BOX_COLUMNS = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
# Of the parameters.
LOWEST = {
    "seed": 0,
    "train_recordings": 1,
    "test_recordings": 1,
    "duration_s": 10.0,
    "sample_rate_hz": MIN_SAMPLE_RATE_HZ,
}

LABELLED_FRACTION = 0.75  # of the calls, before the limit per recording
MAX_LABELLED = 2  # TP rows per species and recording
MIMIC_PROBABILITY = 0.3  # per species and recording
BACKGROUND_BOX_PROBABILITY = 0.9  # per species and recording
FP_CLEARANCE_S = 1.0  # silence of the species on either side of its FP boxes
MIN_GAP_S = 0.5  # between two calls of one species


def make_rainforest(
    out_dir: str | Path,
    *,
    seed: int = 0,
    train_recordings: int = 64,
    test_recordings: int = 32,
    duration_s: float = 30.0,
    sample_rate_hz: int = 24000,
) -> bool:
    """Writes a synthetic data set, all of it or nothing.

    The folder gets train/ and test/ with 16-bit FLAC files, train_tp.csv, train_fp.csv,
    species.csv and sample_submission.csv as on Kaggle; and the truth that Kaggle keeps:
    train_truth.csv and test_truth.csv (recording_id, s0, ... with 1 for a species that calls)
    and truth_events.csv (every call's box, split, snr_db, and whether it is a TP row).
    The same arguments give the same bytes (with the same libraries and kind of CPU). A folder
    that this function made with the same arguments is left as it is.

    Returns:
        Whether the folder is new.

    Raises:
        UserError: out_dir holds something else or cannot be written; a value is out of range.
    """
    parameters = {
        "version": VERSION,
        "seed": seed,
        "train_recordings": train_recordings,
        "test_recordings": test_recordings,
        "duration_s": float(duration_s),
        "sample_rate_hz": sample_rate_hz,
    }
    for name, lowest in LOWEST.items():
        # Written so that NaN fails too.
        if not lowest <= parameters[name] < float("inf"):
            raise UserError(f"{name} must be at least {lowest}. Received: {parameters[name]}.")
    folder = Path(out_dir).resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Also beside a folder that is whole: its process may have been killed just after that.
        remove_stale(folder.parent.iterdir())
        if _is_made(folder, parameters):
            return False
        with temporary_folder(folder.parent) as workspace:
            partial = workspace / folder.name
            partial.mkdir()
            _write(partial, parameters)
            partial.rename(folder)
        return True
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"The data set {folder} cannot be written: {error}.") from error


def species_counts(folder: Path) -> pd.DataFrame:
    """One row a species of such a folder.

    Its columns are species_id, name, events, tp_rows, fp_rows (in training), and test_recordings
    (in which it calls).
    """
    species = pd.read_csv(folder / "species.csv")
    tables = {"events": "truth_events", "tp_rows": "train_tp", "fp_rows": "train_fp"}
    for column, name in tables.items():
        counts = pd.read_csv(folder / f"{name}.csv")["species_id"].value_counts()
        species[column] = counts.reindex(species["species_id"], fill_value=0).to_numpy()
    truth = pd.read_csv(folder / "test_truth.csv", index_col="recording_id")
    species["test_recordings"] = truth.sum().to_numpy()
    return species


def _is_made(folder: Path, parameters: dict) -> bool:
    """Whether the folder holds what these parameters give; UserError if it is in the way."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    rule = "The output folder must be new, empty, or one made earlier with the same parameters."
    advice = "Give another folder."
    try:
        found = read_json(folder / PARAMETERS_FILE, "The list of parameters")
    except (OSError, ValueError):
        raise UserError(f"{rule} Found something else in {folder}. {advice}") from None
    differing = [name for name in parameters if found.get(name) != parameters[name]]
    if differing:
        was = ", ".join(f"{name}={found.get(name)}" for name in differing)
        raise UserError(f"{rule} {folder} was made with {was}. {advice}")
    return True


def _write(folder: Path, parameters: dict) -> None:
    train_seed, test_seed = np.random.SeedSequence(parameters["seed"]).spawn(2)
    events, absent, train_truth = _write_split(folder, "train", train_seed, parameters)
    test_events, _, test_truth = _write_split(folder, "test", test_seed, parameters)
    tables = {
        "train_tp": events.loc[events["labelled"] == 1, BOX_COLUMNS],
        "train_fp": absent,
        "train_truth": train_truth,
        "test_truth": test_truth,
        "truth_events": pd.concat([events, test_events]),
        "sample_submission": test_truth.assign(**{f"s{k}": 0 for k in range(len(SPECIES))}),
        "species": pd.DataFrame(
            {"species_id": range(len(SPECIES)), "name": [species.name for species in SPECIES]}
        ),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    text = json.dumps(parameters, indent=2) + "\n"
    (folder / PARAMETERS_FILE).write_text(text, encoding="utf-8")


def _write_split(
    folder: Path, split: str, split_seed: np.random.SeedSequence, parameters: dict
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Writes the recordings of one split.

    Returns:
        The events as in truth_events.csv, the FP rows (used for training only), and the truth.
    """
    training = split == "train"
    count = parameters[f"{split}_recordings"]
    duration_s, sample_rate_hz = parameters["duration_s"], parameters["sample_rate_hz"]
    plan_seed, sound_seed = split_seed.spawn(2)
    ids, casts = _plan(np.random.default_rng(plan_seed), count, balanced=training)
    (folder / split).mkdir()
    events, absent, truth = [], [], []
    # One generator a recording: none depends on what the others drew.
    work = zip(ids, casts, sound_seed.spawn(count), strict=True)
    for recording_id, cast, recording_seed in progress_bar(work, total=count, desc=split):
        rng = np.random.default_rng(recording_seed)
        sounds = compose(rng, cast, duration_s)
        labelled = choose_labelled(rng, sounds) if training else set()
        calls = {k: sound for k, sound in enumerate(sounds) if not sound.mimic}
        events += [
            (recording_id, call.species_id, 1, *call.box, split, call.snr_db, int(k in labelled))
            for k, call in calls.items()
        ]
        absent += [
            (recording_id, species_id, 1, *box)
            for species_id, box in absent_boxes(rng, sounds, duration_s)
        ]
        heard = {call.species_id for call in calls.values()}
        truth.append((recording_id, *(int(k in heard) for k in range(len(SPECIES)))))
        waveform = perform(rng, sounds, duration_s, sample_rate_hz)
        path = folder / split / f"{recording_id}.flac"
        soundfile.write(path, waveform, sample_rate_hz, subtype="PCM_16")
    return (
        pd.DataFrame(events, columns=[*BOX_COLUMNS, "split", "snr_db", "labelled"]),
        pd.DataFrame(absent, columns=BOX_COLUMNS),
        pd.DataFrame(truth, columns=["recording_id", *(f"s{k}" for k in range(len(SPECIES)))]),
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


def compose(rng: np.random.Generator, cast: Iterable[int], duration_s: float) -> list[PlacedCall]:
    """Places the calls of the species in `cast`, mimics of any species, and insects."""
    mimics = np.flatnonzero(rng.random(len(SPECIES)) < MIMIC_PROBABILITY)
    singers = [(int(k), False) for k in cast] + [(int(k), True) for k in mimics]
    sounds = []
    for species_id, mimic in singers:
        species = SPECIES[species_id]
        pitch, tempo = rng.normal(1.0, (0.035, 0.06))  # this individual's
        own: list[PlacedCall] = []
        for _ in range(rng.integers(1, 4 if mimic else 5)):
            call = (species.mimic if mimic else species.call).sung(
                pitch=np.clip(pitch + rng.normal(0, 0.01), 2 - MAX_PITCH, MAX_PITCH),
                tempo=np.clip(tempo + rng.normal(0, 0.03), 0.8, 1.25),
            )
            t_min = rng.uniform(0.0, duration_s - call.length_s)
            sound = PlacedCall(species_id, mimic, call, t_min, rng.uniform(*SNR_RANGE_DB))
            if all(_apart(sound.box, other, MIN_GAP_S) for other in own):
                own.append(sound)
        sounds += own
    return sounds + [insect(rng, duration_s) for _ in range(rng.integers(0, 4))]


def choose_labelled(rng: np.random.Generator, sounds: list[PlacedCall]) -> set[int]:
    """Positions of the calls that get a TP row; the others stay in the recording unlabelled."""
    chosen = set()
    for species_id in range(len(SPECIES)):
        own = [k for k, s in enumerate(sounds) if s.species_id == species_id and not s.mimic]
        kept = [k for k in own if rng.random() < LABELLED_FRACTION]
        chosen.update(kept[:MAX_LABELLED])
    return chosen


def absent_boxes(
    rng: np.random.Generator, sounds: list[PlacedCall], duration_s: float
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


def _apart(box: tuple[float, float, float, float], sound: PlacedCall, gap_s: float) -> bool:
    return box[2] + gap_s < sound.t_min or sound.t_max + gap_s < box[0]
