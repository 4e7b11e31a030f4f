"""What each precision of a run's LiteRT files costs: bytes, differences of scores, time, LWLRAP.

    python benchmarks/litert_precisions.py --run runs/rfcx --audio DIR/train --time
    python benchmarks/litert_precisions.py --run runs/rfcx --folds 0 1 2 3 4 --audio DIR/train \\
        --truth DIR/train_truth.csv

Prints a table in Markdown. Differences are those of window scores from the SavedModel's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from rfcx_tf.audio.decode import read_audio
from rfcx_tf.audio.find import find_named_recordings
from rfcx_tf.cli.main import exit_status
from rfcx_tf.cli.parser import Parser
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.detector import DetectorScorer
from rfcx_tf.scoring.litert import LiteRtScorer
from rfcx_tf.scoring.score_table import class_columns, read_scores, read_truth
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.serving.litert import (
    PRECISIONS,
    choose_folds,
    convert_to_litert,
    litert_metadata,
    load_convertible,
)

SAVED_MODEL = "SavedModel"
_LARGEST_NUMBER_OF_PIECES = 50
_TIMED_PASSES = 15


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="run folder")
    parser.add_argument("--folds", nargs="+", type=int, metavar="K", help="default: the first")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the input; default: 10")
    parser.add_argument(
        "--audio",
        nargs="+",
        type=Path,
        help="recordings, or folders of them, to measure differences on; default: synthetic noise",
    )
    parser.add_argument(
        "--truth", type=Path, help="complete labels of --audio: LWLRAP of what folds held out"
    )
    parser.add_argument("--time", action="store_true", help="also what a pass takes of one core")
    arguments = parser.parse_args(argv)
    if arguments.truth and not arguments.audio:
        raise UserError("--truth needs the recordings that it describes. Add --audio DIR.")
    if arguments.time:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    truth = read_truth(arguments.truth) if arguments.truth else None
    recordings = {}
    if arguments.audio:
        named = [] if truth is None else truth["recording_id"]
        recordings = find_named_recordings(arguments.audio, named)
    run, seconds = RunFolder.open(arguments.run), arguments.seconds
    folds = choose_folds(run, arguments.folds)
    scorer = load_convertible(run, folds, seconds)
    metadata = litert_metadata(scorer, folds, seconds)
    contents = convert_to_litert(scorer, metadata)
    models = {precision: LiteRtScorer(content) for precision, content in contents.items()}
    samples, rate_hz = metadata["samples"], metadata["sample_rate_hz"]
    if recordings:
        pieces = list(middle_pieces(recordings, samples, rate_hz))
    else:
        pieces = list(synthetic_pieces(samples, rate_hz))
    lwlrap = None
    if truth is not None:
        lwlrap = out_of_fold_lwlrap(run, folds, seconds, PRECISIONS, truth, recordings)
    print(
        format_report(
            {precision: len(content) for precision, content in contents.items()},
            score_differences(models, scorer, pieces),
            seconds_a_piece(models, scorer, pieces[0]) if arguments.time else None,
            lwlrap,
        )
    )
    return 0


def middle_pieces(
    recordings: dict[str, Path], samples: int, sample_rate_hz: int
) -> Iterable[np.ndarray]:
    """The middle of every recording, float32 [samples]; of at most 50, evenly spread."""
    names = list(recordings)
    chosen = np.linspace(0, len(names) - 1, min(len(names), _LARGEST_NUMBER_OF_PIECES))
    for number in chosen.round().astype(int):
        waveform = read_audio(recordings[names[number]], sample_rate_hz)
        begin = max(0, (len(waveform) - samples) // 2)
        piece = waveform[begin : begin + samples]
        yield np.pad(piece, (0, samples - len(piece)), mode="symmetric")


def synthetic_pieces(samples: int, sample_rate_hz: int) -> Iterable[np.ndarray]:
    """Noise of several levels with short tones in it, where no recordings are given."""
    rng = np.random.default_rng(0)
    time_s = np.arange(samples) / sample_rate_hz
    for level in (0.001, 0.003, 0.01, 0.03, 0.1):
        tone = np.sin(2 * np.pi * rng.uniform(0.02, 0.4) * sample_rate_hz * time_s)
        sung = (time_s * rng.uniform(0.5, 2)) % 1 < 0.3
        yield np.float32(level * rng.standard_normal(samples) + 0.2 * sung * tone)


def score_differences(
    models: dict[str, LiteRtScorer], saved: DetectorScorer, pieces: Iterable[np.ndarray]
) -> pd.DataFrame:
    """How far the window scores of a piece are from those of a SavedModel.

    Args:
        models: by precision.
        saved: what a SavedModel computes.
        pieces: float32 [samples] each, as long as the models' input.

    Returns:
        Largest and mean absolute difference (`largest`, `mean`) by precision.
    """
    reference = _saved_function(saved)
    differences = {precision: [] for precision in models}
    for piece in pieces:
        expected = reference(piece[np.newaxis])["window_scores"][0].numpy()
        for precision, model in models.items():
            found = model.score_piece(piece)["window_scores"]
            differences[precision].append(np.abs(found - expected))
    return pd.DataFrame(
        {
            "largest": {name: np.max(values) for name, values in differences.items()},
            "mean": {name: np.mean(values) for name, values in differences.items()},
        }
    )


def seconds_a_piece(
    models: dict[str, LiteRtScorer], saved: DetectorScorer, piece: np.ndarray
) -> pd.Series:
    """Median time of a core for one piece, by precision and of the SavedModel, in seconds.

    Time that a processor spent, not time that passed, so other work on the machine changes
    little. The passes take turns for the same reason. Before it does anything else, TensorFlow
    must be told to use one thread: several spend more than one would.
    """
    reference = _saved_function(saved)
    runs = {SAVED_MODEL: lambda: reference(piece[np.newaxis])["scores"].numpy()}
    for precision, model in models.items():
        runs[precision] = lambda model=model: model.score_piece(piece)
    taken = {name: [] for name in runs}
    for _ in range(1 + _TIMED_PASSES):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            taken[name].append(time.process_time() - begin)
    # The first pass traces and allocates.
    return pd.Series({name: np.median(values[1:]) for name, values in taken.items()})


def out_of_fold_lwlrap(
    run: RunFolder,
    folds: Sequence[int],
    seconds: float,
    precisions: Sequence[str],
    truth: pd.DataFrame,
    recordings: dict[str, Path],
) -> pd.Series:
    """LWLRAP of held-out recordings, each scored piece by piece by its own fold's model.

    Args:
        run: the run.
        folds: finished ones; each becomes a model of its own.
        seconds: length of the models' input.
        precisions: to score with.
        truth: recording_id and s<id> columns of 0/1, complete.
        recordings: audio by recording id.

    Returns:
        By precision; and of the run's own out-of-fold scores of the same recordings, which
        were made in one pass over each.

    Raises:
        UserError: if no held-out recording is in the truth, or one has no audio.
    """
    own = pd.concat([read_scores(run.fold(k) / "oof_scores.csv").assign(fold=k) for k in folds])
    own = own[own["recording_id"].isin(set(truth["recording_id"]))]
    truth = truth[truth["recording_id"].isin(set(own["recording_id"]))]
    if truth.empty:
        raise UserError(
            "The truth must name recordings that the exported folds held out. It names none of "
            f"fold(s) {', '.join(map(str, folds))} of {run.path}."
        )
    missing = [name for name in own["recording_id"] if name not in recordings]
    if missing:
        raise UserError(
            "Every held-out recording of the truth must be in --audio. "
            f"Missing: {first_few(missing)}."
        )
    columns = class_columns(own.columns)
    tables = {precision: own.copy() for precision in precisions}
    for fold, names in own.groupby("fold")["recording_id"]:
        scorer = load_convertible(run, [int(fold)], seconds)
        metadata = litert_metadata(scorer, [int(fold)], seconds)
        contents = convert_to_litert(scorer, metadata, precisions)
        models = {name: LiteRtScorer(content) for name, content in contents.items()}
        for recording_id in tqdm(names, unit="recording", desc=f"fold {fold}"):
            rate_hz = run.config.frontend.sample_rate_hz
            sound = {rate_hz: read_audio(recordings[recording_id], rate_hz)}
            for precision, model in models.items():
                row = tables[precision]["recording_id"] == recording_id
                scores = score_blocks(model, [sound]).scores
                tables[precision].loc[row, columns] = scores.astype(float)
    tables = {SAVED_MODEL: own, **tables}
    return pd.Series({name: evaluate_scores(t, truth).lwlrap for name, t in tables.items()})


def format_report(
    sizes: dict[str, int],
    differences: pd.DataFrame,
    seconds: pd.Series | None = None,
    lwlrap: pd.Series | None = None,
) -> str:
    """The table in Markdown, a row a precision and one of the SavedModel.

    Args:
        sizes: bytes by precision.
        differences: of `score_differences`.
        seconds: of `seconds_a_piece`.
        lwlrap: of `out_of_fold_lwlrap`.
    """
    header = ["precision", "MB", "largest difference", "mean difference"]
    header += ["ms a piece", "speed"] if seconds is not None else []
    header += ["out-of-fold LWLRAP"] if lwlrap is not None else []
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    others = seconds is not None or lwlrap is not None
    for name in [*([SAVED_MODEL] if others else []), *sizes]:
        cells = [name, "", "", ""]
        if name in sizes:
            found = differences.loc[name]
            cells[1:] = [
                f"{sizes[name] / 1e6:.2f}",
                f"{found['largest']:.1e}",
                f"{found['mean']:.1e}",
            ]
        if seconds is not None:
            speed = seconds[SAVED_MODEL] / seconds[name]
            cells += [f"{1e3 * seconds[name]:.1f}", f"{speed:.2f}"]
        if lwlrap is not None:
            cells.append(f"{lwlrap[name]:.4f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _saved_function(saved: DetectorScorer):
    return tf.function(saved.score_waveform, [tf.TensorSpec([None, None], tf.float32)])


if __name__ == "__main__":
    sys.exit(exit_status(main))
