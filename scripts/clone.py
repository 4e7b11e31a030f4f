"""Runs a verb of rfcx-tf from the clone that this file lies in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli.main import main


def run_verb(verb: str) -> None:
    """Runs a verb on the command line's arguments and ends the process with its status."""
    sys.exit(main([verb, *sys.argv[1:]]))
