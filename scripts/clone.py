"""Runs a verb of rfcx-tf from the clone that this file lies in."""

import sys
from pathlib import Path

# Before imports that an older one does not understand.
if sys.version_info < (3, 11):  # noqa: UP036
    print(
        f"error: This needs Python 3.11 to 3.13. Found {sys.version.split()[0]}. Run it by "
        ".venv/bin/python, which `make environment` makes.",
        file=sys.stderr,
    )
    sys.exit(2)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli.main import main


def run_verb(verb: str) -> None:
    """Runs a verb on the command line's arguments and ends the process with its status."""
    sys.exit(main([verb, *sys.argv[1:]]))
