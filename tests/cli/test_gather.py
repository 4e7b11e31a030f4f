"""Parts of a prediction, put together, are what one process writes; what is missing is named."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from killed import content, killed_at_every_operation
from made_cards import CALIBRATION, CARD

from rfcx_tf.audio.find import Recordings
from rfcx_tf.cli import steps
from rfcx_tf.cli.main import main
from rfcx_tf.core.lock import lock_file
from rfcx_tf.scoring import load
from rfcx_tf.scoring.journal import Journal
from rfcx_tf.scoring.parts import Part, begin_part, end_part
from rfcx_tf.scoring.predict import Predictions
from rfcx_tf.scoring.scorer import RecordingResult

PARTS = 4


@pytest.fixture
def audio(tiny_data, tmp_path):
    """Twelve recordings of two sites: one is no sound, one is cut short; and an M4A."""
    folder = tmp_path / "audio"
    for number in range(10):
        site = folder / f"site{number % 2}"
        site.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_data / "train" / f"tiny{number:02d}.flac", site / f"{number // 2}.flac")
    (folder / "site1" / "bad.flac").write_bytes(b"fLaC and then nothing")
    sound = (tiny_data / "train" / "tiny00.flac").read_bytes()
    (folder / "site0" / "cut.flac").write_bytes(sound[: len(sound) // 2])
    (folder / "site0" / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    return folder


def test_parts_of_which_some_are_killed_give_the_tables_of_one_process(
    audio, untrained_run, tmp_path, monkeypatch, capsys
):
    scorer = load.load_together([untrained_run], [1.0], "mean")
    monkeypatch.setattr(load, "load_together", lambda *arguments: scorer)

    def predict(folder, *options):
        words = ["predict", "--run", untrained_run.path, "--audio", audio, "--names"]
        words += ["--out", folder / "scores.csv", "--tidy", folder / "tidy.csv"]
        words += ["--window-scores", folder / "windows.parquet", "--events", folder / "events"]
        words += ["--format", "csv", "raven", "--threshold", "0.3", "--recording-ids", "path"]
        capsys.readouterr()
        return main([str(word) for word in (*words, *options)])

    def gather(folder):
        capsys.readouterr()
        return main(["gather", "--out", str(folder / "scores.csv")])

    one, out = tmp_path / "one", tmp_path / "out"
    assert predict(one) == 1
    whole = {name: found for name, found in content(one).items() if ".parts" not in name}
    assert len(whole) == 4 + 1 + 2 + 2 * 11
    said = capsys.readouterr().err

    def part(number):
        return lambda folder: predict(folder, "--part", f"{number}/{PARTS}")

    for number, kills in ((2, (9, 14)), (3, (8,))):
        again = itertools.repeat(out)
        for _ in killed_at_every_operation(part(number), again, monkeypatch, kills):
            pass
    assert part(1)(out) in (0, 1) and part(4)(out) in (0, 1)
    before = content(out)
    assert gather(out) == 1
    assert "All 4 parts must have ended. Missing: 2-3 (2 in all)." in capsys.readouterr().err
    assert content(out) == before and not (out / "scores.csv").exists()
    kept = {path for path in out.rglob("*-of-4/*.npz")}
    times = {path: path.stat().st_mtime_ns for path in kept}
    statuses = [part(number)(out) for number in (2, 3)]
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    assert gather(out) == 1
    told = capsys.readouterr().err
    assert {n: f for n, f in content(out).items() if ".parts" not in n} == whole
    # The same is said, of files of other kinds too; by a part that of its own recordings.
    assert told.startswith("Scored as far as they go, 1 in all:") and "phone.m4a" in told
    assert told.partition("These lines")[0] in said
    assert 1 in (*statuses, part(1)(out), part(4)(out))

    # What could not be read is put right: its part alone is run again.
    shutil.copy(audio / "site0" / "1.flac", audio / "site1" / "bad.flac")
    (number,) = (n for n in range(1, PARTS + 1) if Part(n, PARTS).has("site1/bad"))
    assert f"Parts {number} try these again" in told
    assert part(number)(out) in (0, 1)
    assert gather(out) == 1 and "bad" not in capsys.readouterr().err
    predict(one)
    assert content(out) == content(one)


def test_a_folder_of_results_and_a_submission(audio, untrained_run, tmp_path, monkeypatch, capsys):
    """Of relative paths, which begin where gather is run too; and more parts than recordings."""
    scorer = load.load_together([untrained_run], [1.0], "mean")
    monkeypatch.setattr(load, "load_together", lambda *arguments: scorer)
    pages = []
    monkeypatch.setattr(steps, "report_predictions", lambda a: pages.append(a) or 0)
    monkeypatch.chdir(audio)
    (audio / "like.csv").write_text("recording_id,s9,s2\n3,0,0\n1,0,0\n")
    words = ["predict", "--run", str(untrained_run.path), "--audio", "site0/1.flac", "site0/3.flac"]
    words += ["--like", "like.csv"]
    for number in (1, 2, 3):
        assert main([*words, "--results", "all", "--part", f"{number}/3"]) == 0
    assert "Next: rfcx-tf gather --results all" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert main(["gather", "--results", str(audio / "all")]) == 2
    assert f"The parts were run in {audio}." in capsys.readouterr().err
    monkeypatch.chdir(audio)
    assert main(["gather", "--results", "all"]) == 0
    assert main([*words, "--out", "scores.csv"]) == 0
    assert (audio / "all" / "scores.csv").read_bytes() == (audio / "scores.csv").read_bytes()
    assert set(content(audio / "all")) == {"scores.csv", "events.csv", "windows.parquet"}
    # Of what the parts were given.
    (page,) = pages
    assert page.run == [untrained_run.path] and page.results == Path("all")
    assert page.audio == [Path("site0/1.flac"), Path("site0/3.flac")]


def test_every_recording_is_of_one_part_whatever_others_there_are():
    names = [f"site{i % 7}/2021_{i:04d}" for i in range(3000)]
    shares = [{name for name in names if Part(number, 10).has(name)} for number in range(1, 11)]
    assert sum(map(len, shares)) == 3000 and set().union(*shares) == set(names)
    # Within 4 standard deviations of a fair draw.
    assert max(abs(len(share) - 300) for share in shares) < 4 * np.sqrt(3000 * 0.1 * 0.9)
    assert Part(1, 1).has("\udcff")


RECORDINGS = Recordings({name: f"audio/{name}.wav" for name in "abcdefgh"}, [], [])
SETTINGS = {"--out": "scores.csv", "--threshold": 0.5}


def end(
    out, number, of=2, *, settings=SETTINGS, recordings=RECORDINGS, model="m", card=CARD, lost=()
):
    """A part that has ended: scores are 0.5, and a result of what is `lost` is not there."""
    part, folder = Part(number, of), out.with_name(f"{out.name}.parts")
    own = [name for name in recordings if part.has(name)]
    with begin_part(folder, part):
        journal = Journal(part.journal(folder), model)
        for name in own:
            if name not in lost:
                journal.write(RecordingResult(name, "x.wav", 1.0, np.full(3, 0.5)), "key")
        predictions = Predictions(pd.DataFrame(), {})
        end_part(folder, part, settings, recordings, journal, card, predictions)


@pytest.mark.parametrize(
    ("other", "status", "reason"),
    [
        (
            {"settings": SETTINGS | {"--threshold": 0.7}},
            2,
            "--threshold is 0.5 in part 1 and 0.7 in part 2. Run those again",
        ),
        ({"model": "n"}, 2, "the same model (runs, weights"),
        ({"card": CARD.replace(calibration=CALIBRATION)}, 2, "differs between part 1 and part 2"),
        (
            {"recordings": Recordings(RECORDINGS | {"new": "audio/new.wav"})},
            1,
            "Found 8 by part 1 and 9 by part 2. Run all again",
        ),
        ({"lost": "abcdefgh"}, 1, "Run part 2 again; what it has is kept."),
        ({"number": 3, "of": 3}, 1, "Missing: 2 (1 in all)."),
    ],
)
def test_parts_that_do_not_fit_give_no_tables(other, status, reason, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    of = other.get("of", 2)
    end(out, 1, of)
    end(out, **{"number": 2, **other})
    assert main(["gather", "--out", str(out)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and reason in line
    assert not out.exists()


def test_what_is_no_part_or_of_another_division(tmp_path, untrained_run, tiny_data, capsys):
    out = tmp_path / "scores.csv"
    words = ["--run", str(untrained_run.path), "--audio", str(tiny_data), "--out", str(out)]

    def refusal(*words):
        assert main([*words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "must be I/N, I from 1 to N. Received: 4/3" in refusal("predict", *words, "--part=4/3")
    assert "There are none." in refusal("gather", "--out", str(out))
    end(out, 1)
    assert "Parts of a prediction are there, as 1-of-2" in refusal("predict", *words)
    assert "parts of another number" in refusal("predict", *words, "--part", "1/3")
    with lock_file(Part(2, 2).record(tmp_path / "scores.csv.parts"), "another verb"):
        assert "(another verb)" in refusal("predict", *words, "--part", "2/2")
    end(tmp_path / "other.csv", 1, 3)
    shutil.copytree(tmp_path / "other.csv.parts", tmp_path / "scores.csv.parts", dirs_exist_ok=True)
    assert "parts of 2 and of 3" in refusal("gather", "--out", str(out))
    Journal(tmp_path / "alone.csv.parts", "m")
    assert "of one without --part" in refusal("gather", "--out", str(tmp_path / "alone.csv"))
