"""Recordings in a store are heard as those of a folder; what a store does wrong is told in a line.

The store is moto's S3 server on this machine. Every 20th answer is that it is busy.
"""

import itertools
import shutil
import sys
import threading

import pandas as pd
import pytest

from rfcx_tf.audio.find import find_recordings
from rfcx_tf.cli.main import main
from rfcx_tf.core import storage
from rfcx_tf.core.storage import StoredFile, as_path
from rfcx_tf.core.walk import walk
from rfcx_tf.scoring import load

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Wait</Message></Error>"


@pytest.fixture(scope="module")
def folder(tiny_data, tmp_path_factory):
    """What is in the bucket too: two sites with a recording of one name, and what is none."""
    folder = tmp_path_factory.mktemp("stored")
    for number, name in enumerate(
        ["site1/20240501_060000", "site1/b", "site10/20240501_060000", "site1/x/c", "site1/.old/d"]
    ):
        path = folder / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_data / "train" / f"tiny{number:02d}.flac", path)
    (folder / "site1" / "bad.wav").write_bytes(b"RIFF and nothing")
    (folder / "site1" / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (folder / "site1" / "notes.txt").write_text("rain at six")
    return folder


@pytest.fixture(scope="module")
def bucket(folder):
    """The URL of the bucket, and the numbers of requests that were answered and refused."""
    pytest.importorskip("s3fs", reason="pip install -r requirements-stores.txt")
    pytest.importorskip("moto", reason="pip install -r requirements-stores.txt")
    pytest.importorskip("flask_cors", reason="pip install -r requirements-stores.txt")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *arguments):
            pass

    s3, numbers, counts = DomainDispatcherApplication(create_backend_app), itertools.count(1), {}

    def busy_at_times(environ, start_response):
        status = "503" if next(numbers) % 20 == 0 else "200"
        counts[status] = counts.get(status, 0) + 1
        if status == "200":
            return s3(environ, start_response)
        start_response("503 Slow Down", [("Content-Type", "application/xml")])
        return [BUSY]

    server = make_server("127.0.0.1", 0, busy_at_times, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with StoredFile("s3://forest")._told() as files:
            files.mkdir("forest")
            files.pipe(
                {f"forest/{p.relative_to(folder)}": p.read_bytes() for p in walk(folder).files}
            )
            files.pipe("forest/site1/.old/d.flac", b"fLaC")
            files.pipe("forest/site2/", b"")
        yield "s3://forest", counts
        storage._file_system.cache_clear()
    server.shutdown()


def test_a_bucket_is_searched_as_a_folder(folder, bucket):
    url, counts = bucket
    here, there = find_recordings([folder], "path"), find_recordings([url], "path")
    assert list(there) == list(here)
    assert there["site1/b"] == StoredFile(f"{url}/site1/b.flac")
    for name, path in there.items():
        with path.fetch() as stream, path.open() as looked_at:
            wanted = here[name].read_bytes()
            assert stream.read() == wanted == looked_at.read()
            assert looked_at.seek(-3, 2) == len(wanted) - 3 and looked_at.read() == wanted[-3:]
        assert path.stat().st_size == len(wanted)
    for found, where in ((here, str(folder)), (there, url)):
        found.notes = [line.replace(where, "") for line in found.notes]
        found.left_out = [line.replace(where, "") for line in found.left_out]
    assert (there.left_out, there.notes) == (here.left_out, here.notes)
    assert len(here.left_out) == len(here.notes) == 1
    # What begins alike is another folder, and a file may be named itself.
    assert "site10/20240501_060000" not in find_recordings([f"{url}/site1/"], "path")
    assert list(find_recordings([f"{url}/site1/x/c.flac"])) == ["c"]
    assert counts["503"] >= 1


def test_tables_of_a_bucket_are_those_of_a_folder(
    folder, bucket, untrained_run, tmp_path, monkeypatch, capsys
):
    """By one process, and by two parts that are gathered."""
    scorer = load.load_together([untrained_run], [1.0], "mean")
    monkeypatch.setattr(load, "load_together", lambda *arguments: scorer)
    url, _ = bucket

    def predict(audio, out, *options):
        words = ["predict", "--run", untrained_run.path, "--audio", audio, *options]
        words += ["--out", out / "scores.csv", "--window-scores", out / "windows.parquet"]
        words += ["--events", out / "events.csv", "--threshold", "0.3", "--recording-ids", "path"]
        return main([str(word) for word in words])

    assert predict(folder, tmp_path / "here") == 1
    assert predict(url, tmp_path / "there") == 1
    assert "bad.wav is not readable" in capsys.readouterr().err
    for number in (1, 2):
        assert predict(url, tmp_path / "parts", "--part", f"{number}/2") in (0, 1)
    assert main(["gather", "--out", str(tmp_path / "parts" / "scores.csv")]) == 1

    def bytes_of(name, table):
        return (tmp_path / name / table).read_bytes()

    assert bytes_of("there", "scores.csv") == bytes_of("here", "scores.csv")
    for table in ("scores.csv", "events.csv", "windows.parquet", "scores.left_out.csv"):
        assert bytes_of("parts", table) == bytes_of("there", table), table
    for table in ("events.csv", "scores.left_out.csv"):
        moved = bytes_of("here", table).replace(str(folder).encode(), url.encode())
        assert bytes_of("there", table) == moved
    windows = pd.read_parquet(tmp_path / "there" / "windows.parquet")
    assert windows["start_time"].max() == "2024-05-01T06:00:00"
    assert windows["file"][0] == f"{url}/site1/20240501_060000.flac"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("s3://forest/site3", "s3://forest/site3 cannot be listed: No such file or directory."),
        ("s3://forest/site1/none.flac", "cannot be listed: No such file or directory."),
        ("s3://desert", "s3://desert cannot be listed: No such file or directory."),
        ("ftp://forest", "ftp://forest cannot be listed: stores are s3, gs, az, abfs, not ftp."),
    ],
)
def test_what_is_not_there_is_told_in_one_line(place, reason, bucket, tmp_path, capsys):
    out = str(tmp_path / "scores.csv")
    assert main(["predict", "--run", "none", "--audio", place, "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Recordings must exist and be readable.") and reason in line


def test_what_must_be_installed_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    storage._file_system.cache_clear()
    out = str(tmp_path / "scores.csv")
    assert main(["predict", "--run", "none", "--audio", "s3://a", "--out", out]) == 2
    assert capsys.readouterr().err == (
        "error: This needs s3fs, which is not installed. Run: pip install 'rfcx-tf[s3]'\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        "predict --run URL --audio a --out b",
        "predict --run a --audio b --out URL",
        "predict --run a --audio URL --out b --workers 2",
        "train --config demo --tfrecords URL --run a",
        "export --run a --out URL",
        "check URL",
        "review serve --events a --audio b URL",
        "gather --out URL",
        "evaluate --scores URL --truth b",
    ],
)
def test_other_places_must_be_of_this_machine(command, capsys):
    assert main(command.replace("URL", "s3://forest/x").split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Received: s3://forest/x." in line


def test_paths_of_stores_sort_folder_by_folder():
    names = ["s3://b/a/c.wav", "s3://b/a-b/c.wav", "s3://b/a/b/c.wav"]
    in_order = sorted(map(as_path, [*names, "b/local.wav"]))
    assert [str(path) for path in in_order] == ["b/local.wav", names[2], names[0], names[1]]
    path = as_path(names[2])
    assert (path.name, path.stem, path.suffix) == ("c.wav", "c", ".wav")
    assert str(path.parent) == "s3://b/a/b" and str(path.with_suffix(".x")) == "s3://b/a/b/c.x"
    assert path.relative_to(as_path("s3://b/a/")).as_posix() == "b/c.wav"
