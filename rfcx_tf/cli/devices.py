"""Says on one screen what training will use: devices, precision, memory, XLA, input threads.

    rfcx-tf devices --config configs/rfcx.yaml

Where the machine has an NVIDIA GPU that TensorFlow does not see, it says why, and exits with 1.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="YAML", help="the recipe; default: the defaults")


def run(arguments: argparse.Namespace) -> int:
    from rfcx_tf.core.config import Config, load_config

    config = load_config(arguments.config) if arguments.config else Config()
    from rfcx_tf.training.devices import describe_machine

    lines, warning = describe_machine(config.training)
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")
    if warning:
        print(f"\n{warning}")
    return 1 if warning else 0
