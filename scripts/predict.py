"""Scores whole recordings with one run, or with several combined.

    python scripts/predict.py --run runs/rfcx --audio DIR/test --out scores.csv \\
        --like DIR/sample_submission.csv
    python scripts/predict.py --run runs/a runs/b --weights 0.7 0.3 --audio DIR --out scores.csv
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli import add_combination_arguments, add_run_override_argument, run_main
from rfcx_tf.data.audio import by_recording_id, find_recordings
from rfcx_tf.errors import InputError
from rfcx_tf.files import check_writable
from rfcx_tf.inference.tables import blank_scores, order_like_submission, write_scores


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument(
        "--audio", required=True, nargs="+", type=Path, help="recordings, or folders of them"
    )
    parser.add_argument("--out", required=True, type=Path, help="CSV file for the scores")
    parser.add_argument(
        "--like", type=Path, metavar="SUBMISSION", help="a sample_submission.csv to keep to"
    )
    parser.add_argument(
        "--prior", type=Path, metavar="YAML", help="of prior_shift.py: shift scores by its offsets"
    )
    add_combination_arguments(parser)
    add_run_override_argument(parser)
    arguments = parser.parse_args()
    if arguments.prior and arguments.combine == "rank":
        raise InputError("--prior shifts log odds, which ranks do not have. Use --combine mean.")
    recordings = by_recording_id(find_recordings(arguments.audio))
    from rfcx_tf.inference.ensemble import choose_weights
    from rfcx_tf.inference.predict import open_runs, predict_recordings
    from rfcx_tf.inference.prior_shift import apply_offsets, read_offsets

    weights = choose_weights(arguments.weights, arguments.run)
    models = open_runs(arguments.run, arguments.overrides)
    # What could go wrong at the end is tried now, not after hours of work.
    check_writable(arguments.out)
    blank = blank_scores(recordings, models[0].classes)
    if arguments.like:
        order_like_submission(blank, arguments.like)
    offsets = read_offsets(arguments.prior) if arguments.prior else None
    if offsets:
        apply_offsets(blank, offsets)
    predictions = predict_recordings(models, recordings, weights=weights, rule=arguments.combine)
    scores = predictions.scores
    if offsets:
        scores = apply_offsets(scores, offsets)
    if arguments.like and not predictions.failed:
        scores = order_like_submission(scores, arguments.like)
    write_scores(scores, arguments.out)
    print(f"Wrote {arguments.out}: {len(scores)} recordings, {scores.shape[1] - 1} species.")
    if predictions.failed:
        print(f"Could not be read, {len(predictions.failed)} in all:", file=sys.stderr)
        for text in predictions.failed:
            print(f"  {text}", file=sys.stderr)
        if arguments.like:
            print(f"  {arguments.out} is not in the order of {arguments.like}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_main(main)
