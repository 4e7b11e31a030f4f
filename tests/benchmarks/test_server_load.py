"""The load test against a real server of the tiny model, and against one that refuses."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from benchmarks import server_load
from rfcx_tf.core.errors import UserError


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A folder with version 1 of a model that takes WAV files and gives their mean."""
    folder = tmp_path_factory.mktemp("served") / "tiny"

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "wav")])
    def mean(wav):
        return {"scores": tf.reduce_mean(tf.audio.decode_wav(wav).audio)}

    module = tf.Module()
    module.mean = mean
    tf.saved_model.save(module, str(folder / "1"), {"wav": mean})
    return folder


@pytest.fixture
def run_load(tmp_path, monkeypatch):
    """A function that runs the program on a silent recording, with more arguments."""
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.zeros(2000), 1000)

    def run(*arguments):
        command = ["server_load.py", "--audio", wav, "--seconds", 0.3, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        server_load.main()

    return run


def test_a_server_is_measured(model_folder, run_load, tmp_path, capsys):
    out = tmp_path / "load.json"
    run_load(
        *("--model", model_folder, "--protocol", "grpc", "--out", out),
        *("--concurrency", 1, 4, "--serve", "--timeout", 30),
    )
    levels = json.loads(out.read_text())["levels"]
    assert [level["clients"] for level in levels] == [0, 1, 4]
    for level in levels:
        assert level["requests"] > 0
        assert level["errors"] == 0
        assert 0 < level["median_s"] <= level["p99_s"]
    for level in levels[1:]:
        # A process with TensorFlow in it.
        assert 100 < level["early_mib"] <= level["highest_mib"] < 10_000
    assert capsys.readouterr().out.count("\n| ") == 4


def test_what_is_wrong_is_said_before_anything_starts(model_folder, run_load, tmp_path):
    with pytest.raises(UserError, match=r"numbered SavedModels\. .*a\.wav is not"):
        run_load("--model", tmp_path / "a.wav")
    with pytest.raises(UserError, match="must be above 0"):
        run_load("--model", model_folder, "--concurrency", 0)
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match="--audio must suit the model"):
        run_load("--model", model_folder)


def test_rest_clients_send_the_file_and_count_refusals():
    bodies = []

    class EverySecond(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(bodies) % 2 else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), EverySecond) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/models/model:predict"
        row = server_load.measure_level(server_load.rest_clients(url, b"RIFF"), 1, 0.3)
        server.shutdown()
    assert row["requests"] > 0
    assert row["requests"] + row["errors"] == len(bodies)
    assert abs(row["requests"] - row["errors"]) <= 1
    assert json.loads(bodies[0]) == {"signature_name": "wav", "inputs": {"b64": "UklGRg=="}}


def test_overhead_is_the_time_that_a_request_takes_more():
    rates = [(10, 2.0), (40, 1.6), (0, 0.0)]
    rows = [{"requests": requests, "requests_per_s": rate} for requests, rate in rates]
    server_load.add_overhead(rows)
    assert [row.get("overhead_percent") for row in rows] == [None, pytest.approx(25.0), None]
