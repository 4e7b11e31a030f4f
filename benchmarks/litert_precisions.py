"""What each precision of a run's LiteRT files costs: bytes, differences of scores, time, LWLRAP.

    python benchmarks/litert_precisions.py --run runs/rfcx --audio DIR/train \\
        --truth DIR/train_truth.csv

Bytes, differences and times are those of the first finished fold, on the middle of at most 50
recordings; differences are those of window scores from the SavedModel's. With --truth every
recording is also scored by the fold that held it out, piece by piece. Prints a table in Markdown.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.report import markdown_table
from benchmarks.timing import alternate, timed
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.audio.find import find_named_recordings
from rfcx_tf.cli.main import Parser, exit_status
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.detector import DetectorScorer
from rfcx_tf.scoring.litert import LiteRtScorer
from rfcx_tf.scoring.predict import scores_table
from rfcx_tf.scoring.score_table import read_scores, read_truth
from rfcx_tf.scoring.scorer import score_recordings
from rfcx_tf.serving.litert import (
    PRECISIONS,
    choose_folds,
    convert_to_litert,
    litert_metadata,
    load_convertible,
)

_SAVED_MODEL = "SavedModel"
_MOST_PIECES = 50
_TIMED_ROUNDS = 15
_COLUMNS = {
    "precision": ("precision", "s"),
    "mb": ("MB", ".2f"),
    "largest": ("largest difference", ".1e"),
    "mean": ("mean difference", ".1e"),
    "ms": ("ms of a core a piece", ".1f"),
    "speed": ("speed", ".2f"),
    "lwlrap": ("out-of-fold LWLRAP", ".4f"),
}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="run folder")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    parser.add_argument("--truth", type=Path, help="complete labels of --audio")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the input (default: 10)")
    arguments = parser.parse_args()
    # Several threads spend more CPU time than one would.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    truth = read_truth(arguments.truth) if arguments.truth else None
    named = [] if truth is None else truth["recording_id"]
    recordings = find_named_recordings(arguments.audio, named)
    run = RunFolder.open(arguments.run)
    scorer, models, sizes = load_models(run, choose_folds(run, None), arguments.seconds)
    pieces = middle_pieces(
        recordings, models["float32"].metadata["samples"], scorer.card.sample_rate_hz
    )
    rows = measure_models(scorer, models, list(pieces))
    for precision, size in sizes.items():
        rows[precision]["mb"] = size / 1e6
    if truth is not None:
        found = out_of_fold_lwlrap(run, arguments.seconds, truth, recordings)
        for precision, lwlrap in found.items():
            rows[precision]["lwlrap"] = lwlrap
    print(markdown_table(rows.values(), _COLUMNS))


def load_models(
    run: RunFolder, folds: list[int], seconds: float
) -> tuple[DetectorScorer, dict[str, LiteRtScorer], dict[str, int]]:
    """Folds of a run as they are, and as LiteRT models and their bytes by precision."""
    scorer = load_convertible(run, folds, seconds)
    contents = convert_to_litert(scorer, litert_metadata(scorer, folds, seconds), PRECISIONS)
    models = {precision: LiteRtScorer(content) for precision, content in contents.items()}
    return scorer, models, {precision: len(content) for precision, content in contents.items()}


def middle_pieces(
    recordings: dict[str, Path], samples: int, sample_rate_hz: int
) -> Iterable[np.ndarray]:
    """The middle of every recording, float32 [samples]; of at most 50, evenly spread."""
    paths = list(recordings.values())
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), _MOST_PIECES))
    for number in chosen.round().astype(int):
        waveform = read_audio(paths[number], sample_rate_hz)
        begin = max(0, (len(waveform) - samples) // 2)
        piece = waveform[begin : begin + samples]
        yield np.pad(piece, (0, samples - len(piece)), mode="symmetric")


def measure_models(
    scorer: DetectorScorer, models: dict[str, LiteRtScorer], pieces: list[np.ndarray]
) -> dict[str, dict]:
    """Differences and times, by precision and of the SavedModel.

    Returns:
        precision; largest and mean, absolute differences of the pieces' window scores from the
        SavedModel's; ms of CPU time that the first piece takes, the median; speed, how many
        times as fast as the SavedModel that is.
    """
    saved = tf.function(scorer.score_waveform, [tf.TensorSpec([None, None], tf.float32)])
    expected = [saved(piece[None])["window_scores"][0].numpy() for piece in pieces]
    rows = {_SAVED_MODEL: {"precision": _SAVED_MODEL}}
    tasks = {_SAVED_MODEL: lambda: timed(lambda: saved(pieces[0][None])["scores"].numpy())}
    for precision, model in models.items():
        found = [model.score_piece(piece)["window_scores"] for piece in pieces]
        differences = np.abs(np.stack(found) - np.stack(expected))
        rows[precision] = {
            "precision": precision,
            "largest": differences.max(),
            "mean": differences.mean(),
        }
        tasks[precision] = lambda model=model: timed(lambda: model.score_piece(pieces[0]))
    for precision, timings in alternate(tasks, _TIMED_ROUNDS).items():
        # Other work on the machine changes little of the CPU time.
        rows[precision]["ms"] = 1e3 * np.median([timing.cpu_seconds for timing in timings])
        rows[precision]["speed"] = rows[_SAVED_MODEL]["ms"] / rows[precision]["ms"]
    return rows


def out_of_fold_lwlrap(
    run: RunFolder, seconds: float, truth: pd.DataFrame, recordings: dict[str, Path]
) -> dict[str, float]:
    """LWLRAP of held-out recordings, each scored piece by piece by its own fold's model.

    Args:
        run: the run.
        seconds: length of the models' input.
        truth: recording_id and s<id> columns of 0/1, complete.
        recordings: audio by recording id.

    Returns:
        By precision; and of the run's own out-of-fold scores, one pass over each recording.

    Raises:
        UserError: if no held-out recording is in the truth, or one has no audio.
    """
    folds = run.finished_folds
    own = pd.concat([read_scores(run.fold(k) / "oof_scores.csv").assign(fold=k) for k in folds])
    own = own[own["recording_id"].isin(truth["recording_id"])]
    truth = truth[truth["recording_id"].isin(own["recording_id"])]
    missing = sorted(set(own["recording_id"]) - set(recordings))
    if truth.empty or missing:
        found = f"Missing: {first_few(missing)}" if missing else "It names none of them"
        raise UserError(
            "The truth must name recordings that finished folds held out, and --audio must hold "
            f"all of these. {found}."
        )
    scores: dict[str, dict[str, np.ndarray]] = {precision: {} for precision in PRECISIONS}
    for fold, names in own.groupby("fold")["recording_id"]:
        _, models, _ = load_models(run, [int(fold)], seconds)
        for precision, model in models.items():
            print(f"fold {fold}, {precision}", flush=True)
            for name, result in score_recordings(model, {n: recordings[n] for n in names}):
                if isinstance(result, UserError):
                    raise result
                scores[precision][name] = result.scores
    tables = {name: scores_table(model.card, rows) for name, rows in scores.items()}
    tables[_SAVED_MODEL] = own.drop(columns="fold")
    return {name: evaluate_scores(table, truth).lwlrap for name, table in tables.items()}


if __name__ == "__main__":
    sys.exit(exit_status(main))
