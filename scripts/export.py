"""Exports a run, or several as one, as a SavedModel that takes waveforms.

python scripts/export.py --run runs/rfcx --out exported/rfcx      -> exported/rfcx/1
python scripts/export.py --run runs/a runs/b --weights weights.yaml --out exported/both
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli import add_combination_arguments, add_run_override_argument, run_main


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, nargs="+", type=Path, help="run folder(s)")
    parser.add_argument("--out", required=True, type=Path, help="folder of the model's versions")
    add_combination_arguments(parser)
    add_run_override_argument(parser)
    arguments = parser.parse_args()
    from rfcx_tf.inference.ensemble import choose_weights, member_names
    from rfcx_tf.inference.predict import open_runs
    from rfcx_tf.inference.recording_model import EnsembleModel
    from rfcx_tf.run_folder import RunFolder
    from rfcx_tf.serving.export import check_exportable, export_saved_model

    check_exportable(arguments.run)
    weights = choose_weights(arguments.weights, arguments.run)
    models = open_runs(arguments.run, arguments.overrides)
    if len(models) == 1 and arguments.combine == "mean":
        model = models[0]
    else:
        model = EnsembleModel(models, member_names(arguments.run), weights, arguments.combine)
    version = export_saved_model(model, arguments.out)
    for path in arguments.run:
        folds = RunFolder.open(path).finished_folds
        print(f"Exported fold(s) {', '.join(map(str, folds))} of {path}.")
    if isinstance(model, EnsembleModel) and not model.one_front_end:
        print(f"Wrote {version}: signature serving_default (waveform).")
    else:
        print(f"Wrote {version}: signatures serving_default (waveform) and spectrogram.")
    return 0


if __name__ == "__main__":
    run_main(main)
