"""The model on a GPU: speed and memory on JAX against PyTorch, and trials of training.

    python benchmarks/gpu.py pack FOLDER --data DIR     # where TensorFlow is
    python benchmarks/gpu.py speed --pack FOLDER        # where JAX and PyTorch are
    python benchmarks/gpu.py trials --pack FOLDER

The machine with the GPU needs Python 3.12 on x86-64 Linux with JAX, PyTorch, NumPy, pandas, SciPy
and PyYAML, this tree and the folder that `pack` made: Keras and what it needs, and spectrograms of
the data for the trials. TensorFlow is not needed there, and neither is the internet.

Every part runs in a process of its own with a limit of time, the most important first. What is
measured is printed and written to --out at once; a part that fails or comes too late is noted.
"""

import argparse
import compileall
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Two cases of one figure stand beside each other: reference and what is compared with it.
_RATIOS = (
    ("Keras on JAX", "PyTorch, compiled"),
    ("Keras on JAX", "PyTorch, eager"),
    ("PyTorch, compiled", "PyTorch, eager"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    pack = verbs.add_parser("pack", help="make the folder that goes to the machine with the GPU")
    pack.add_argument("folder", type=Path)
    pack.add_argument("--data", type=Path, help="folder in the Kaggle layout, for the trials")
    for verb, seconds in (("speed", 280), ("trials", 220)):
        command = verbs.add_parser(verb)
        command.add_argument("--pack", required=True, type=Path, help="the folder of `pack`")
        command.add_argument(
            "--out",
            type=Path,
            default=Path(os.environ.get("OUT", "gpu")),
            help="folder for the results; default: the environment's OUT, else ./gpu",
        )
        command.add_argument("--seconds", type=float, default=seconds, help="for all parts")
        command.add_argument("--parts", nargs="+", help="some of the parts only, in this order")
        command.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    part = verbs.add_parser("part", help="one part, as `speed` and `trials` start it")
    part.add_argument("name")
    part.add_argument("--pack", required=True, type=Path)
    part.add_argument("--out", required=True, type=Path)
    part.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if arguments.verb == "pack":
        from benchmarks.gpu_pack import pack as make

        make(arguments.folder, arguments.data)
    elif arguments.verb == "part":
        _run_part(arguments)
    else:
        _run_parts(arguments)


# Name and limit in seconds, in the order of importance.
_SPEED = {
    "jax_main": 180,
    "torch_main": 150,
    "predict": 90,
    "front_end": 60,
    "torch_others": 60,
    "jax_others": 140,
}
_TRIALS = {"trials": 600}


def _run_parts(arguments) -> None:
    # `timeout` ends a command so: as an exception, it takes the part along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began, out = time.monotonic(), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    rows = out / "rows.jsonl"
    _describe(out / "machine.txt")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "KERAS_BACKEND": "jax",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Parts share the many small programs that make a network's first weights.
        "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / "rfcx-gpu-programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    with contextlib.suppress(OSError):
        compileall.compile_dir(arguments.pack / "packages", quiet=2, workers=0)
    limits = _SPEED if arguments.verb == "speed" else _TRIALS
    for name in arguments.parts or limits:
        # Two CPUs take their time to compile.
        limit = limits[name] * (6 if arguments.small else 1)
        left = arguments.seconds - (time.monotonic() - began)
        if left < 15:
            _add(rows, {"part": "note", "text": f"{name}: no time left."})
            continue
        command = [sys.executable, __file__, "part", name]
        command += ["--pack", str(arguments.pack), "--out", str(out)]
        command += ["--small"] if arguments.small else []
        print(f"== {name}, {left:.0f} s left", flush=True)
        # A group of its own, so that it ends with all that it has started.
        part = subprocess.Popen(command, env=environment, process_group=0)
        try:
            status = part.wait(min(limit, left))
            if status:
                _add(rows, {"part": "note", "text": f"{name}: status {status}."})
        except subprocess.TimeoutExpired as error:
            _add(rows, {"part": "note", "text": f"{name}: stopped after {error.timeout:.0f} s."})
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGKILL)
        _write_table(rows, out / f"{arguments.verb}.md")
    print((out / f"{arguments.verb}.md").read_text(encoding="utf-8"))


def _describe(path: Path) -> None:
    """What this machine is and has, on the screen and in a file."""
    lines = [f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.platform()}"]
    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv"]
        lines.append(subprocess.run(query, capture_output=True, text=True, timeout=30).stdout)
    except (OSError, subprocess.SubprocessError) as error:
        lines.append(f"nvidia-smi: {error}")
    from importlib import metadata

    names = ("jax", "jaxlib", "jax-cuda13-plugin", "torch", "triton", "keras", "numpy", "pydantic")
    for name in names:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} is not installed here (it may be in the pack)")
    text = "\n".join(lines)
    path.write_text(text, encoding="utf-8")
    print(text, flush=True)


def _run_part(arguments) -> None:
    # After what is installed: the machine's own packages come first.
    sys.path.append(str(arguments.pack.resolve() / "packages"))
    from benchmarks.gpu_sizes import GPU, SMALL

    sizes = SMALL if arguments.small else GPU
    name = arguments.name
    for row in _rows_of(name, sizes, arguments.pack):
        _add(arguments.out / "rows.jsonl", row)
        part = "trials" if name == "trials" else "speed"
        _write_table(arguments.out / "rows.jsonl", arguments.out / f"{part}.md")


def _rows_of(name: str, sizes, pack: Path):
    from rfcx_tf.core.config import load_config

    if name == "trials":
        from benchmarks.gpu_trials import run_trials

        return run_trials(pack, sizes)
    config = load_config(ROOT / "configs" / "rfcx.yaml", sizes.overrides)
    low, batch = "mixed_bfloat16", sizes.batch
    if name.startswith("torch"):
        from benchmarks import gpu_torch

        if name == "torch_main":
            variants = [(low, batch, False), (low, batch, True)]
        else:
            variants = [(low, n, False) for n in sizes.other_batches]
            variants += [("float32", batch, False)]
        return gpu_torch.steps(config, sizes, variants)
    from benchmarks import gpu_jax

    if name == "jax_main":
        return gpu_jax.steps(config, sizes, [(low, batch)])
    if name == "jax_others":
        variants = [(low, n) for n in sizes.other_batches]
        return gpu_jax.steps(config, sizes, [("float32", batch), *variants])
    if name == "predict":
        variants = [(low, n) for n in sizes.recordings[::-1]]
        return gpu_jax.predictions(config, sizes, [*variants, ("float32", sizes.recordings[-1])])
    return gpu_jax.front_ends(config, sizes)


def _add(path: Path, row: dict) -> None:
    text = json.dumps(row)
    print(text, flush=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _write_table(rows_path: Path, path: Path) -> None:
    """All rows so far as Markdown: a table of figures, ratios of the same work, notes."""
    lines = rows_path.read_text(encoding="utf-8").splitlines() if rows_path.exists() else []
    rows = [json.loads(line) for line in lines]
    figures = [row for row in rows if row["part"] != "note"]
    heads = ["part", "with", "precision", "batch", "value", "unit", "memory_gib", "first_s"]
    text = ["| " + " | ".join(heads) + " | other |", "|---" * (len(heads) + 1) + "|"]
    for row in figures:
        others = {k: v for k, v in row.items() if k not in heads and v is not None}
        other = ", ".join(f"{k} {_short(v)}" for k, v in others.items())
        text.append("| " + " | ".join(_short(row.get(h)) for h in heads) + f" | {other} |")
    text.append("")
    speeds = {
        (r["with"], r["precision"], r["batch"]): r["value"] for r in figures if r["part"] == "step"
    }
    for one, other in _RATIOS:
        for (name, precision, batch), value in speeds.items():
            against = speeds.get((other, precision, batch))
            if name == one and against:
                text.append(
                    f"- {one} takes {value / against:.2f} times as many examples a second as "
                    f"{other}: {precision}, batch {batch}."
                )
    text += [f"- {row['text']}" for row in rows if row["part"] == "note"]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def _short(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
