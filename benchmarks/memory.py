"""Peak memory of scoring, by the length of one recording.

    python benchmarks/memory.py --run runs/demo --and runs/listener --audio demo/data/test \\
        --tfrecords tfrecords/demo --hours 1 10

One FLAC is made of the recordings in --audio, one after the other, and goes through prediction with
events and window scores, through pseudo-labels, and through an ensemble of --run and --and by
windows; each in a process of its own, whose highest resident memory is printed in MiB.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
_REPORT = (
    "import resource; print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
)
_LABEL = """
import sys
from pathlib import Path
from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.runs.open import open_run
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.pseudo.labels import write_pseudo_labels
from rfcx_tf.training.pseudo.labelling_runs import LabellingRuns
shards, out, sound, *runs = sys.argv[1:]
runs = [open_run(run) for run in runs]
# Of the last fold alone, so that the long recording is most of the work.
teachers = LabellingRuns(runs, None, runs[0].finished_folds[-1])
reader = ShardReader(shards)
extra = {"long": AudioSource(Path(sound))}
options = {"extra": extra, "workers": 1, "progress": False}
write_pseudo_labels(teachers, reader, runs[0].config, Path(out), **options)
"""


def make_long(folder: Path, seconds: float, path: Path) -> None:
    """A FLAC of so many seconds, of the recordings in a folder one after the other."""
    files = sorted(folder.rglob("*.flac"))
    rate_hz = soundfile.info(files[0]).samplerate
    left = round(seconds * rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 1, format="FLAC") as long:
        for file in itertools.cycle(files):
            samples = soundfile.read(file, dtype="int16")[0][:left]
            long.write(samples.astype(np.int16))
            left -= len(samples)
            if not left:
                return


def peak_mib(code: str, *arguments: object) -> int:
    """Highest resident memory of a process that runs Python code."""
    command = [sys.executable, "-c", f"{code}\n{_REPORT}", *map(str, arguments)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "PEAK" not in output.stdout:
        sys.exit(f"A process failed:\n{output.stderr[-2000:]}")
    return int(output.stdout.split("PEAK")[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, type=Path, help="a run of detectors")
    parser.add_argument("--and", dest="other", type=Path, help="a listener's run, for an ensemble")
    parser.add_argument("--audio", required=True, type=Path, help="recordings to join")
    parser.add_argument("--tfrecords", type=Path, help="shards of the run, for pseudo-labels")
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 10.0])
    arguments = parser.parse_args()
    predict = "from rfcx_tf.cli.main import main; import sys; status = main(sys.argv[1:])"
    print("| hours | prediction | pseudo-labels | ensemble |\n|---|---|---|---|")
    for hours in arguments.hours:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sound = folder / "long.flac"
            make_long(arguments.audio, hours * 3600, sound)
            tables = ["--audio", sound, "--events", folder / "e.csv", "--threshold", 0.9]
            tables += ["--window-scores", folder / "w.parquet"]
            verb = ["predict", "--out", folder / "s.csv", *tables, "--run", arguments.run]
            cells = [peak_mib(predict, *verb), "", ""]
            if arguments.tfrecords:
                runs = [run for run in (arguments.run, arguments.other) if run]
                cells[1] = peak_mib(_LABEL, arguments.tfrecords, folder / "labels", sound, *runs)
            if arguments.other:
                verb += [arguments.other, "--combine", "window"]
                cells[2] = peak_mib(predict, *verb)
        print(f"| {hours:g} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
