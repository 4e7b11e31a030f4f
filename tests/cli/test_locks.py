"""Verbs that write wait for nobody: the second one says who is there, before any work."""

import os

import pytest

from rfcx_tf.cli.main import main
from rfcx_tf.core.lock import lock_file, lock_folder

# Where other arguments are wrong, the lock shows that it comes before work with them.
FOLDERS = [
    "make-tfrecords --config none.yaml --data none --out OUT",
    "train --config demo --tfrecords none --run OUT",
    "train --config demo --set kind=baseline --tfrecords none --run OUT",
    "train --join none --run OUT",
    "pseudo-label --config demo --tfrecords none --run none --out OUT",
    "review pick --events none.csv --out OUT",
    "review apply --review none.csv --data OUT",
    "export --run RUN --out OUT",
    "export --run RUN --out OUT --format litert",
]


@pytest.mark.parametrize("command", FOLDERS)
def test_folders(command, tmp_path, untrained_run, capsys):
    out = tmp_path / "out"
    words = {"OUT": str(out), "RUN": str(untrained_run.path)}
    with lock_folder(out, "another verb"):
        assert main([words.get(word, word) for word in command.split()]) == 2
        assert os.listdir(out) == [".rfcx-tf-lock"]
    check_refusal(capsys, out)


def test_tables_of_marks(tmp_path, capsys):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.txt").write_text("1\t2\tKuckuck\n")
    (tmp_path / "data" / "train").mkdir(parents=True)
    with lock_folder(tmp_path / "data", "another verb"):
        options = ["--tables", str(tmp_path / "tables"), "--data", str(tmp_path / "data")]
        assert main(["import-annotations", *options]) == 2
    check_refusal(capsys, tmp_path / "data")


def test_tables_of_scores(tmp_path, capsys):
    out = tmp_path / "scores.csv"
    with lock_file(out, "another verb"):
        assert main(["predict", "--run", "none", "--audio", "none", "--out", str(out)]) == 2
        # Another table in the same folder is none of its business.
        with lock_file(tmp_path / "other.csv", "predict"):
            pass
    check_refusal(capsys, out)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "command",
    [
        "predict --run none --audio none --out scores.csv --events OUT",
        "predict --run none --audio none --out scores.csv --window-scores OUT",
        "calibrate --run RUN --out OUT",
        "calibrate --run RUN --verdicts none.csv --events none.csv --out out.yaml",
        "events --window-scores none --out OUT",
        "predict --run none --audio none --out scores.csv --tidy OUT",
        "ensemble --run RUN --out OUT",
        "evaluate --scores none.csv --truth none.csv --out OUT",
        "prior-shift --run none --scores none.csv --out prior.yaml --apply OUT",
        "report --run none --out OUT",
        "review serve --review OUT --events none.csv",
        "check none --recipe OUT",
    ],
)
def test_files(command, tmp_path, untrained_run, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out.csv"
    words = {"OUT": str(out), "RUN": str(untrained_run.path)}
    with lock_file(out, "another verb"):
        assert main([words.get(word, word) for word in command.split()]) == 2
    check_refusal(capsys, out)
    assert os.listdir(tmp_path) == []


def test_reports_beside_tables(tmp_path, untrained_run, capsys):
    """Two calibrations that differ in --out alone would write one report."""
    for verb, other in (("calibrate", ".png"), ("ensemble", ".md")):
        with lock_file(tmp_path / f"out{other}", "another verb"):
            options = ["--run", str(untrained_run.path), "--out", str(tmp_path / "out.yaml")]
            assert main([verb, *options]) == 2
        check_refusal(capsys, tmp_path / f"out{other}")


def test_a_folder_of_events(tmp_path, capsys):
    events = tmp_path / "events"
    options = ["--run", "none", "--audio", "none", "--out", str(tmp_path / "scores.csv")]
    with lock_folder(events, "another verb"):
        assert main(["predict", *options, "--events", str(events)]) == 2
        check_refusal(capsys, events)
        assert os.listdir(events) == [".rfcx-tf-lock"]


def check_refusal(capsys, place):
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: One command at a time writes to {place}.")
    assert f"Process {os.getpid()} on " in line and "(another verb)" in line
