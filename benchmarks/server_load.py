"""Measures the local server under load: requests a second, latency, memory.

    python benchmarks/server_load.py --model exported/rfcx --audio recording.wav --seconds 300
    python benchmarks/server_load.py --model exported/rfcx --audio recording.wav --protocol grpc

First it calls the model in this process, one recording after the other. Then it starts
rfcx-tf serve on free ports. Each of so many clients sends the recording again as soon as it
has its answer. It prints a table in Markdown.
"""

import argparse
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.report import markdown_table
from rfcx_tf.cli.main import Parser, exit_status
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text, check_writable

SERVE = Path(__file__).resolve().parents[1] / "scripts" / "serve.py"
_COLUMNS = {
    "clients": ("clients (0: the model, called directly)", "d"),
    "requests": ("requests", "d"),
    "errors": ("errors", "d"),
    "requests_per_s": ("requests/s", ".2f"),
    "median_s": ("median s", ".3f"),
    "p99_s": ("99th percentile s", ".3f"),
    "overhead_percent": ("more time a request, %", "+.1f"),
    "early_mib": ("memory MiB, early", ".0f"),
    "highest_mib": ("highest", ".0f"),
    "end_mib": ("end", ".0f"),
}
# A client: sends the recording once and says whether the answer was a success.
Send = Callable[[], bool]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="folder of the model's versions")
    parser.add_argument("--audio", required=True, type=Path, help="WAV file that clients send")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 8, 32], help="clients (default 1 8 32)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="for each number of clients (default 60)"
    )
    parser.add_argument("--protocol", choices=("rest", "grpc"), default="rest")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the same as JSON")
    parser.add_argument(
        "--serve", nargs=argparse.REMAINDER, default=[], help="last: more options for serve.py"
    )
    arguments = parser.parse_args()
    if min(arguments.concurrency) < 1 or not arguments.seconds > 0:
        raise UserError("--concurrency and --seconds must be above 0.")
    folder = arguments.model
    versions = [p.name for p in folder.glob("*") if p.name.isdecimal()]
    if not versions:
        raise UserError(f"--model must be a folder with numbered SavedModels. {folder} is not.")
    if not arguments.audio.is_file():
        raise UserError(f"--audio must be a file. {arguments.audio} is not one.")
    if arguments.out:
        check_writable(arguments.out)
    wav = arguments.audio.read_bytes()
    version = folder / max(versions, key=int)
    print(f"Calls {version} directly for {arguments.seconds:g} s ...", file=sys.stderr)
    rows = [measure_direct(version, wav, arguments.seconds)]
    print(f"Serves it to {arguments.concurrency} clients ...", file=sys.stderr)
    rows += measure_server(
        folder, wav, arguments.protocol, arguments.concurrency, arguments.seconds, arguments.serve
    )
    add_overhead(rows)
    print(markdown_table(rows, _COLUMNS))
    if arguments.out:
        about = {key: str(value) for key, value in vars(arguments).items()}
        document = {"settings": about, "cpus": os.cpu_count(), "levels": rows}
        atomic_write_text(arguments.out, json.dumps(document, indent=1) + "\n")
        print(f"Wrote {arguments.out}.")


def measure_direct(version: Path, wav: bytes, seconds: float) -> dict:
    """Calls a SavedModel with a WAV file for so long; a row of `measure_level`, with 0 clients.

    Raises:
        UserError: if it has no signature `wav`, or that refuses the file.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(version))
    if "wav" not in model.signatures:
        raise UserError(f"--model must have a signature `wav`. {version} has none.")

    def send() -> bool:
        model.signatures["wav"](wav=tf.constant(wav))
        return True

    try:
        for _ in range(2):
            send()
    except tf.errors.OpError as error:
        reason = " ".join(error.message.split())
        raise UserError(f"--audio must suit the model. It says: {reason:.200}") from None
    return measure_level(lambda: send, 1, seconds) | {"clients": 0}


def measure_server(
    folder: Path,
    wav: bytes,
    protocol: str,
    concurrency: list[int],
    seconds: float,
    options: list[str],
) -> list[dict]:
    """Starts a server and measures it with each number of clients in turn.

    Args:
        folder: of the model's versions.
        wav: the file that all clients send.
        protocol: "rest" or "grpc".
        concurrency: numbers of clients.
        seconds: for each number.
        options: more options for `rfcx-tf serve`.

    Returns:
        A row of `measure_level` for each number.

    Raises:
        UserError: if the server does not start or refuses the recording.
    """
    command = [sys.executable, str(SERVE), "--model", str(folder), "--name", "model"]
    command += ["--rest-port", "0", "--grpc-port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            # A server that cannot start exits, which ends its output.
            lines = (re.match(r"REST (\S+)\s+gRPC (\S+)", line) for line in process.stdout)
            found = next((match for match in lines if match), None)
            if not found:
                raise UserError("The server did not start; see its message above.")
            if protocol == "rest":
                make_client = rest_clients(f"{found[1]}:predict", wav)
            else:
                make_client = grpc_clients(found[2], wav)
            if not make_client()():
                raise UserError("The server refused the recording; see its log above.")
            return [
                measure_level(make_client, clients, seconds, process.pid) for clients in concurrency
            ]
        finally:
            process.terminate()


def measure_level(
    make_client: Callable[[], Send], clients: int, seconds: float, server_id: int | None = None
) -> dict:
    """Lets so many clients send for so long.

    Args:
        make_client: called by every client's thread.
        clients: their number.
        seconds: after which no request begins.
        server_id: the server's process, whose memory is watched; None: none.

    Returns:
        clients; requests and errors (those without success); requests_per_s, median_s and p99_s
        of the requests (None without any); early_mib, highest_mib and end_mib: the server's
        resident memory after the first tenth of the time, at its highest, and at the end.
    """
    stop = threading.Event()

    def client() -> tuple[list[float], int]:
        send, times_s, errors = make_client(), [], 0
        while not stop.is_set():
            sent_s = time.perf_counter()
            if send():
                times_s.append(time.perf_counter() - sent_s)
            else:
                errors += 1
                # A refusal comes at once; do not make a busy loop of it.
                time.sleep(0.05)
        return times_s, errors

    memory_mib = []
    began_s = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(client) for _ in range(clients)]
        try:
            while time.perf_counter() < began_s + seconds:
                memory_mib += [resident_mib(server_id)] if server_id else []
                time.sleep(seconds / 100)
        finally:
            stop.set()
    elapsed_s = time.perf_counter() - began_s
    results = [future.result() for future in futures]
    times_s = [s for own_s, _ in results for s in own_s]
    median_s, p99_s = np.percentile(times_s, [50, 99]).tolist() if times_s else (None, None)
    row = {
        "clients": clients,
        "requests": len(times_s),
        "errors": sum(errors for _, errors in results),
        "requests_per_s": len(times_s) / elapsed_s,
        "median_s": median_s,
        "p99_s": p99_s,
    }
    if server_id:
        row["early_mib"] = memory_mib[len(memory_mib) // 10]
        row["highest_mib"], row["end_mib"] = max(memory_mib), memory_mib[-1]
    return row


def rest_clients(url: str, wav: bytes) -> Callable[[], Send]:
    """Clients that send a WAV file to TensorFlow Serving's REST API."""
    parts = urllib.parse.urlsplit(url)
    text = {"b64": base64.b64encode(wav).decode("ascii")}
    body = json.dumps({"signature_name": "wav", "inputs": text}).encode()

    def make_client() -> Send:
        connection = http.client.HTTPConnection(parts.netloc)

        def send() -> bool:
            try:
                connection.request("POST", parts.path, body)
                response = connection.getresponse()
                response.read()
                return response.status == 200
            except (OSError, http.client.HTTPException):
                connection.close()
                return False

        return send

    return make_client


def grpc_clients(address: str, wav: bytes) -> Callable[[], Send]:
    """Clients that send a WAV file to TensorFlow Serving's gRPC API."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    stub = PredictionServiceStub(grpc.insecure_channel(address, unlimited))
    request = PredictRequest()
    request.model_spec.name = "model"
    request.model_spec.signature_name = "wav"
    request.inputs["wav"].CopyFrom(tf.make_tensor_proto(wav))

    def send() -> bool:
        try:
            stub.Predict(request)
        except grpc.RpcError:
            return False
        return True

    return lambda: send


def resident_mib(process_id: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def add_overhead(rows: list[dict]) -> None:
    """Adds overhead_percent to rows of `measure_level`, of which the first is the direct one.

    It is how much more time a request takes than calling the model directly, and below 0 where the
    server joins requests.
    """
    for row in rows[1:]:
        if row["requests"]:
            ratio = rows[0]["requests_per_s"] / row["requests_per_s"]
            row["overhead_percent"] = 100 * (ratio - 1)


if __name__ == "__main__":
    sys.exit(exit_status(main))
