"""Cuts PCEN spectrogram crops around all annotated boxes into TFRecord shards.

rfcx-tf make-tfrecords --config configs/rfcx.yaml --data DIR --out tfrecords/rfcx
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rfcx_tf.cli.arguments import (
    above_zero,
    add_config_arguments,
    list_left_out,
    list_remarks,
    load_recipe,
    print_next,
    print_notes,
)
from rfcx_tf.core.lock import lock_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--data", required=True, type=Path, help="folder in the Kaggle layout")
    parser.add_argument("--out", required=True, type=Path, help="folder for the shards")
    parser.add_argument(
        "--workers", type=above_zero(int), help="recordings at once (default: one a core)"
    )


def run(arguments: argparse.Namespace) -> int:
    with lock_folder(arguments.out, "make-tfrecords"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.errors import first_few
    from rfcx_tf.frontend.recording import use_one_thread_an_operation
    from rfcx_tf.labels.annotations import read_kaggle_folder
    from rfcx_tf.shards.make import make_shards

    config = load_recipe(arguments)
    annotations = read_kaggle_folder(arguments.data)
    rows = annotations.counts
    print(
        f"{rows['used_tp']} of {rows['used_tp'] + rows['skipped_tp']} TP rows and "
        f"{rows['used_fp']} of {rows['used_fp'] + rows['skipped_fp']} FP rows have their "
        "recording."
    )
    if annotations.complete:
        print(
            f"All calls are marked in {len(annotations.complete)} recordings (complete.csv): what "
            "is not marked there is absent."
        )
    print_notes(annotations.notes)
    untrained = annotations.untrained_classes
    if untrained:
        names = ", ".join(c.name for c in untrained)
        print(f"No TP row with its recording for {names}: their scores will mean nothing.")
    use_one_thread_an_operation()
    manifest = make_shards(
        annotations, config, arguments.data, arguments.out, workers=arguments.workers
    )
    counts = ", ".join(f"{count} {kind}" for kind, count in manifest.counts.items())
    print(f"Crops: {counts}; {len(manifest.shards)} shards in {manifest.folds} folds.")
    print_next(
        *("train", "--config", arguments.config, "--tfrecords", arguments.out),
        *("--run", f"runs/{arguments.out.resolve().name}"),
    )
    list_remarks(manifest.remarks)
    left_out = [*annotations.left_out, *manifest.skipped]
    if annotations.missing:
        missing = first_few(annotations.missing)
        left_out.append(
            f"Rows, or lines of complete.csv, of recordings that are not in {arguments.data}: "
            f"{missing}."
        )
    status = list_left_out("Left out", left_out)
    if manifest.skipped:
        print(
            "The same command tries recordings again. After correcting rows name another --out.",
            file=sys.stderr,
        )
    return status
