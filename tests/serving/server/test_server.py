"""scripts/serve.py as its clients see it: real processes, HTTP and gRPC."""

import asyncio
import base64
import gzip
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from rfcx_tf.core.errors import UserError
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.run import ServerOptions, serve
from rfcx_tf.serving.server.versions import Versions

ROOT = Path(__file__).resolve().parents[3]
WAVEFORM = np.random.default_rng(0).normal(0, 0.2, (1, 500)).astype(np.float32)


def expected_outputs(waveform, scale=1.0):
    """What the tiny model gives, by NumPy."""
    frames = waveform.reshape(len(waveform), -1, 100)
    kinds = [frames.mean(axis=2), frames.max(axis=2), frames.min(axis=2)]
    windows = np.stack(kinds, axis=2) * scale
    start_s = np.arange(frames.shape[1]) / 10
    return {"scores": windows.max(axis=1), "window_scores": windows, "window_start_s": start_s}


def assert_outputs(outputs, expected):
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, rtol=1e-5, atol=1e-7)


class Server:
    """A server in a process of its own."""

    def __init__(self, folder, *options):
        command = [sys.executable, str(ROOT / "scripts" / "serve.py"), "--model", str(folder)]
        command += ["--rest-port", "0", "--grpc-port", "0", "--poll", "0.2", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines = [self.process.stdout.readline() for _ in range(4)]
        found = re.match(r"REST (http://(\S+):(\d+))\S+\s+gRPC (\S+)", lines[1])
        self.example = lines[2].removeprefix("Try: ")
        self.url, self.host, self.port, self.grpc_address = found.groups()
        self.model = f"{self.url}/v1/models/{folder.name}"
        self._log = []
        threading.Thread(target=lambda: self._log.extend(self.process.stderr), daemon=True).start()

    @property
    def log(self):
        return "".join(self._log)

    def predict(self, **document):
        return self.post(f"{self.model}:predict", json.dumps(document).encode())

    def post(self, url, body, **headers):
        return _open(urllib.request.Request(url, body, headers, method="POST"))

    def get(self, path):
        return _open(self.url + path)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=600)


def _open(request):
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except json.JSONDecodeError:
        return status, text.decode()


def wav_bytes(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, 1000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tiny_model_folder, tmp_path_factory):
    """Of the versions that are served: number 1, until the last test that asks the server."""
    folder = tmp_path_factory.mktemp("versions") / "tiny"
    shutil.copytree(tiny_model_folder / "1", folder / "1")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """A server that waits for ever, so that a slow machine changes no answer."""
    server = Server(folder, "--max-body-mib", "2", "--read-timeout", "600", "--timeout", "600")
    yield server
    if server.process.poll() is None:
        assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def impatient_server(tiny_model_folder):
    """A server that gives up after a second. Its workers go on with what was given up."""
    server = Server(tiny_model_folder, "--read-timeout", "1", "--timeout", "1")
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


def request_of(signature="serving_default", name="tiny", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture(params=["rest", "grpc"])
def predict(request, server, channel):
    """Asks by either protocol and returns (HTTP status or gRPC code, outputs or message)."""

    def rest(signature, **inputs):
        status, document = server.predict(
            signature_name=signature,
            inputs={
                name: {"b64": base64.b64encode(value).decode()}
                if isinstance(value, bytes)
                else np.asarray(value).tolist()
                for name, value in inputs.items()
            },
        )
        return status, document.get("outputs", document.get("error"))

    def by_grpc(signature, **inputs):
        try:
            response = PredictionServiceStub(channel).Predict(request_of(signature, **inputs))
        except grpc.RpcError as error:
            return error.code(), error.details()
        return 200, {key: tf.make_ndarray(value) for key, value in response.outputs.items()}

    return {"rest": rest, "grpc": by_grpc}[request.param]


def is_bad_request(status):
    return status in (400, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


def test_predict(predict):
    status, outputs = predict("serving_default", waveform=WAVEFORM)
    assert status == 200
    assert_outputs(outputs, expected_outputs(WAVEFORM))


def test_predict_wav(predict):
    samples = (WAVEFORM * 2**15).astype(np.int16)
    status, outputs = predict("wav", wav=wav_bytes(samples[0]))
    assert status == 200
    assert_outputs(outputs, expected_outputs(samples.astype(np.float32) / 2**15))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_example_that_is_printed(server, tmp_path):
    # Longer than an argument may be.
    samples = np.tile((WAVEFORM[0] * 2**15).astype(np.int16), 300)
    (tmp_path / "a minute.wav").write_bytes(wav_bytes(samples))
    command = server.example.replace("FILE.wav", str(tmp_path / "a minute.wav"))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=600)
    expected = expected_outputs(samples[None].astype(np.float32) / 2**15)
    assert_outputs(json.loads(done.stdout)["outputs"], expected)


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("serving_default", {"waveform": np.float32([1, 2])}, "rank 2. Received: .2., rank 1"),
        ("serving_default", {"waveform": np.float32([[np.nan, 1]])}, "finite"),
        ("serving_default", {"waveform": np.float32([[-np.inf, 1]])}, "finite"),
        ("serving_default", {"waveform": [["a"]]}, "float32"),
        ("serving_default", {"sound": np.float32([[1]])}, "waveform"),
        ("wav", {"wav": b"this is text"}, "RIFF"),
        ("missing", {"waveform": np.float32([[1]])}, '"missing" not found'),
    ],
)
def test_bad_requests(predict, signature, inputs, words):
    status, message = predict(signature, **inputs)
    assert is_bad_request(status)
    assert re.search(words, message)
    assert "\n" not in message
    assert predict("serving_default", waveform=WAVEFORM)[0] == 200


def test_rest_rows(server):
    assert server.predict(signature_name="texts", instances=["a", {"b64": "/w=="}]) == (
        200,
        {
            "predictions": [
                {"lengths": 1, "raw_bytes": {"b64": "YQ=="}},
                {"lengths": 1, "raw_bytes": {"b64": "/w=="}},
            ]
        },
    )
    alone = server.predict(signature_name="texts", inputs="a")[1]["outputs"]
    assert alone == {"lengths": 1, "raw_bytes": {"b64": "YQ=="}}
    status, document = server.predict(instances=WAVEFORM.tolist())
    assert status == 400
    assert "inconsistent batch size" in document["error"]
    assert "'inputs'" in document["error"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/other:predict", 404, r"Servable not found for request: Latest\(other\)"),
        ("/v1/models/tiny/versions/7:predict", 404, r"Specific\(tiny, 7\)"),
        ("/v1/models/tiny/labels/new:predict", 400, "Unrecognized servable version label: new"),
        ("/v1/models/tiny/versions/99999999999999999999:predict", 400, "to numeric"),
        (f"/v1/models/tiny/versions/{'9' * 5000}:predict", 400, "to numeric"),
        (f"/v1/models/tiny/versions/{'0' * 5000}7:predict", 404, r"Specific\(tiny, 7\)"),
        ("/v1/models/tiny:classify", 501, ":predict"),
        ("/v1/models/tiny", 400, "Malformed request: POST /v1/models/tiny"),
        ("/v2", 404, "Not Found"),
    ],
)
def test_rest_addresses(server, path, status, words):
    found, document = server.post(server.url + path, b'{"inputs": [[1.0]]}')
    assert found == status
    assert re.search(words, document["error"])


def test_rest_packed_bodies(server):
    def post(body, encoding):
        return server.post(f"{server.model}:predict", body, **{"Content-Encoding": encoding})

    body = json.dumps({"inputs": WAVEFORM.tolist()}).encode()
    assert post(gzip.compress(body), "gzip") == server.post(f"{server.model}:predict", body)
    assert post(body, "identity")[0] == 200
    assert post(gzip.compress(bytes(3 * 2**20)), "gzip")[0] == 413
    assert post(gzip.compress(body)[:-9], "gzip")[0] == 400
    status, document = post(body, "br")
    assert (status, "gzip or deflate" in document["error"]) == (400, True)


def test_rest_explicit_version(server):
    body = json.dumps({"inputs": WAVEFORM.tolist()}).encode()
    assert server.post(f"{server.url}/V1/Models/tiny/versions/1:predict", body)[0] == 200


def test_rest_status(server):
    expected = {"version": "1", "state": "AVAILABLE"}
    expected["status"] = {"error_code": "OK", "error_message": ""}
    for path in ("/v1/models/tiny", "/v1/models/tiny/versions/1"):
        assert server.get(path) == (200, {"model_version_status": [expected]})
    assert server.get("/v1/models/other") == (
        404,
        {"error": "Could not find any versions of model other"},
    )
    assert server.get("/v1/models/tiny/versions/3")[0] == 404


def test_metadata_is_the_saved_models_own(server, channel):
    status, document = server.get("/v1/models/tiny/metadata")
    assert status == 200
    assert document["model_spec"] == {"name": "tiny", "signature_name": "", "version": "1"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    waveform = signatures["serving_default"]["inputs"]["waveform"]
    assert waveform["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in waveform["tensor_shape"]["dim"]] == ["-1", "-1"]
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "tiny"
    request.metadata_field.append("signature_def")
    response = PredictionServiceStub(channel).GetModelMetadata(request)
    by_grpc = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(by_grpc)
    assert by_grpc.signature_def.keys() == signatures.keys()
    request.metadata_field[0] = "other"
    with pytest.raises(grpc.RpcError, match="other is not supported"):
        PredictionServiceStub(channel).GetModelMetadata(request)


def test_grpc_status_and_unknown_model(channel):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tiny"
    (state,) = ModelServiceStub(channel).GetModelStatus(request).model_version_status
    assert (state.version, state.state, state.status.error_code) == (1, state.AVAILABLE, 0)
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(request_of(name="other", waveform=WAVEFORM))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(predict_pb2.PredictRequest())
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_values_lie_in_their_fields_and_the_filter_is_kept(channel):
    request = request_of(waveform=WAVEFORM)
    request.output_filter.append("scores")
    response = PredictionServiceStub(channel).Predict(request)
    assert list(response.outputs) == ["scores"]
    expected = expected_outputs(WAVEFORM)["scores"]
    np.testing.assert_allclose(response.outputs["scores"].float_val, expected[0], rtol=1e-5)
    assert response.model_spec.version.value == 1
    for names in (["nothing"], ["scores", "scores"]):
        del request.output_filter[:]
        request.output_filter.extend(names)
        with pytest.raises(grpc.RpcError) as raised:
            PredictionServiceStub(channel).Predict(request)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_tensor_that_claims_more_than_it_holds(channel):
    request = request_of(waveform=WAVEFORM)
    tensor = request.inputs["waveform"]
    for size, content in ((2**40, b"\0" * 4), (500, b"\0" * 5)):
        tensor.tensor_shape.dim[1].size, tensor.tensor_content = size, content
        with pytest.raises(grpc.RpcError, match="not a whole tensor") as raised:
            PredictionServiceStub(channel).Predict(request)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("kind", "name"), [(9999, "type 9999"), (0, "DT_INVALID"), (20, "DT_RESOURCE"), (3, "DT_INT32")]
)
def test_grpc_tensors_of_other_types(channel, kind, name):
    request = request_of(waveform=WAVEFORM)
    request.inputs["waveform"].dtype = kind
    with pytest.raises(grpc.RpcError, match=f"of type float32. Received: {name}") as raised:
        PredictionServiceStub(channel).Predict(request)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["Prediction", "Model"])
def test_grpc_messages_that_are_no_requests(channel, method):
    call = f"/tensorflow.serving.{method}Service/"
    call += "Predict" if method == "Prediction" else "GetModelStatus"
    with pytest.raises(grpc.RpcError, match="The message is no") as raised:
        channel.unary_unary(call)(b"\xff" * 100)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError, match="no message") as raised:
        channel.stream_unary(call)(iter([]))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_too_large(server, channel):
    # More than the socket's buffers hold, so that the client would notice a closed connection.
    status, document = server.post(f"{server.model}:predict", b" " * 40_000_000)
    assert status == 413
    assert "40000000" in document["error"]
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(
            request_of(waveform=np.zeros((1, 1_000_000), np.float32))
        )
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


UNFINISHED = b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{"


def test_clients_that_hang_hold_nobody_up(server):
    hanging = [socket.create_connection((server.host, int(server.port))) for _ in range(70)]
    for number, connection in enumerate(hanging):
        # Some do not even end their headers. There are more of them than requests may wait.
        connection.sendall(UNFINISHED if number else UNFINISHED[:20])
    assert server.predict(inputs=WAVEFORM.tolist())[0] == 200
    for connection in hanging:
        connection.close()


def test_a_request_that_does_not_end(impatient_server):
    address = impatient_server.host, int(impatient_server.port)
    with socket.create_connection(address) as connection:
        connection.settimeout(600)
        connection.sendall(UNFINISHED)
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"not complete after 1 s" in answer


def test_timeout(impatient_server):
    status, document = impatient_server.predict(signature_name="nap", inputs=150)
    assert status == 504
    assert "within 1 s" in document["error"]
    with (
        grpc.insecure_channel(impatient_server.grpc_address) as channel,
        pytest.raises(grpc.RpcError, match="within 1 s") as raised,
    ):
        PredictionServiceStub(channel).Predict(request_of("nap", count=np.int32(150)))
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_clients_deadline(channel):
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(request_of("nap", count=np.int32(50)), timeout=0.1)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_is_not_served(channel):
    from tensorflow_serving.apis.classification_pb2 import ClassificationRequest

    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Classify(ClassificationRequest())
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_and_metrics(server):
    def count():
        status, text = server.get("/metrics")
        assert status == 200
        pattern = r'serving_requests_total\{code="OK",protocol="rest",signature="texts"\} (\S+)'
        found = re.search(pattern, text)
        return float(found[1]) if found else 0

    before = count()
    assert server.predict(signature_name="texts", inputs=["a"])[0] == 200
    assert count() == before + 1
    text = server.get("/monitoring/prometheus/metrics")[1]
    assert "serving_model_version 1.0" in text
    assert re.search(r"process_resident_memory_bytes [1-9]", text)
    assert server.get("/healthz")[0] == 200
    assert server.get("/readyz")[0] == 200


def test_new_versions_under_load_and_the_stop(server, folder, write_tiny_model, tmp_path):
    """The last test of the server: it serves other versions, and then no more."""
    staged = tmp_path / "staged"
    write_tiny_model(staged, scale=2.0)
    warm_up = predict_pb2.PredictRequest()
    warm_up.CopyFrom(request_of(waveform=WAVEFORM))
    (staged / "assets.extra").mkdir()
    record = PredictionLog()
    record.predict_log.request.CopyFrom(warm_up)
    with tf.io.TFRecordWriter(str(staged / "assets.extra/tf_serving_warmup_requests")) as writer:
        writer.write(record.SerializeToString())
    answers, stop = [], threading.Event()
    old, new = (expected_outputs(WAVEFORM, scale) for scale in (1.0, 2.0))

    def client():
        while not stop.is_set():
            answers.append(server.predict(inputs=WAVEFORM.tolist()))

    def state(version):
        status, document = server.get(f"/v1/models/tiny/versions/{version}")
        return document["model_version_status"][0] if status == 200 else {}

    def wait_for(version, wanted):
        end_s = time.monotonic() + 300
        while state(version).get("state") != wanted:
            assert time.monotonic() < end_s, server.log
            time.sleep(0.05)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    try:
        (folder / "2" / "variables").mkdir(parents=True)
        (folder / "2" / "saved_model.pb").write_bytes(b"no model")
        wait_for(2, "END")
        assert state(2)["status"]["error_code"] != "OK"
        assert state(2)["status"]["error_message"]
        assert state(1)["state"] == "AVAILABLE"
        staged.rename(folder / "3")
        wait_for(3, "AVAILABLE")
        wait_for(1, "END")
        assert state(1)["status"]["error_code"] == "OK"
        time.sleep(0.3)
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert {status for status, _ in answers} == {200}
    for _, document in answers:
        is_new = document["outputs"]["scores"][0][1] == pytest.approx(new["scores"][0, 1])
        assert_outputs(document["outputs"], new if is_new else old)
    assert_outputs(answers[0][1]["outputs"], old)
    assert_outputs(answers[-1][1]["outputs"], new)
    assert server.log.count("Refused version 2") == 1
    assert "Serves version 3 of tiny (1 warm-up requests)" in server.log

    # What runs when the signal comes is answered.
    running = []
    nap = threading.Thread(
        target=lambda: running.append(server.predict(signature_name="nap", inputs=100))
    )
    nap.start()
    time.sleep(0.3)
    assert server.stop() == 0
    nap.join()
    assert running == [(200, {"outputs": 100})]
    with pytest.raises(urllib.error.URLError):
        server.get("/healthz")
    assert "Traceback" not in server.log


def test_versions_fall_back_come_back_and_are_dropped(tiny_model_folder, tmp_path, caplog):
    """The folder's changes, one look after the other."""
    folder = tmp_path / "tiny"
    (folder / "notes").mkdir(parents=True)
    versions = Versions("tiny", folder, Metrics())

    async def main():
        # As numbers they would come before all others, but no client could ask for them.
        for name in (str(2**63), "9" * 200):
            shutil.copytree(tiny_model_folder / "1", folder / name)
        with pytest.raises(UserError, match="has none"):
            await versions.start()
        (folder / "5").mkdir()
        with pytest.raises(UserError, match="5 does not"):
            await versions.start()
        shutil.copytree(tiny_model_folder / "1", folder / "4")
        await versions.start()
        assert versions.current.version == 4
        shutil.copytree(tiny_model_folder / "1", folder / "5", dirs_exist_ok=True)
        # It may still be on its way: only a folder that stays as it is gets loaded.
        await versions._look(settled=True)
        assert versions.current.version == 4
        with versions.use("tiny", None, "") as held:
            await versions._look(settled=True)
            assert versions.current.version == 5
            await asyncio.sleep(0)
            states = {
                s.version: s.state for s in versions.status("tiny", None, "").model_version_status
            }
            assert states == {5: 30, 4: 40}
            assert held.run("texts", {"texts": np.array([b"a"], object)})["lengths"] == [1]
        del held
        await asyncio.gather(*versions._retiring)
        (dropped,) = versions.status("tiny", 4, "").model_version_status
        assert dropped.state == dropped.END
        shutil.rmtree(folder / "5")
        for _ in range(2):
            await versions._look(settled=True)
        assert versions.current.version == 4

    asyncio.run(main())
    assert caplog.text.count(f"Passed over {2**63} in") == 1


def test_the_highest_version_number_is_served(tiny_model_folder, tmp_path):
    shutil.copytree(tiny_model_folder / "1", tmp_path / str(2**63 - 1))
    versions = Versions("tiny", tmp_path, Metrics())
    asyncio.run(versions.start())
    (state,) = versions.status("tiny", 2**63 - 1, "").model_version_status
    assert state.state == state.AVAILABLE


def options_of(folder, **changes):
    values = {"rest_port": 0, "grpc_port": 0, "max_body_bytes": 1000, "timeout_s": 1}
    values |= {"read_timeout_s": 1, "max_batch": 1, "batch_wait_s": 0, "max_pending": 1}
    values |= {"workers": 1, "poll_s": 1, "stop_s": 1}
    return ServerOptions(folder=folder, name="tiny", host="127.0.0.1", **values | changes)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_port_that_is_taken(tiny_model_folder, protocol):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = options_of(tiny_model_folder, **{f"{protocol}_port": taken.getsockname()[1]})
        with pytest.raises(UserError, match=f"must be free.*--{protocol}-port"):
            asyncio.run(serve(options))


@pytest.fixture
def run_here(capsys):
    """A function that runs a coroutine beside a server in this process: run_here(options, client).

    The client is called with a function that opens a connection and sends bytes, and one that stops
    the server, which it must call once: a second signal would end this process.
    """

    def run(options, client):
        async def main():
            server = asyncio.create_task(serve(options))
            while not (found := re.search(r"http://127.0.0.1:(\d+)", capsys.readouterr().out)):
                await asyncio.sleep(0.05)

            async def send(content):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
                writer.write(content)
                await writer.drain()
                return reader, writer

            async with asyncio.timeout(60):
                answer = await client(send, lambda: os.kill(os.getpid(), signal.SIGTERM))
                await server
            return answer

        return asyncio.run(main())

    return run


POST = b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def test_a_stop_does_not_wait_for_who_hangs(tiny_model_folder, run_here):
    async def client(send, stop):
        reader, writer = await send(POST % 9 + b"{")
        await asyncio.sleep(0.2)
        stop()
        answer = await reader.read(10_000)
        writer.close()
        return answer

    options = options_of(tiny_model_folder, read_timeout_s=600, stop_s=600)
    assert run_here(options, client).startswith(b"HTTP/1.1 408")


def test_bodies_that_hang_give_their_room_to_others(tiny_model_folder, run_here, monkeypatch):
    monkeypatch.setattr("rfcx_tf.serving.server.budget._PATIENCE", 0.2 / 600)

    async def client(send, stop):
        # Four have room; the others wait for it, and who comes last would wait longest.
        hanging = [await send(POST % 1000 + b"{") for _ in range(10)]
        body = b'{"inputs": [[1.0]]}'
        reader, writer = await send(POST % len(body) + body)
        answer = await reader.readline()
        for _, other in [*hanging, (reader, writer)]:
            other.close()
        stop()
        return answer

    options = options_of(tiny_model_folder, read_timeout_s=600, timeout_s=600)
    assert run_here(options, client) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("port", [-1, 2**16])
@pytest.mark.parametrize("option", ["--rest-port", "--grpc-port"])
def test_a_number_that_is_no_port(tiny_model_folder, run_script, option, port):
    done = run_script("serve", "--model", tiny_model_folder, option, port)
    assert done.returncode == 2
    assert f"{option} must be a port, 0 to 65535. Received: {port}." in done.stderr


def test_a_folder_that_is_no_model(tiny_model_folder, tmp_path, run_script):
    for folder, words in (
        (tmp_path / "none", "must be a folder"),
        (tiny_model_folder / "1", "is a version"),
    ):
        done = run_script("serve", "--model", folder)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
