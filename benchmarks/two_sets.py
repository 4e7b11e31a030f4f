"""How fast the two sets of packages train, score and export the same small network.

    python -m benchmarks.two_sets .venv/bin/python .venv-today/bin/python

The interpreters take turns; every turn is a process of its own, which does each piece of work once
to trace and compile it and then `--repeats` times. Printed is the shortest time of all turns, and
the first over the last. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BATCH, STEPS, RECORDINGS = 32, 4, 8
WORK = (
    f"{STEPS} training steps of {BATCH} crops",
    f"FLAC to scores, {RECORDINGS} recordings",
    "export as a SavedModel",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", help="interpreters of the sets")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a trained run")
    parser.add_argument(
        "--audio", type=Path, default=Path("demo/data/test"), help="FLAC recordings"
    )
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if not arguments.pythons:  # One turn, in a process of its own.
        print(json.dumps(measure(arguments.run, arguments.audio, arguments.repeats)))
        return 0
    turns: dict[str, list[dict[str, float]]] = {python: [] for python in arguments.pythons}
    for _ in range(arguments.turns):
        for python in turns:
            command = [python, "-m", "benchmarks.two_sets", "--repeats", str(arguments.repeats)]
            command += ["--run", str(arguments.run.resolve())]
            command += ["--audio", str(arguments.audio.resolve())]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            turns[python].append(json.loads(done.stdout.splitlines()[-1]))
    print("| work | " + " | ".join(turns) + " | first / last |")
    print("|---" * (len(turns) + 2) + "|")
    for work in WORK:
        shortest = [min(turn[work] for turn in of_one) for of_one in turns.values()]
        times = " | ".join(f"{seconds:.3f} s" for seconds in shortest)
        print(f"| {work} | {times} | {shortest[0] / shortest[-1]:.2f} |")
    return 0


def measure(run: Path, audio: Path, repeats: int) -> dict[str, float]:
    """The shortest seconds of every piece of work in this process."""
    import keras

    from benchmarks.stages.train import keras_tasks, plain_head, random_batch
    from benchmarks.timing import alternate, timed
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.load import load_scorer
    from rfcx_tf.scoring.scorer import score_recordings
    from rfcx_tf.serving.export import export_saved_model

    opened = open_run(run)
    config = plain_head(opened.config)
    training = keras_tasks(config, random_batch(config, BATCH), STEPS, "float32", devices=1)
    keras.mixed_precision.set_global_policy("float32")
    scorer = load_scorer(opened)
    recordings = {path.stem: path for path in sorted(audio.glob("*.flac"))[:RECORDINGS]}
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()
        tasks = {
            WORK[0]: training["steps"],
            WORK[1]: lambda: timed(
                lambda: len(list(score_recordings(scorer, recordings, progress=False)))
            ),
            WORK[2]: lambda: timed(
                lambda: export_saved_model(scorer, Path(folder) / str(next(numbers)))
            ),
        }
        timings = alternate(tasks, repeats)
    return {work: min(timing.seconds for timing in timings[work]) for work in WORK}


if __name__ == "__main__":
    sys.exit(main())
