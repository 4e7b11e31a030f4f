"""Rounds of pseudo-labels: teachers label windows, a student learns from them, and teaches.

    OUT/round1/labels    pseudo-labels (`rfcx_tf.shards.pseudo_folder`)
    OUT/round1/run       the student, an ordinary run
    OUT/round2/...       taught by the student of round 1
    OUT/rounds.csv       a row a round

`rfcx_tf.training.pseudo.labels` says who labels what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.runs.kept import OOF_SCORES, of_run
from rfcx_tf.runs.open import Run
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.score_table import read_scores
from rfcx_tf.shards.pseudo_folder import PseudoLabels, names_with_windows, read_probability
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.checks import check_folds, check_shards_fit, check_start_fits
from rfcx_tf.training.pseudo.labelling_runs import LabellingRuns
from rfcx_tf.training.pseudo.labels import write_pseudo_labels, write_pseudo_labels_per_fold
from rfcx_tf.training.recording_monitor import masked_lwlrap, recording_labels
from rfcx_tf.training.run import train_run


@dataclass(frozen=True)
class Round:
    """One finished round.

    Attributes:
        number: from 1.
        left_out: recordings that could not be read, or not to their ends.
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
    teachers: Sequence[Run],
    out_dir: Path,
    *,
    rounds: int,
    folds: list[int],
    keep: Sequence[Run] = (),
    weights: Sequence[float] | None = None,
    extra: dict[str, AudioSource] | None = None,
    per_fold: bool = False,
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
        folds: that are trained.
        per_fold: each is taught by its own fold's detectors alone; see
            `rfcx_tf.training.pseudo.labels`. A single fold always is.
        keep: runs that teach in every round beside them, such as a listener.
        weights: of the first round's teachers and of those kept, with sum 1; None for equal ones,
            as later rounds have them.
        extra: recordings without annotations, by recording id.
        warm: every fold begins with the last student's weights, in the first round with those
            of the first teacher that is a detector, not anew.
        tolerance: rounds end when `masked_lwlrap` falls by more than this below the best yet,
            the first teachers' included.
        truth: recording_id and s<id> columns, complete; for the report only.
        data_dir: where the annotated recordings are, if they moved.
        verbose: show progress.
        report: takes a line at a time.

    Returns:
        The rounds, finished earlier or now.

    Raises:
        UserError: if shards, teachers and recipe do not go together.
    """
    reader = ShardReader(tfrecords)
    check_shards_fit(reader, config)
    if config.window_cells * config.model.backbone.stride[0] < config.crop_frames:
        raise UserError(
            "Pseudo-labels are those of windows as long as crops. Received: model.head.window_s "
            f"{config.model.head.window_s:g}, crops.crop_s {config.crops.crop_s:g}. Leave "
            "model.head.window_s out."
        )
    all_folds = reader.manifest.folds
    # The labels of a single fold's student come from its own detectors in any case.
    per_fold = per_fold or len(folds) == 1
    if len(folds) < all_folds and not per_fold:
        raise UserError(
            f"Rounds train one fold or all {all_folds}: students of some folds could not teach "
            f"the others. Received: {', '.join(map(str, folds))}. With --per-fold each is taught "
            "by its own."
        )
    check_folds(reader.manifest, folds, data_dir)
    teachers = [*teachers, *keep]
    group = LabellingRuns(teachers, weights)
    group.check_folds(folds, reader.manifest)
    start = _warm_start(teachers) if warm else None
    if start is not None:
        # Before hours of labelling.
        check_start_fits(start, reader.manifest, config, folds)
    best, true = _evaluate(teachers, weights, reader, folds, truth)
    report(f"Teachers: {_format(best, true)}.")
    finished: list[Round] = []
    for number in range(1, rounds + 1):
        labels_dir = out_dir / f"round{number}" / "labels"
        options = {"extra": extra or {}, "data_dir": data_dir, "progress": verbose}
        if per_fold:
            skipped = write_pseudo_labels_per_fold(
                group, reader, config, labels_dir, folds, report=report, **options
            )
        else:
            skipped = write_pseudo_labels(group, reader, config, labels_dir, **options).skipped
        for text in skipped:
            report(f"Left out: {text}")
        student = train_run(
            config,
            tfrecords,
            out_dir / f"round{number}" / "run",
            folds,
            pseudo=PseudoLabels(labels_dir),
            start=start,
            data_dir=data_dir,
            verbose=verbose,
            report=report,
        )
        masked, true = _evaluate([student], None, reader, folds, truth)
        labels = _describe_labels(out_dir, number, folds, config)
        finished.append(Round(number, len(skipped), *labels, masked, true))
        _write_rounds(finished, out_dir)
        report(
            f"Round {number}: {_format(masked, true)}; agreement with the labels of the round "
            f"before {finished[-1].agreement:.3f}."
        )
        if masked < best - tolerance:
            report(f"Stopped: round {number} is worse than what was before it.")
            break
        best = max(best, masked)
        start = student if warm else None
        group = LabellingRuns([student, *keep], None)
    return finished


def _warm_start(teachers: Sequence[Run]) -> RunFolder:
    """The first teacher that has weights to begin with."""
    own = [run for run in teachers if run.kind == "detector"]
    if not own:
        raise UserError(
            "A warm start needs a teacher with the student's network. No teacher is a "
            f"detector: {', '.join(str(run.path) for run in teachers)}. Leave out --warm."
        )
    return own[0]


def _evaluate(
    runs: Sequence[Run],
    weights: Sequence[float] | None,
    reader: ShardReader,
    folds: list[int],
    truth: pd.DataFrame | None,
) -> tuple[float, float]:
    """Masked LWLRAP and LWLRAP of what the folds of runs held out, averaged over the runs."""
    tables = [read_scores(of_run(run.path / OOF_SCORES)).set_index("recording_id") for run in runs]
    held_out = {name for fold in folds for name in reader.manifest.audio_sources(fold)}
    names = [n for n in tables[0].index if n in held_out and all(n in t.index for t in tables)]
    species_ids = [c.species_id for c in reader.manifest.classes]
    columns = [c.column for c in reader.manifest.classes]
    scores = np.average([table.loc[names, columns] for table in tables], axis=0, weights=weights)
    present, known = recording_labels(reader.index, reader.manifest.complete, names, species_ids)
    masked = masked_lwlrap(present, known, scores)
    if truth is None:
        return masked, float("nan")
    table = pd.DataFrame(scores, columns=columns)
    table.insert(0, "recording_id", names)
    return masked, evaluate_scores(table, truth[truth["recording_id"].isin(names)]).lwlrap


def _format(masked: float, true: float) -> str:
    by_truth = "" if np.isnan(true) else f", by the complete truth {true:.4f}"
    return f"out-of-fold LWLRAP among annotated classes {masked:.4f}{by_truth}"


def _describe_labels(
    out_dir: Path, number: int, folds: list[int], config: Config
) -> tuple[int, int, float, float]:
    """Windows, crops, classes present a window, and agreement with the round before."""
    labels = PseudoLabels(out_dir / f"round{number}" / "labels")
    before = out_dir / f"round{number - 1}" / "labels"
    windows = crops = present = both = either = 0
    for folder in {labels.of_fold(fold).folder: None for fold in folds}:
        crops += len(ShardReader(folder).index)
        for name in names_with_windows(folder):
            called = read_probability(folder, name)[1] >= config.pseudo.present_above
            windows += len(called)
            present += called.sum()
            earlier = read_probability(before / folder.relative_to(labels.folder), name)
            if earlier is not None:
                called_earlier = earlier[1] >= config.pseudo.present_above
                both += (called & called_earlier).sum()
                either += (called | called_earlier).sum()
    agreement = both / either if either else float("nan")
    return windows, crops, present / max(windows, 1), agreement


def _write_rounds(rounds: list[Round], out_dir: Path) -> None:
    with atomic_file(out_dir / "rounds.csv") as temporary:
        pd.DataFrame([asdict(one) for one in rounds]).to_csv(temporary, index=False)
