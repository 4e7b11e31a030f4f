"""Measures the local server: requests a second, latency and memory against the model itself.

python benchmarks/benchmark_server.py --model exported/rfcx --seconds 300 --out load.json
python benchmarks/benchmark_server.py --model exported/rfcx --protocol grpc --concurrency 1 4

Starts scripts/serve.py on free ports and ends it again. Prints a table in Markdown.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rfcx_tf.cli.arguments import run_main
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text, check_writable


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the model's versions")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 8, 32], help="clients (default 1 8 32)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="for each number of clients (default 60)"
    )
    parser.add_argument("--protocol", choices=("rest", "grpc"), default="rest")
    parser.add_argument(
        "--signature", help="default: wav where the model has it, else serving_default"
    )
    parser.add_argument("--audio", type=Path, help="recording to send; default: noise")
    parser.add_argument("--length", type=float, default=60, help="of the noise, s (default 60)")
    parser.add_argument(
        "--sample-rate", type=int, help="of the noise, Hz; default: what the model says"
    )
    parser.add_argument(
        "--serve", nargs=argparse.REMAINDER, default=[], help="last: more options for serve.py"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the same as JSON")
    arguments = parser.parse_args()
    if min(arguments.concurrency) < 1 or arguments.seconds <= 0 or arguments.length <= 0:
        raise UserError("--concurrency, --seconds and --length must be above 0.")
    folder = arguments.model
    names = [p.name for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    if not names:
        raise UserError(f"--model must be a folder with numbered SavedModels. {folder} is not.")
    if arguments.audio and not arguments.audio.is_file():
        raise UserError(f"--audio must be a file. {arguments.audio} is not one.")
    if arguments.out:
        check_writable(arguments.out)

    import asyncio
    import os

    from benchmarks.load_test import (
        as_document,
        make_recording,
        markdown_table,
        measure_direct,
        measure_server,
    )
    from rfcx_tf.serving.server.model import ServedModel

    version = max(names, key=int)
    model = ServedModel(folder / version, int(version))
    recording = make_recording(
        model, arguments.signature, arguments.audio, arguments.length, arguments.sample_rate
    )
    print(f"Calls {folder / version} directly for {arguments.seconds:g} s ...", file=sys.stderr)
    direct = measure_direct(model, recording, arguments.seconds)
    del model
    print(f"Serves it to {arguments.concurrency} clients ...", file=sys.stderr)
    served = asyncio.run(
        measure_server(
            folder,
            recording,
            arguments.protocol,
            arguments.concurrency,
            arguments.seconds,
            direct,
            arguments.serve,
        )
    )
    levels = [direct, *served]
    print(markdown_table(levels))
    if arguments.out:
        text = as_document(
            levels,
            model=str(folder / version),
            protocol=arguments.protocol,
            signature=recording.signature,
            seconds=arguments.seconds,
            cpus=os.cpu_count(),
            serve=arguments.serve,
        )
        atomic_write_text(arguments.out, text)
        print(f"Wrote {arguments.out}.")
    return 0


if __name__ == "__main__":
    run_main(main)
