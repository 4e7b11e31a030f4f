"""Prediction as a Beam pipeline against predict.py: the same table, and a worker killed."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="pip install -r requirements-bulk.txt")

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.runs.open import open_run
from rfcx_tf.scoring.beam import BulkJob, predict_in_bulk
from rfcx_tf.scoring.journal import Journal
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.predict import predict_recordings

ROOT = Path(__file__).resolve().parents[2]
TWO_PROCESSES = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


@pytest.fixture
def audio(tiny_data, tmp_path) -> Path:
    """Six recordings of 6 s, and one file that is none."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(6):
        shutil.copy(tiny_data / "train" / f"tiny{number:02d}.flac", folder)
    (folder / "bad.flac").write_bytes(b"no sound")
    return folder


@pytest.fixture
def job(untrained_run, tmp_path) -> BulkJob:
    journal = Journal(tmp_path / "parts", "a")
    return BulkJob([untrained_run.path], [], [1.0], "mean", journal, keep_windows=False)


@pytest.fixture
def scorer(untrained_run):
    return load_scorer(open_run(untrained_run.path))


def workers_of(pid) -> list[int]:
    """Beam's worker processes below a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            arguments = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == pid:
            is_worker = b"apache_beam.runners.worker.sdk_worker_main" in arguments
            found += [int(path.name)] if is_worker else workers_of(int(path.name))
    return found


def sources_of(recordings):
    return {name: AudioSource(path) for name, path in recordings.items()}


def test_two_processes_write_the_tables_of_predict(
    untrained_run, audio, tmp_path, monkeypatch, run_script
):
    """Of two sites with a recording of one name."""
    monkeypatch.setenv("PYTHONPATH", "")  # It is changed, and put back at the end.
    (audio / "site2").mkdir()
    shutil.copy(audio / "tiny01.flac", audio / "site2" / "tiny00.flac")

    def predict(name, *options):
        out = tmp_path / name
        result = run_script(
            *("predict", "--run", untrained_run.path, "--audio", audio, *options),
            *("--out", out / "scores.csv", "--events", out / "events.csv", "--threshold", "0.3"),
            *("--window-scores", out / "windows.parquet", "--recording-ids", "path"),
        )
        assert result.returncode == 1, result.stderr
        assert "bad.flac is not readable" in result.stderr
        return out

    one = predict("one")
    two = predict("two", "--workers", "2")
    rows = (one / "scores.csv").read_text().splitlines()
    assert len(rows) == 8 and rows[1].startswith("site2/tiny00,")
    assert len((one / "events.csv").read_text().splitlines()) > 1
    for name in ("scores.csv", "events.csv", "windows.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_what_is_done_is_not_done_again(job, scorer, audio):
    recordings = {path.stem: path for path in sorted(audio.iterdir())}
    some = {"tiny01": recordings["tiny01"]}
    predict_recordings(scorer, some, journal=job.journal, progress=False)
    (before,) = job.journal.folder.glob("*.npz")
    time_ns = before.stat().st_mtime_ns
    found = predict_in_bulk(job, sources_of(recordings), scorer.card, progress=False)
    plain = predict_recordings(scorer, recordings, progress=False)
    assert found.scores.equals(plain.scores)
    assert found.failed == plain.failed
    assert before.stat().st_mtime_ns == time_ns
    assert len(list(job.journal.folder.glob("*.npz"))) == 6


def test_a_killed_worker_costs_nothing(job, scorer, audio, tmp_path, monkeypatch, capsys):
    """A pipe without a writer holds a worker up until it is killed; then sound takes its place."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    recordings = {path.stem: path for path in sorted(audio.glob("tiny*"))}
    blocked = recordings["tiny05"]
    sound = blocked.rename(tmp_path / "sound.flac")
    os.mkfifo(blocked)
    killed = []

    def kill():
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if len(list(job.journal.folder.glob("*.npz"))) >= 3:
                killed.extend(workers_of(os.getpid())[:1])
                os.replace(sound, blocked)
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.2)

    killer = threading.Thread(target=kill)
    killer.start()
    sources = sources_of(recordings)
    found = predict_in_bulk(job, sources, scorer.card, options=TWO_PROCESSES, progress=False)
    killer.join()
    assert len(killed) == 1
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("The pipeline failed")]) == 1
    assert found.failed == {}
    plain = predict_recordings(scorer, recordings, progress=False)
    assert found.scores.equals(plain.scores)
