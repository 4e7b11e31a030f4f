"""`predict --server`: equal to prediction where a real server has an export of a run; with a
scripted server it is stopped, goes on and fails in part."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from fake_serving import window_scores

from rfcx_tf.runs.open import open_run
from rfcx_tf.scoring.calibration import Calibration, write_calibration
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.scoring.served.scorer import open_served
from rfcx_tf.serving.servable import ServableModel

ROOT = Path(__file__).resolve().parents[3]
COLUMNS = ["s2", "s5", "s9"]


@pytest.fixture(scope="module")
def run(write_random_run, tiny_config, tmp_path_factory):
    """Two folds of random weights, and a calibration with thresholds that some windows reach."""
    run = write_random_run(tmp_path_factory.mktemp("client") / "run", tiny_config)
    knots = np.tile(np.float32([-20, -1, 1, 20]), (3, 1))
    rows = [{"name": "x", "method": "isotonic", "present": 1, "absent": 1, "note": ""}] * 3
    thresholds = np.float32([0.2, 0.3, 0.1])
    calibration = Calibration(COLUMNS, knots, knots / 2 - 0.5, thresholds, rows, "a test")
    write_calibration(calibration, run.path / "calibration.yaml")
    return run


@pytest.fixture(scope="module")
def sounds(tiny_data, tmp_path_factory):
    """Four recordings at the model's rate, two of 11025 Hz, and one shorter than a window."""
    folder = tmp_path_factory.mktemp("sounds")
    for number in (0, 3, 5, 7):
        shutil.copy(tiny_data / "train" / f"tiny0{number}.flac", folder)
    random = np.random.default_rng(0)
    for name, samples in (("other", 50000), ("stereo", 40000)):
        shape = (samples, 2) if name == "stereo" else samples
        soundfile.write(folder / f"{name}.wav", random.normal(0, 0.1, shape), 11025)
    soundfile.write(folder / "short.wav", random.normal(0, 0.1, 3000), 8000, "FLOAT")
    return folder


@pytest.fixture(scope="module")
def scorer(run):
    return load_scorer(open_run(run.path))


@pytest.fixture(scope="module")
def served(scorer, tmp_path_factory):
    """Addresses of scripts/serve.py with the run's export."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    servable = ServableModel(scorer, tmp_path_factory.mktemp("assets"))
    # What the client asks for; tracing the others takes time.
    servable.signatures = {name: servable.signatures[name] for name in ("batch", "wav", "about")}
    servable.save(folder / "1")
    command = [sys.executable, ROOT / "scripts" / "serve.py", "--model", folder]
    server = subprocess.Popen(
        [*command, "--rest-port", "0", "--grpc-port", "0"], stdout=subprocess.PIPE, text=True
    )
    said = ""
    while "gRPC" not in said:
        line = server.stdout.readline()
        assert line, "the server ended"
        said += line
    rest, grpc = re.search(r"(http://[\d.:]+)/v1\S+ +gRPC ([\d.:]+)", said).groups()
    yield {"rest": rest, "grpc": f"grpc://{grpc}"}
    server.terminate()
    server.wait(30)


def test_tables_are_those_of_prediction(run, served, sounds, tmp_path, run_script):
    """Scores, events of probabilities in two formats, and the scores of all windows."""
    sources = {"run": ["--run", run.path]}
    sources |= {name: ["--server", served[name], "--model", "tiny"] for name in served}
    tables = {}
    for name, source in sources.items():
        out = tmp_path / name
        result = run_script(
            *("predict", *source, "--audio", sounds, "--out", out / "scores.csv"),
            *("--events", out / "events", "--format", "csv", "raven"),
            *("--window-scores", out / "windows.parquet"),
        )
        assert result.returncode == 0, result.stderr
        assert not Path(f"{out / 'scores.csv'}.parts").exists()
        events = sorted((out / "events").glob("*.csv"))
        assert len(events) == 7 and len(list((out / "events").glob("*.txt"))) == 7
        tables[name] = [
            pd.read_csv(out / "scores.csv"),
            pd.concat([pd.read_csv(path) for path in events], ignore_index=True),
            pd.read_parquet(out / "windows.parquet"),
        ]
    scores, events, windows = tables["run"]
    assert len(scores) == 7 and scores[COLUMNS].std().min() > 1e-3
    assert len(events) > 7 and events["probability"].notna().all()
    assert len(windows) > 100
    for name in served:
        for expected, own in zip(tables["run"], tables[name], strict=True):
            pd.testing.assert_frame_equal(own, expected, rtol=1e-5, atol=1e-5)


def test_pieces_give_the_windows_of_the_whole(served, scorer):
    """In 5 s PCEN forgets by exp(-5 / 0.4), 4e-6, and the network does not see so far."""
    assert scorer.context_cells * scorer.card.hop_s < 5
    sound = np.random.default_rng(1).normal(0, 0.1, 30 * 8000).astype(np.float32)
    found = []
    for longest_s in (math.inf, 14):
        with open_served(served["rest"], "tiny", longest_s=longest_s, overlap_s=5) as model:
            found.append(score_blocks(model, [{8000: block} for block in np.split(sound, 3)]))
    whole, joined = found
    np.testing.assert_allclose(joined.window_scores, whole.window_scores, rtol=0, atol=1e-4)
    # Two folds: the mean of the maxima over pieces, at most that over all.
    difference = joined.scores - whole.scores
    assert difference.max() < 1e-3 and difference.min() > -0.05


@pytest.fixture
def query(serving, run_script):
    """A function that asks the scripted server for scores."""

    def run(audio, out, *options):
        return run_script(
            *("predict", "--server", serving.rest, "--model", "fake", "--audio", audio),
            *("--out", out, "--retries", "0", *options),
        )

    return run


@pytest.fixture
def field(tmp_path):
    """Six recordings of 1 s at the scripted server's rate."""
    folder = tmp_path / "field"
    folder.mkdir()
    for number in range(6):
        steps = np.random.default_rng(number).integers(-9000, 9000, 1000).astype(np.int16)
        soundfile.write(folder / f"r{number}.wav", steps, 1000)
    return folder


def test_script_reports_failures_and_later_asks_for_those_alone(query, serving, field, tmp_path):
    out = tmp_path / "scores.csv"
    (field / "bad.wav").write_bytes(b"RIFF and then nothing")
    serving.script = [None, 400]
    result = query(field, out, "--concurrency", "1")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "Could not be scored, 2 in all:" in result.stderr
    assert re.search(r"^  .*bad\.wav", result.stderr, re.MULTILINE)
    assert re.search(r"^  .*scripted 400", result.stderr, re.MULTILINE)
    assert len(pd.read_csv(out)) == 5
    assert len(serving.requests) == 6
    (field / "bad.wav").unlink()
    result = query(field, out)
    assert result.returncode == 0, result.stderr
    assert len(serving.requests) == 7
    table = pd.read_csv(out).set_index("recording_id")
    for path in field.iterdir():
        expected = window_scores(soundfile.read(path, dtype="float32")[0]).max(axis=0)
        np.testing.assert_allclose(table.loc[path.stem], expected, rtol=1e-6)
    assert table.index.to_list() == sorted(path.stem for path in field.iterdir())


def test_script_ends_at_once_when_it_is_stopped_and_goes_on_later(query, serving, field, tmp_path):
    """It is a process of its own, which shows too that a REST client needs no TensorFlow."""
    out = tmp_path / "scores.csv"
    serving.script = [None, None] + ["hang"] * 20
    # What a shell starts in the background would not hear of Ctrl-C, nor would its children.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from rfcx_tf.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(99 if 'tensorflow' in sys.modules else status)"
    )
    options = ["--model", "fake", "--audio", field, "--out", out, "--concurrency", "1"]
    # It would wait an hour for what the server does not answer.
    options += ["--timeout-s", "3600"]
    running = subprocess.Popen(
        [sys.executable, "-c", code, "predict", "--server", serving.rest, *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    until = time.monotonic() + 600
    while len(serving.requests) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=600)
    assert running.returncode == 130 and "Traceback" not in said
    assert said.rstrip().endswith("Interrupted.")
    assert not out.exists()
    kept = len(list(Path(f"{out}.parts").glob("*.npz")))
    assert kept in (1, 2)
    serving.script, asked = [], len(serving.requests)
    result = query(field, out)
    assert result.returncode == 0, result.stderr
    assert len(serving.requests) == asked + 6 - kept
    assert len(pd.read_csv(out)) == 6


def test_script_scores_with_a_model_that_says_nothing_of_itself(query, serving, field, tmp_path):
    del serving.signatures["about"], serving.signatures["wav"]
    classes, out = tmp_path / "classes.csv", tmp_path / "scores.csv"
    classes.write_text("species_id,name\n8,owl\n3,frog\n")
    known = ("--sample-rate", "1000", "--classes", classes)
    result = query(field, out, *known)
    assert result.returncode == 0, result.stderr
    assert pd.read_csv(out).columns.to_list() == ["recording_id", "s8", "s3"]
    result = query(field, out, *known, "--events", tmp_path / "events.csv")
    assert result.returncode == 2 and "(no signature `about`)" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server", "127.0.0.1:8501"], "--server is http://HOST:PORT"),
        (["--chunk-s", "3"], "--chunk-s 3"),
        (["--classes", "classes.csv"], "go together"),
        (["--threshold", "0.5"], "--threshold is for events"),
        (["--model", "other"], "replied 404"),
    ],
)
def test_script_refuses_bad_input_in_one_line_with_status_2(
    query, options, words, serving, field, tmp_path
):
    result = query(field, tmp_path / "scores.csv", *options)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and words in line
    assert serving.requests == []
