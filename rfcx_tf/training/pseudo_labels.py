"""Rounds of pseudo-labels: teachers label windows, a student learns from them, and teaches.

A round has two steps. Teachers give every window of every recording a probability for every
class, and a folder of shards takes the windows that teach something (`rfcx_tf.data.pseudo_crops`).
Then the recipe is trained on the annotated rows and on these.

    OUT/round1/labels    pseudo-labelled shards; windows/RECORDING.npy, all probabilities
    OUT/round1/run       the student, an ordinary run
    OUT/round2/...       taught by the student of round 1
    OUT/rounds.csv       a row a round

A recording with a fold is labelled by the teachers' detectors of that fold, which never saw its
annotations; others by all detectors. With a single fold to train, that fold's detectors label
everything: then no label comes from a network that saw what the student is tested on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import rfcx_tf
from rfcx_tf.config import Config
from rfcx_tf.data.audio import AudioError, AudioSource, read_audio
from rfcx_tf.data.pseudo_crops import choose_windows, cut_windows, window_starts
from rfcx_tf.data.recording_transform import RecordingTransform
from rfcx_tf.data.records import KINDS, NO_FOLD, SCHEMA_VERSION, Crop, Manifest, ShardReader
from rfcx_tf.data.shard_plans import (
    finish_plans,
    open_plan,
    plan_shards,
    shard_sizes,
    write_plans,
)
from rfcx_tf.errors import InputError
from rfcx_tf.files import atomic_file
from rfcx_tf.inference.evaluation import evaluate_scores
from rfcx_tf.inference.tables import read_scores
from rfcx_tf.listener.run_folder import ListenerRun
from rfcx_tf.run_folder import RunFolder
from rfcx_tf.training.recording_monitor import masked_lwlrap, recording_labels
from rfcx_tf.training.run import check_folds, check_shards_fit, train_run
from rfcx_tf.training.teachers import Teachers


def label_windows(
    teachers: Teachers,
    reader: ShardReader,
    config: Config,
    out_dir: Path,
    *,
    extra: dict[str, AudioSource],
    data_dir: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Writes a folder of pseudo-labelled shards; a folder that is begun is completed.

    Args:
        teachers: label.
        reader: the annotated shards: recordings, folds, rows and classes.
        config: of the student: its front end makes the spectrograms.
        out_dir: folder of the shards.
        extra: recordings without annotations, in no fold, by recording id.
        data_dir: where the annotated recordings are, if not where the shards were made from.
        workers: recordings that are worked on at once; None: one a core.
        progress: whether to show a progress bar.

    Returns:
        The manifest; its `skipped` names recordings that could not be read.

    Raises:
        InputError: as `open_plan` and `write_plans`.
    """
    manifest = reader.manifest
    sources = {**extra}
    fold_of = dict.fromkeys(extra, NO_FOLD)
    for fold in range(manifest.folds):
        own = manifest.audio_sources(fold, data_dir)
        sources |= own
        fold_of |= dict.fromkeys(own, fold)
    plans = plan_shards(sources, fold_of, config.crops.recordings_per_shard)
    plan_id = _plan_id(teachers, manifest, config, sorted(extra))
    finished = open_plan(out_dir, plan_id)
    if finished is not None:
        return finished
    teachers.load(fold_of.values(), manifest.shards_id)
    transform = RecordingTransform(config)
    boxes = reader.index[reader.index["kind"].isin(["tp", "fp"])]
    boxes_of = {str(name): rows for name, rows in boxes.groupby("recording_id")}
    species_ids = [c.species_id for c in manifest.classes]
    stored_frames = config.crop_frames + 2 * config.margin_frames

    def cut(recording_id: str) -> tuple[list[Crop], list[str]]:
        source, fold = sources[recording_id], fold_of[recording_id]
        try:
            waveform = read_audio(source, config.frontend.sample_rate_hz)
            missing = stored_frames * config.frontend.hop_length - len(waveform)
            spectrogram = transform(np.pad(waveform, (0, max(0, missing)))).astype(np.float16)
            starts = window_starts(len(spectrogram), config)
            centres_s = (starts + config.crop_frames / 2) * config.frontend.frame_s
            probability = teachers.probability(recording_id, source, fold, centres_s)
        except AudioError as error:
            return [], [str(error)]
        with atomic_file(_windows_path(out_dir, recording_id)) as temporary:
            np.save(temporary, probability.astype(np.float16))
        kept = choose_windows(probability, recording_id, config)
        rows = boxes_of.get(recording_id, boxes.iloc[:0])
        crops = cut_windows(
            spectrogram,
            probability[kept],
            starts[kept],
            rows,
            recording_id,
            fold,
            species_ids,
            config,
        )
        return crops, []

    index, skipped = write_plans(plans, cut, out_dir, workers=workers, progress=progress)
    labelled = replace(
        manifest,
        shards_id=plan_id,
        shards=shard_sizes(plans, out_dir),
        counts={kind: int((index["kind"] == kind).sum()) for kind in KINDS},
        recordings={
            name: {
                # Relative paths only help where all lie in one folder.
                "path": str(Path(source.path).resolve()),
                "offset": source.offset,
                "length": source.length,
                "fold": fold_of[name],
            }
            for name, source in sources.items()
        },
        skipped=skipped,
        code_version=rfcx_tf.__version__,
    )
    finish_plans(plans, labelled, out_dir)
    return labelled


def _plan_id(teachers: Teachers, manifest: Manifest, config: Config, extra: list[str]) -> str:
    """Identifies the labels, so that those of other teachers or bounds never share a folder."""
    labelling = config.pseudo.model_dump(exclude={"fraction", "weight", "balance_classes", "mixup"})
    parts = [
        str(SCHEMA_VERSION),
        manifest.shards_id,
        config.frontend.fingerprint,
        config.crops.model_dump_json(),
        str(labelling),
        str(config.seed),
        str(extra),
        teachers.fingerprint,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _windows_path(labels_dir: Path, recording_id: str) -> Path:
    return labels_dir / "windows" / f"{recording_id}.npy"


@dataclass(frozen=True)
class Round:
    """One finished round.

    Attributes:
        number: from 1.
        left_out: recordings that could not be read.
        windows, crops: labelled windows, and those of them that became crops.
        present: mean number of classes a window that the teachers call present.
        agreement: of the (window, class) pairs that this round's or the last round's teachers
            call present, the share that both do; NaN in the first round.
        masked_lwlrap: LWLRAP of the student's held-out recordings among the classes that are
            annotated; what decides whether another round follows.
        lwlrap: by the complete truth; NaN without. It decides nothing.
    """

    number: int
    left_out: int
    windows: int
    crops: int
    present: float
    agreement: float
    masked_lwlrap: float
    lwlrap: float


def run_rounds(
    config: Config,
    tfrecords: Path,
    teachers: Sequence,
    out_dir: Path,
    *,
    rounds: int,
    folds: list[int],
    keep: Sequence[RunFolder | ListenerRun] = (),
    weights: Sequence[float] | None = None,
    extra: dict[str, AudioSource] | None = None,
    warm: bool = False,
    tolerance: float = 0.005,
    truth: pd.DataFrame | None = None,
    data_dir: Path | None = None,
    verbose: bool = True,
    report: Callable[[str], None] = print,
) -> list[Round]:
    """Labels and trains, round by round; what is finished is not done again.

    Args:
        config: the student's recipe.
        tfrecords: annotated shards.
        teachers: runs that teach the first round; later ones have the last student instead.
        out_dir: for all rounds.
        rounds: at most so many.
        folds: that are trained. A single one is taught by its own fold's detectors alone.
        keep: runs that teach in every round beside them, such as a listener.
        weights: of the first round's teachers and of those kept, with sum 1; None for equal ones,
            as later rounds have them.
        extra: recordings without annotations, by recording id.
        warm: every fold begins with the last student's weights, in the first round with those
            of the first teacher that is no listener, not anew.
        tolerance: rounds end when `masked_lwlrap` falls by more than this below the best yet,
            the first teachers' included.
        truth: recording_id and s<id> columns, complete; for the report only.
        data_dir: where the annotated recordings are, if they moved.
        verbose: show progress.
        report: takes a line at a time.

    Returns:
        The rounds, finished earlier or now.

    Raises:
        InputError: if shards, teachers and recipe do not go together.
    """
    reader = ShardReader(tfrecords)
    check_shards_fit(reader.manifest, config, Path(tfrecords))
    if config.window_cells * config.model.backbone.stride[0] < config.crop_frames:
        raise InputError(
            "Pseudo-labels are those of windows as long as crops. Received: model.head.window_s "
            f"{config.model.head.window_s:g}, crops.crop_s {config.crops.crop_s:g}. Leave "
            "model.head.window_s out."
        )
    only_fold = folds[0] if len(folds) == 1 else None
    all_folds = reader.manifest.folds
    if only_fold is None and len(folds) < all_folds:
        raise InputError(
            f"Rounds train one fold or all {all_folds}: students of some folds could not teach "
            f"the others. Received: {', '.join(map(str, folds))}."
        )
    check_folds(reader.manifest, folds, data_dir)
    teachers = [*teachers, *keep]
    Teachers(teachers, weights, only_fold).check_folds(reader.manifest.folds)
    start = _warm_start(teachers) if warm else None
    best, true = _evaluate(teachers, weights, reader, folds, truth)
    report(f"Teachers: {_format(best, true)}.")
    finished: list[Round] = []
    for number in range(1, rounds + 1):
        labels_dir = out_dir / f"round{number}" / "labels"
        student_dir = out_dir / f"round{number}" / "run"
        group = Teachers(teachers, weights, only_fold)
        manifest = label_windows(
            group,
            reader,
            config,
            labels_dir,
            extra=extra or {},
            data_dir=data_dir,
            progress=verbose,
        )
        for text in manifest.skipped:
            report(f"Left out: {text}")
        train_run(
            config,
            tfrecords,
            student_dir,
            folds,
            pseudo=labels_dir,
            start=start,
            data_dir=data_dir,
            verbose=verbose,
            report=report,
        )
        student = RunFolder.open(student_dir)
        masked, true = _evaluate([student], None, reader, folds, truth)
        labels = _describe_labels(out_dir, number, config)
        finished.append(Round(number, len(manifest.skipped), *labels, masked, true))
        _write_rounds(finished, out_dir)
        report(
            f"Round {number}: {_format(masked, true)}; agreement with the labels of the round "
            f"before {finished[-1].agreement:.3f}."
        )
        if masked < best - tolerance:
            report(f"Stopped: round {number} is worse than what was before it.")
            break
        best = max(best, masked)
        start = student_dir if warm else None
        teachers, weights = [student, *keep], None
    return finished


def _warm_start(teachers: Sequence[RunFolder | ListenerRun]) -> Path:
    """The first teacher that has weights to begin with."""
    own = [run.path for run in teachers if isinstance(run, RunFolder)]
    if not own:
        raise InputError(
            "A warm start needs a teacher with the student's network. All teachers are "
            f"listeners: {', '.join(str(run.path) for run in teachers)}. Leave out --warm."
        )
    return own[0]


def _evaluate(
    runs: Sequence,
    weights: Sequence[float] | None,
    reader: ShardReader,
    folds: list[int],
    truth: pd.DataFrame | None,
) -> tuple[float, float]:
    """Masked LWLRAP and LWLRAP of what the folds of runs held out, averaged over the runs."""
    tables = [read_scores(run.path / "oof_scores.csv").set_index("recording_id") for run in runs]
    held_out = {name for fold in folds for name in reader.manifest.audio_sources(fold)}
    names = [n for n in tables[0].index if n in held_out and all(n in t.index for t in tables)]
    species_ids = [c.species_id for c in reader.manifest.classes]
    columns = [f"s{number}" for number in species_ids]
    scores = np.average([table.loc[names, columns] for table in tables], axis=0, weights=weights)
    present, known = recording_labels(reader.index, names, species_ids)
    masked = masked_lwlrap(present, known, scores)
    if truth is None:
        return masked, float("nan")
    table = pd.DataFrame(scores, columns=columns)
    table.insert(0, "recording_id", names)
    return masked, evaluate_scores(table, truth[truth["recording_id"].isin(names)]).lwlrap


def _format(masked: float, true: float) -> str:
    by_truth = "" if np.isnan(true) else f", by the complete truth {true:.4f}"
    return f"out-of-fold LWLRAP among annotated classes {masked:.4f}{by_truth}"


def _describe_labels(out_dir: Path, number: int, config: Config) -> tuple[int, int, float, float]:
    """Windows, crops, classes present a window, and agreement with the round before."""
    here, before = (out_dir / f"round{n}" / "labels" for n in (number, number - 1))
    crops = len(ShardReader(here).index)
    windows = present = both = either = 0
    for path in sorted((here / "windows").rglob("*.npy")):
        called = np.load(path) >= config.pseudo.present_above
        windows += len(called)
        present += called.sum()
        earlier = before / path.relative_to(here)
        if earlier.exists():
            called_earlier = np.load(earlier) >= config.pseudo.present_above
            both += (called & called_earlier).sum()
            either += (called | called_earlier).sum()
    agreement = both / either if either else float("nan")
    return windows, crops, present / max(windows, 1), agreement


def _write_rounds(rounds: list[Round], out_dir: Path) -> None:
    with atomic_file(out_dir / "rounds.csv") as temporary:
        pd.DataFrame([asdict(one) for one in rounds]).to_csv(temporary, index=False)
