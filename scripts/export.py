"""Exports a run as a SavedModel that takes waveforms.

python scripts/export.py --run runs/rfcx --out exported/rfcx      -> exported/rfcx/1
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli import add_run_override_argument, run_main


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, type=Path, help="run folder")
    parser.add_argument("--out", required=True, type=Path, help="folder of the model's versions")
    add_run_override_argument(parser)
    arguments = parser.parse_args()
    from rfcx_tf.inference.recording_model import load_recording_model
    from rfcx_tf.run_folder import RunFolder
    from rfcx_tf.serving.export import export_saved_model

    run = RunFolder.open(arguments.run, arguments.overrides)
    version = export_saved_model(load_recording_model(run), arguments.out)
    print(f"Exported fold(s) {', '.join(map(str, run.finished_folds))} of {arguments.run}.")
    print(f"Wrote {version}: signatures serving_default (waveform) and spectrogram.")
    return 0


if __name__ == "__main__":
    run_main(main)
