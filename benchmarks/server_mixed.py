"""Holds the local server under mixed load for minutes, while versions of its model come and go.

    python benchmarks/server_mixed.py --seconds 600 --out mixed.json

The model is a small one that says the mean of its sound and its version, so that every answer can
be checked. Clients send waveforms as JSON, WAV files and gRPC requests, wrong requests of several
kinds, and bodies that come slower than the server waits for. Every 20 s a new version appears in
the model's folder, and the one before goes. It prints a table in Markdown: requests by kind,
answers that were wrong, requests that failed (wrong ones: had no status of 4xx; slow ones: were not
ended) or took longer than the server's --timeout, and the server's memory.
"""

import argparse
import base64
import collections
import http.client
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile

from benchmarks.report import markdown_table
from benchmarks.server_load import SERVE, resident_mib
from rfcx_tf.cli.main import Parser, exit_status
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text, check_writable

_TIMEOUT_S, _READ_TIMEOUT_S, _VERSION_S = 10, 5, 20
# Clients wait so long between two requests: others work on this machine as well.
_PAUSE_S = 0.1
_SAMPLES, _RATE_HZ = 4000, 8000
_COLUMNS = {
    "kind": ("requests", "s"),
    "sent": ("sent", "d"),
    "answered": ("answered as they should be", "d"),
    "wrong": ("wrong answers", "d"),
    "failed": ("failed", "d"),
    "late": ("later than the time-out", "d"),
    "median_s": ("median s", ".3f"),
    "highest_s": ("longest s", ".2f"),
}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="default 600")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the same as JSON")
    arguments = parser.parse_args()
    if not arguments.seconds > 0:
        raise UserError("--seconds must be above 0.")
    if arguments.out:
        check_writable(arguments.out)
    with tempfile.TemporaryDirectory(prefix="rfcx-mixed-") as folder:
        rows, memory = measure(Path(folder) / "model", arguments.seconds)
    print(markdown_table(rows, _COLUMNS))
    print("Memory:", ", ".join(f"{mib:.0f} MiB after {s:.0f} s" for s, mib in memory.items()))
    print("Load of the machine (1, 5, 15 minutes):", *(f"{load:.1f}" for load in os.getloadavg()))
    if arguments.out:
        atomic_write_text(arguments.out, json.dumps({"rows": rows, "memory": memory}) + "\n")


def measure(folder: Path, seconds: float) -> tuple[list[dict], dict[float, float]]:
    """Serves versions of a model from a folder under load for so long.

    Returns:
        A row of `_COLUMNS` for each kind of request; resident MiB by seconds.
    """
    folder.mkdir()
    write_version(folder, 1)
    command = [sys.executable, str(SERVE), "--model", str(folder), "--name", "model"]
    command += ["--rest-port", "0", "--grpc-port", "0", "--poll", "1"]
    command += ["--timeout", str(_TIMEOUT_S), "--read-timeout", str(_READ_TIMEOUT_S)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            lines = (re.match(r"REST (\S+)\s+gRPC (\S+)", line) for line in process.stdout)
            found = next((match for match in lines if match), None)
            if not found:
                raise UserError("The server did not start.")
            url = urllib.parse.urlsplit(f"{found[1]}:predict")
            return _load(folder, url, found[2], seconds, process.pid)
        finally:
            process.terminate()


def write_version(folder: Path, number: int) -> None:
    """Writes a model that gives the mean of each row of its waveforms, and its number."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "waveform")])
        def score(self, waveform):
            mean = tf.reduce_mean(waveform, axis=1)
            return {"scores": tf.stack([mean, tf.fill(tf.shape(mean), float(number))], axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, "wav")])
        def wav(self, wav):
            return self.score(tf.transpose(tf.audio.decode_wav(wav).audio))

    model, temporary = Model(), folder.with_name("new")
    tf.saved_model.save(model, str(temporary), {"serving_default": model.score, "wav": model.wav})
    temporary.rename(folder / str(number))


def _load(
    folder: Path, url: urllib.parse.SplitResult, grpc_address: str, seconds: float, server_id: int
) -> tuple[list[dict], dict[float, float]]:
    stop = threading.Event()
    kinds: dict[str, Callable] = {
        "waveforms, JSON": json_client(url),
        "WAV files": wav_client(url),
        "gRPC": grpc_client(grpc_address),
        "wrong requests": wrong_client(url),
        "slow bodies": slow_client(url),
    }
    counts = {kind: collections.Counter() for kind in kinds}
    times_s: dict[str, list[float]] = {kind: [] for kind in kinds}
    newest = [1]

    def client(kind: str, number: int) -> None:
        numbers = random.Random(f"{kind} {number}")
        while not stop.wait(_PAUSE_S):
            oldest, began_s = newest[0] - 1, time.perf_counter()
            try:
                verdict = kinds[kind](numbers, oldest)
            except Exception as error:
                verdict = "failed"
                print(f"{kind}: {error!r}", file=sys.stderr)
            took_s = time.perf_counter() - began_s
            times_s[kind].append(took_s)
            counts[kind][verdict] += 1
            counts[kind]["late"] += kind != "slow bodies" and took_s > _TIMEOUT_S

    threads = [
        threading.Thread(target=client, args=(kind, number), daemon=True)
        for kind in kinds
        for number in range(2)
    ]
    began_s, memory = time.perf_counter(), {}
    for thread in threads:
        thread.start()
    moments = [seconds * part for part in (0.1, 0.5, 1.0)]
    next_version_s = _VERSION_S
    while (passed_s := time.perf_counter() - began_s) < seconds:
        if passed_s >= moments[len(memory)]:
            memory[moments[len(memory)]] = resident_mib(server_id)
        if passed_s >= next_version_s:
            next_version_s += _VERSION_S
            write_version(folder, newest[0] + 1)
            newest[0] += 1
            # Its answers may still come while the new one is loaded, but not its files.
            shutil.rmtree(folder / str(newest[0] - 1))
        time.sleep(0.2)
    memory[moments[2]] = resident_mib(server_id)
    stop.set()
    for thread in threads:
        thread.join()
    rows = []
    for kind, count in counts.items():
        row = {"kind": kind, "sent": len(times_s[kind])}
        row |= {name: count[name] for name in ("answered", "wrong", "failed", "late")}
        rows.append(row | {"median_s": np.median(times_s[kind]), "highest_s": max(times_s[kind])})
    print(f"{newest[0]} versions.", file=sys.stderr)
    return rows, memory


def _sound(numbers: random.Random) -> np.ndarray:
    """A waveform with a mean of its own."""
    level = numbers.uniform(-0.4, 0.4)
    noise = np.random.default_rng(numbers.randrange(2**32)).uniform(-0.5, 0.5, _SAMPLES)
    return np.float32(level + noise)


def _verdict(found, expected: float, oldest: int, tolerance: float = 1e-5) -> str:
    """Whether an answer [[mean, version]] is the sound's, by a version that may answer."""
    ((mean, version),) = np.asarray(found).tolist()
    # The one before answers until the new one is loaded.
    return "answered" if abs(mean - expected) < tolerance and version >= oldest else "wrong"


def _post(url: urllib.parse.SplitResult, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request("POST", url.path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def json_client(url: urllib.parse.SplitResult) -> Callable:
    """Sends waveforms as JSON, by rows or by columns."""

    def send(numbers: random.Random, oldest: int) -> str:
        sound = _sound(numbers)
        key, out = numbers.choice((("instances", "predictions"), ("inputs", "outputs")))
        status, body = _post(url, json.dumps({key: [sound.tolist()]}).encode())
        if status != 200:
            return _failed(status, body)
        return _verdict(json.loads(body)[out], sound.mean(), oldest)

    return send


def wav_client(url: urllib.parse.SplitResult) -> Callable:
    """Sends WAV files in base64."""

    def send(numbers: random.Random, oldest: int) -> str:
        sound, file = _sound(numbers), io.BytesIO()
        soundfile.write(file, sound, _RATE_HZ, "PCM_16", format="WAV")
        text = {"b64": base64.b64encode(file.getvalue()).decode()}
        status, body = _post(url, json.dumps({"signature_name": "wav", "inputs": text}).encode())
        if status != 200:
            return _failed(status, body)
        return _verdict(json.loads(body)["outputs"], sound.mean(), oldest, 1e-4)

    return send


def grpc_client(address: str) -> Callable:
    """Sends waveforms by gRPC."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

    stub = PredictionServiceStub(grpc.insecure_channel(address))

    def send(numbers: random.Random, oldest: int) -> str:
        sound, request = _sound(numbers), PredictRequest()
        request.model_spec.name = "model"
        request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(sound[np.newaxis]))
        found = stub.Predict(request, timeout=60).outputs["scores"]
        return _verdict(tf.make_ndarray(found), sound.mean(), oldest)

    return send


def wrong_client(url: urllib.parse.SplitResult) -> Callable:
    """Sends what has to be refused with a status of 4xx and a line."""
    sound = [0.0] * 10
    bodies = [
        b"",
        b"{",
        b"[1, 2]",
        b'{"instances": 1',
        json.dumps({"instances": [sound, sound[:5]]}).encode(),
        json.dumps({"instances": ["text"]}).encode(),
        json.dumps({"instances": [sound], "signature_name": "none"}).encode(),
        json.dumps({"signature_name": "wav", "inputs": {"b64": "UklGRg=="}}).encode(),
        json.dumps({"signature_name": "wav", "inputs": {"b64": "%%%"}}).encode(),
        b"\xff" * 1000,
        b"[" * 100_000,
    ]

    def send(numbers: random.Random, oldest: int) -> str:
        status, body = _post(url, numbers.choice(bodies))
        is_refused = 400 <= status < 500 and isinstance(json.loads(body)["error"], str)
        return "answered" if is_refused else _failed(status, body)

    return send


def slow_client(url: urllib.parse.SplitResult) -> Callable:
    """Promises a megabyte and sends a byte a second, or nothing; the server has to end it."""

    def send(numbers: random.Random, oldest: int) -> str:
        with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
            head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            connection.sendall(head.encode())
            drips, began_s = numbers.random() < 0.5, time.perf_counter()
            connection.settimeout(1)
            while time.perf_counter() < began_s + 6 * _READ_TIMEOUT_S:
                try:
                    if drips:
                        connection.sendall(b"[")
                    answer = connection.recv(4096)
                except TimeoutError:
                    continue
                except OSError:
                    return "answered"
                is_end = not answer or re.match(rb"HTTP/1.1 4\d\d", answer)
                return "answered" if is_end else _failed(0, answer)
        return "failed"

    return send


def _failed(status: int, body: bytes) -> str:
    print(f"{status}: {body[:200]!r}", file=sys.stderr)
    return "failed"


if __name__ == "__main__":
    sys.exit(exit_status(main))
