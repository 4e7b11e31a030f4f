"""Trains a pretrained listener: regressions on the embeddings of a model that you have.

    rfcx-tf listener --listener configs/listeners/birdnet.yaml --model MODEL \\
        --tfrecords tfrecords/rfcx --run runs/birdnet

MODEL is a TFLite file or the folder of a SavedModel. Rows, folds and recordings are those of the
shards. The run goes where another goes: predict, evaluate, ensemble, and as a teacher
into pseudo-label. Run it again to go on after a stop, or with another --set c=0.01.

--pseudo names labels of pseudo-label, OUT/round1/labels: then it learns from all windows of
the recordings, not only from those with rows. With labels made --per-fold its out-of-fold scores
are clean.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rfcx_tf.cli.arguments import add_override_argument, list_left_out, print_next


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listener", required=True, metavar="FILE", help="YAML: how it listens")
    parser.add_argument("--model", required=True, type=Path, help="TFLite file or SavedModel")
    parser.add_argument("--tfrecords", required=True, type=Path, help="folder of shards")
    parser.add_argument("--run", required=True, type=Path, help="folder for the results")
    parser.add_argument(
        "--data", type=Path, help="the recordings, if they moved since the shards were made"
    )
    parser.add_argument(
        "--pseudo", type=Path, metavar="DIR", help="pseudo-labels to learn from as well"
    )
    add_override_argument(parser, "change one value of the YAML, such as c=0.01")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.config import load_yaml
    from rfcx_tf.core.listener_config import ListenerConfig

    config = load_yaml(ListenerConfig, arguments.listener, arguments.overrides)
    from rfcx_tf.training.listener import train_listener

    began = time.perf_counter()
    training = train_listener(
        arguments.model,
        config,
        arguments.tfrecords,
        arguments.run,
        arguments.data,
        pseudo=arguments.pseudo,
    )
    seconds = time.perf_counter() - began
    print(
        f"Wrote {arguments.run}: regressions, out-of-fold scores and embeddings of "
        f"{training.recordings} recordings in {seconds:.0f} s."
    )
    print_next("evaluate", "--run", arguments.run)
    return list_left_out("Recordings without scores", training.failed)
