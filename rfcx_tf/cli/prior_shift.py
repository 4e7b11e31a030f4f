"""Estimates how common each species is in unlabelled recordings, for predict --prior.

    rfcx-tf predict --run runs/rfcx --audio DIR/test --out scores.csv
    rfcx-tf prior-shift --run runs/rfcx --scores scores.csv --out prior.yaml \\
        --apply shifted_scores.csv

The scores must come from the same runs and weights, combined by their mean. The prior raises scores
of species that are common in the recordings and lowers those of rare ones. No truth is used. Calls
and noise must be alike in both sets: try it on recordings whose truth is known before you trust it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rfcx_tf.cli.arguments import add_weights_argument, print_next
from rfcx_tf.core.lock import lock_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument("--scores", required=True, metavar="CSV", help="of unlabelled recordings")
    parser.add_argument("--out", required=True, type=Path, help="YAML file for the prior")
    parser.add_argument("--apply", type=Path, metavar="CSV", help="also write shifted scores here")
    add_weights_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    with lock_files((arguments.out, arguments.apply), "prior-shift"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.runs.run import RunFolder
    from rfcx_tf.scoring.score_table import read_scores, write_scores

    target = read_scores(arguments.scores)
    runs = [RunFolder.open(path) for path in arguments.run]
    from rfcx_tf.evaluation import prior_shift
    from rfcx_tf.evaluation.held_out import read_held_out
    from rfcx_tf.scoring.ensemble_weights import choose_weights

    held_out = read_held_out(runs, choose_weights(arguments.weights, arguments.run))
    species, slope = prior_shift.estimate_prior_shift(held_out, target)
    about = {
        "members": [{"run": m["run"], "weight": m["weight"]} for m in held_out.members],
        "scores": arguments.scores,
        "recordings": len(target),
        "settings": {
            "shrinkage": prior_shift.SHRINKAGE,
            "pseudo_count": prior_shift.PSEUDO_COUNT,
        },
        "calibration": {"slope": round(slope, 6)},
    }
    prior_shift.write_prior(arguments.out, species, about)
    print(species.to_string(index=False, float_format="{:.4f}".format, na_rep="-"))
    print(f"Calibration slope {slope:.3f}; {len(target)} recordings.")
    print(f"Wrote {arguments.out}.")
    if arguments.apply:
        # As predict --prior does it, with the digits of the file.
        offsets = prior_shift.read_offsets(arguments.out)
        write_scores(prior_shift.apply_offsets(target, offsets), arguments.apply)
        print(f"Wrote {arguments.apply}.")
    print_next(
        *("predict", "--run", *arguments.run, "--prior", arguments.out),
        *("--audio", "FOLDER", "--out", "scores.csv"),
    )
    return 0
