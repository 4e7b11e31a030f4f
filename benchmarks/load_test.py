"""How much a server adds to the model: requests a second, latency and memory under load.

A closed loop: each of so many clients sends the same recording again as soon as it has its answer.
The server runs in a process of its own, `scripts/serve.py`, with its memory read from its metrics.
The same model is first called directly in this process, one recording after the other.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import grpc
import numpy as np
import soundfile
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from rfcx_tf.core.errors import UserError
from rfcx_tf.serving.server.model import ServedModel

SERVE = Path(__file__).resolve().parents[1] / "scripts" / "serve.py"
_MEMORY = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Level:
    """What was measured with one number of clients.

    Attributes:
        clients: requests at once; 0: the model, called directly.
        requests, errors: answered with success, and otherwise.
        requests_per_s, median_s, p99_s: of the successful ones.
        overhead_percent: time a request more than calling the model directly takes, so
            100 * (direct requests_per_s / requests_per_s - 1); below 0 where joining helps.
        memory_mib: the server's resident memory after the first tenth of the time, at its highest,
            and at the end.
    """

    clients: int
    requests: int
    errors: int
    requests_per_s: float
    median_s: float
    p99_s: float
    overhead_percent: float
    memory_mib: tuple[float, float, float] | None


@dataclass(frozen=True)
class Recording:
    """One recording as the input of a signature.

    Attributes:
        signature: its name.
        name: of the input.
        value: float32 [1, samples], or the bytes of a WAV file as an object array [] or [1].
    """

    signature: str
    name: str
    value: np.ndarray


def make_recording(
    model: ServedModel,
    signature: str | None,
    audio: Path | None,
    length_s: float,
    rate_hz: int | None,
) -> Recording:
    """The request that is sent: a file, or noise of a length, as the signature takes it.

    Args:
        model: the model that will be served.
        signature: None: `wav` where the model has it, else `serving_default`.
        audio: a WAV file for a signature of bytes, any sound file for one of waveforms.
        length_s: of the noise.
        rate_hz: sample rate; None: what the signature `about` says.

    Raises:
        UserError: if the model has no such signature, or it takes something else.
    """
    if signature is None:
        signature = "wav" if "wav" in model.signatures else "serving_default"
    if signature not in model.signatures:
        raise UserError(
            f"--signature must be one of the model's. Received: {signature}; the model has "
            f"{', '.join(sorted(model.signatures))}."
        )
    specs = model.inputs(signature)
    name, spec = next(iter(specs.items()))
    if len(specs) > 1 or spec.dtype not in (np.dtype(object), np.dtype(np.float32)):
        raise UserError(
            "--signature must take a waveform or a WAV file. "
            f"{signature} takes {', '.join(sorted(specs))}."
        )
    if audio is None:
        rate_hz = rate_hz or _rate_of(model)
        noise = np.random.default_rng(0).normal(0, 0.05, int(length_s * rate_hz))
        waveform = noise.astype(np.float32)
    else:
        waveform, rate_hz = soundfile.read(audio, dtype="float32", always_2d=True)
        waveform = waveform.mean(axis=1)
    if spec.dtype == np.float32:
        return Recording(signature, name, waveform[None])
    file = io.BytesIO()
    soundfile.write(file, waveform, rate_hz, format="WAV", subtype="PCM_16")
    value = np.empty((), dtype=object)
    value[()] = file.getvalue()
    return Recording(signature, name, value if spec.shape == () else value[None])


def measure_direct(model: ServedModel, recording: Recording, seconds: float) -> Level:
    """Calls the model in this process for so long, after two calls that do not count."""
    times_s = []
    inputs = {recording.name: recording.value}
    for _ in range(2):
        model.run(recording.signature, inputs)
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or not times_s:
        begin_s = time.perf_counter()
        model.run(recording.signature, inputs)
        times_s.append(time.perf_counter() - begin_s)
    return _level(0, times_s, 0, sum(times_s), None, None)


async def measure_server(
    folder: Path,
    recording: Recording,
    protocol: str,
    clients: list[int],
    seconds: float,
    direct: Level,
    options: list[str],
) -> list[Level]:
    """Starts a server and measures it with each number of clients in turn.

    Args:
        folder: of the model's versions.
        recording: what all clients send.
        protocol: "rest" or "grpc".
        clients: numbers of clients.
        seconds: for each number.
        direct: what `measure_direct` found.
        options: more options for `scripts/serve.py`.

    Raises:
        UserError: if the server does not start.
    """
    command = [sys.executable, str(SERVE), "--model", str(folder), "--name", "model"]
    command += ["--rest-port", "0", "--grpc-port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url, address = await asyncio.to_thread(_wait_for_addresses, process)
        unlimited = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        message = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with (
            aiohttp.ClientSession(connector=connector, timeout=unlimited) as session,
            grpc.aio.insecure_channel(address, options=message) as channel,
        ):
            if protocol == "rest":
                send = _rest_client(session, f"{url}:predict", recording)
            else:
                send = _grpc_client(channel, recording)
            for _ in range(2):
                if not await send():
                    raise UserError("The server refused the recording; see its log above.")
            metrics_url = url.replace("/v1/models/model", "/metrics")
            levels = []
            for number in clients:
                level = await _measure_level(send, session, metrics_url, number, seconds, direct)
                levels.append(level)
            return levels
    finally:
        process.terminate()
        process.wait()


def markdown_table(levels: list[Level]) -> str:
    """The levels as a table."""
    lines = [
        "| clients | requests | errors | requests/s | median s | 99th percentile s | overhead | "
        "memory MiB: early, highest, end |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level in levels:
        name = str(level.clients) if level.clients else "model called directly"
        overhead = f"{level.overhead_percent:+.1f} %" if level.clients else ""
        memory = ", ".join(f"{value:.0f}" for value in level.memory_mib or ())
        lines.append(
            f"| {name} | {level.requests} | {level.errors} | {level.requests_per_s:.2f} | "
            f"{level.median_s:.3f} | {level.p99_s:.3f} | {overhead} | {memory} |"
        )
    return "\n".join(lines)


def as_document(levels: list[Level], **about) -> str:
    """The levels as JSON, with what else is worth keeping."""
    return json.dumps({**about, "levels": [asdict(level) for level in levels]}, indent=1) + "\n"


def _rate_of(model: ServedModel) -> int:
    if "about" in model.signatures:
        outputs = model.run("about", {"samples": np.asarray(1, np.int32)})
        if "sample_rate_hz" in outputs:
            return int(outputs["sample_rate_hz"])
    raise UserError("The model does not say its sample rate. Name it: --sample-rate HZ.")


def _wait_for_addresses(process: subprocess.Popen) -> tuple[str, str]:
    # The end of its output also ends this: a server that cannot start exits.
    for line in process.stdout:
        found = re.match(r"REST (\S+)\s+gRPC (\S+)", line)
        if found:
            return found[1], found[2]
    raise UserError("The server did not start; see its message above.")


def _rest_client(
    session: aiohttp.ClientSession, url: str, recording: Recording
) -> Callable[[], Awaitable[bool]]:
    value = recording.value
    if value.dtype == object:
        text = {"b64": base64.b64encode(value.ravel()[0]).decode("ascii")}
        value_json = [text] if value.ndim else text
    else:
        # Five decimals: what 16 bits hold.
        value_json = np.round(value.astype(np.float64), 5).tolist()
    body = json.dumps({"signature_name": recording.signature, "inputs": value_json}).encode()

    async def send() -> bool:
        async with session.post(url, data=body) as response:
            await response.read()
            return response.status == 200

    return send


def _grpc_client(channel: grpc.aio.Channel, recording: Recording) -> Callable[[], Awaitable[bool]]:
    stub = PredictionServiceStub(channel)
    request = PredictRequest()
    request.model_spec.name = "model"
    request.model_spec.signature_name = recording.signature
    request.inputs[recording.name].CopyFrom(tf.make_tensor_proto(recording.value))

    async def send() -> bool:
        try:
            await stub.Predict(request)
        except grpc.aio.AioRpcError:
            return False
        return True

    return send


async def _measure_level(
    send: Callable[[], Awaitable[bool]],
    session: aiohttp.ClientSession,
    metrics_url: str,
    clients: int,
    seconds: float,
    direct: Level,
) -> Level:
    times_s: list[float] = []
    errors = 0
    begin_s = time.perf_counter()
    end_s = begin_s + seconds

    async def client() -> None:
        nonlocal errors
        while time.perf_counter() < end_s:
            sent_s = time.perf_counter()
            if await send():
                times_s.append(time.perf_counter() - sent_s)
            else:
                errors += 1
                # A refusal comes at once; do not make a busy loop of it.
                await asyncio.sleep(0.05)

    memory: list[tuple[float, float]] = []

    async def watch_memory() -> None:
        while True:
            async with session.get(metrics_url) as response:
                found = _MEMORY.search(await response.text())
            memory.append((time.perf_counter() - begin_s, float(found[1]) / 2**20))
            await asyncio.sleep(min(1.0, seconds / 20))

    watcher = asyncio.create_task(watch_memory())
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed_s = time.perf_counter() - begin_s
    watcher.cancel()
    early = [mib for at_s, mib in memory if at_s >= seconds / 10] or [memory[-1][1]]
    shown = early[0], max(mib for _, mib in memory), memory[-1][1]
    return _level(clients, times_s, errors, elapsed_s, direct, shown)


def _level(clients, times_s, errors, elapsed_s, direct, memory_mib) -> Level:
    rate = len(times_s) / elapsed_s
    overhead = 0.0
    if direct is not None:
        overhead = 100 * (direct.requests_per_s / rate - 1) if rate else float("inf")
    median_s, p99_s = np.percentile(times_s, [50, 99]) if times_s else (float("nan"),) * 2
    return Level(
        clients=clients,
        requests=len(times_s),
        errors=errors,
        requests_per_s=rate,
        median_s=float(median_s),
        p99_s=float(p99_s),
        overhead_percent=overhead,
        memory_mib=memory_mib,
    )
