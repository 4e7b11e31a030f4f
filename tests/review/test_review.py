"""Events to review.csv and back to rows: nothing lost, nothing twice, mistakes by their place."""

import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_events import event
from refused import refused

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.events.read import read_events
from rfcx_tf.events.table import EVENT_COLUMNS, EventRecording, csv_text
from rfcx_tf.events.write import write_events
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.review.selection import PickRules, pick_events
from rfcx_tf.review.sheet import check_review_folder, write_review
from rfcx_tf.review.verdicts import apply_review
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import ShardReader

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = [
    *("recording_id", "species_id", "species", "t_min", "t_max", "f_min", "f_max", "score"),
    *("probability", "reason", "clip", "picture", "verdict", "comment", "file"),
]
BOX = ["t_min", "t_max", "f_min", "f_max"]


@pytest.fixture
def review(run_script):
    """Runs the verb; its stdout and stderr."""

    def run(*arguments, status=0):
        result = run_script("review", *arguments)
        assert result.returncode == status, result.stderr
        return result.stdout, result.stderr

    return run


def sheet_of(*rows, columns=COLUMNS, delimiter=",", end="\n") -> str:
    """The text of a review.csv whose rows say (recording, species id, box, verdict, ...)."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerow(columns)
    for recording, species, t_min, t_max, verdict, *others in rows:
        values = dict.fromkeys(COLUMNS, "") | {
            "recording_id": recording,
            "species_id": species,
            "t_min": t_min,
            "t_max": t_max,
            "f_min": "600.0",
            "f_max": "800.5",
            "verdict": verdict,
            **(others[0] if others else {}),
        }
        writer.writerow([values[name] for name in columns])
    return text.getvalue()


def labels_of(data):
    names = ("train_tp.csv", "train_fp.csv", "species.csv")
    return {name: (data / name).read_bytes() for name in names}


def judge(sheet, verdict_of):
    """Fills in verdicts as a person does with a text editor or spreadsheet program."""
    table = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    table["verdict"] = [verdict_of(row) for row in table.itertuples()]
    table.to_csv(sheet, index=False)


def test_verdicts_become_rows_and_shards(review, field, tiny_config):
    folder = field.folder / "review"
    output, _ = review("pick", "--events", field.events, "--out", folder, "--per-class", 20)
    assert "Picked 16 of 16 events, 3 of 3 species, 4 recordings" in output
    sheet = folder / "review.csv"
    picks = pd.read_csv(sheet)
    assert picks.columns.to_list() == COLUMNS
    assert picks["verdict"].isna().all()
    assert picks["species_id"].is_monotonic_increasing
    for pick in picks.itertuples():
        info = soundfile.info(folder / pick.clip)
        begin_s, end_s = max(0, pick.t_min - 1), min(6, pick.t_max + 1)
        assert info.duration == pytest.approx(end_s - begin_s, abs=2e-3)
        assert (folder / pick.picture).read_bytes().startswith(b"\x89PNG")
    assert (folder / "index.html").exists()
    tp = field.truth["train_tp.csv"]
    present = {(row.recording_id, row.species_id, round(row.t_min, 2)) for row in tp.itertuples()}

    def verdict_of(row):
        key = (row.recording_id, int(row.species_id), round(float(row.t_min), 2))
        return "TP" if key in present else "fp"

    judge(sheet, verdict_of)
    before = labels_of(field.data)
    applied = apply_review(sheet, field.data)
    assert (applied.added_tp, applied.added_fp) == (8, 8)
    assert applied.missing["tiny06"] == str(field.audio / "tiny06.flac")
    output, _ = review("apply", "--review", sheet, "--data", field.data, "--copy-recordings")
    assert "16 rows were there already" in output
    assert "Copied 4 recordings" in output
    after = labels_of(field.data)
    assert after["species.csv"] == before["species.csv"]
    for name, complete in field.truth.items():
        # What was there is there, byte by byte.
        assert after[name].startswith(before[name])
        # Together with the verdicts it is the complete table.
        order = ["recording_id", "species_id", "t_min"]
        rows = pd.read_csv(field.data / name).sort_values(order, ignore_index=True)
        complete = complete.sort_values(order, ignore_index=True)
        assert rows[order[:2]].equals(complete[order[:2]])
        assert rows[BOX].to_numpy() == pytest.approx(complete[BOX].to_numpy(), abs=6e-4)

    shards = field.folder / "shards"
    make_shards(read_kaggle_folder(field.data), tiny_config, field.data, shards, progress=False)
    index = ShardReader(shards).index
    reviewed = index[index["recording_id"] >= "tiny06"]
    assert reviewed["kind"].value_counts().to_dict() == {"tp": 8, "fp": 8}


def test_a_half_judged_review_and_then_the_rest(field):
    sheet = field.folder / "review.csv"
    rows = [
        ("tiny00", 2, "1.5", "2.5", "Yes"),
        ("tiny01", 2, "1.5", "2.5", ""),
        ("tiny02", 5, "1.5", "2.5", " FP "),
        ("tiny03", 5, "1.5", "2.5", "Unsure"),
    ]
    sheet.write_text(sheet_of(*rows))
    applied = apply_review(sheet, field.data)
    assert (applied.added_tp, applied.added_fp, applied.unsure, applied.empty) == (1, 1, 1, 1)
    tp = (field.data / "train_tp.csv").read_text()
    assert tp.endswith("\ntiny00,2,1,1.5,600.0,2.5,800.5\n")
    done = labels_of(field.data)
    again = apply_review(sheet, field.data)
    assert (again.added_tp, again.added_fp, again.repeated) == (0, 0, 2)
    assert labels_of(field.data) == done
    rows[1] = (*rows[1][:4], "absent")
    sheet.write_text(sheet_of(*rows))
    rest = apply_review(sheet, field.data)
    assert (rest.added_tp, rest.added_fp, rest.repeated, rest.empty) == (0, 1, 2, 0)
    # Another verdict on the same box contradicts the row that is there.
    sheet.write_text(sheet_of((*rows[0][:4], "no")))
    done = labels_of(field.data)
    assert "both TP and FP" in refused(apply_review, sheet, field.data)
    assert labels_of(field.data) == done


@pytest.mark.parametrize(
    ("delimiter", "point", "start", "end", "encoding"),
    [
        (",", ".", "\ufeff", "\r\n", "utf-8"),  # Excel, English: CSV UTF-8
        (";", ",", "\ufeff", "\r\n", "utf-8"),  # Excel, most of Europe: CSV UTF-8
        (";", ".", "", "\n", "utf-8"),  # LibreOffice
        ("\t", ",", "\n", "\r\n", "utf-8"),  # pasted
    ],
)
def test_what_spreadsheet_programs_make_of_a_review(field, delimiter, point, start, end, encoding):
    row = ("tiny00", 2, f"1{point}5", f"2{point}25", "TP", {"comment": 'no, "yes"; maybe'})
    unjudged = ("tiny00", 2, f"3{point}5", f"4{point}5", "")
    others = {"f_min": f"600{point}5", "f_max": "801"}
    row[5].update(others)
    text = start + sheet_of(row, unjudged, delimiter=delimiter, end=end)
    # Blank lines and cells behind the table.
    text += delimiter * (len(COLUMNS) - 1) + end + end
    sheet = field.folder / "saved.csv"
    sheet.write_bytes(text.encode(encoding))
    applied = apply_review(sheet, field.data)
    assert (applied.added_tp, applied.empty) == (1, 1)
    assert (field.data / "train_tp.csv").read_text().endswith("\ntiny00,2,1,1.5,600.5,2.25,801\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (sheet_of(("tiny00", 2, "1", "2", "perhaps")), ":2: a verdict must be TP"),
        (sheet_of(("tiny00", 2, "1", "2", "")), "must be judged before"),
        (sheet_of(("tiny00", 2, "2. Jan", "2", "TP")), ":2: t_min must be a finite number"),
        (sheet_of(("tiny00", 2, "1", "1250", "TP")), ":2: a box must lie in its recording"),
        (sheet_of(("tiny00", 2, "2", "1", "TP")), ":2: t_max must be greater"),
        (sheet_of(("tiny00", "", "1", "2", "TP")), ":2: species_id must be"),
        (sheet_of(("", 2, "1", "2", "TP")), ":2: recording_id must not be empty"),
        (
            sheet_of(("tiny00", 2, "1", "2", "TP", {"species": "middle"})),
            ":2: species_id and species must say the same. 2 is low",
        ),
        (sheet_of(("tiny00", 7, "1", "2", "TP", {"species": "Low"})), "must differ in their names"),
        (sheet_of(("tiny00\x07", 2, "1", "2", "TP")), ":2: recording_id must not have control"),
        (
            sheet_of(("tiny00", 7, "1", "2", "TP", {"species": "Owl\x1b[2J"})),
            ":2: species must not have control characters. Received: 'Owl\\x1b[2J'",
        ),
        (sheet_of(("tiny00", 2, "1", "2", "TP"), columns=COLUMNS[:12]), "must name verdict"),
        ("\udc81", "must be a text file in UTF-8"),
        ("", "is empty"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(field, text, complaint):
    sheet = field.folder / "review.csv"
    sheet.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = labels_of(field.data)
    assert complaint in refused(apply_review, sheet, field.data, copy_recordings=True)
    assert labels_of(field.data) == before
    assert not (field.data / "train" / "tiny06.flac").exists()


def test_species_that_the_folder_does_not_know(field):
    sheet = field.folder / "review.csv"
    owl = {"species": 'Owl, "brown"'}
    rows = [("tiny00", 7, "1", "2", "TP", owl), ("tiny01", 2, "1", "2", "FP", {"species": "s2"})]
    sheet.write_text(sheet_of(*rows))
    assert apply_review(sheet, field.data).new_classes == [SpeciesClass(7, 'Owl, "brown"')]
    assert SpeciesClass(7, 'Owl, "brown"') in read_kaggle_folder(field.data).classes


def test_two_recordings_of_one_name_are_not_mixed_up(field):
    sheet, other = field.folder / "review.csv", field.folder / "tiny00.wav"
    soundfile.write(other, np.zeros(8000 * 9), 8000)
    sheet.write_text(sheet_of(("tiny00", 2, "1", "2", "TP", {"file": str(other)})))
    assert "must stand for one recording" in refused(apply_review, sheet, field.data)


def test_copies_do_not_hide_recordings_in_tfrecord_files(field):
    shutil.rmtree(field.data / "train")
    (field.data / "tfrecords" / "train").mkdir(parents=True)
    (field.data / "tfrecords" / "train" / "0.tfrec").touch()
    sheet = field.folder / "review.csv"
    file = str(field.audio / "tiny06.flac")
    sheet.write_text(sheet_of(("tiny06", 2, "1", "2", "TP", {"file": file})))
    assert "would hide" in refused(apply_review, sheet, field.data, copy_recordings=True)
    assert apply_review(sheet, field.data).missing == {"tiny06": file}


def test_rows_are_added_after_their_recordings(field, monkeypatch):
    sheet, file = field.folder / "review.csv", field.audio / "tiny06.flac"
    sheet.write_text(sheet_of(("tiny06", 2, "1", "2", "TP", {"file": str(file)})))
    before = labels_of(field.data)

    def no_copy(source, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", no_copy)
        message = refused(apply_review, sheet, field.data, copy_recordings=True)
    assert str(file) in message and "Permission denied" in message
    assert labels_of(field.data) == before
    assert apply_review(sheet, field.data, copy_recordings=True).copied == ["tiny06"]
    assert (field.data / "train" / "tiny06.flac").read_bytes() == file.read_bytes()


def test_pick_leaves_out_what_is_judged_and_says_what_is_not_there(review, field):
    audio = field.folder / "some"
    audio.mkdir()
    shutil.copy(field.audio / "tiny07.flac", audio)
    (audio / "tiny08.flac").write_bytes(b"fLaC, but no more of it")
    judged = pd.read_csv(field.events).iloc[0]
    assert judged["recording_id"] == "tiny06"
    with (field.data / "train_fp.csv").open("a") as file:
        file.write(f"tiny06,{judged.species_id},1,{judged.start_s},1,{judged.end_s},2\n")
    arguments = ("pick", "--events", field.events, "--out", field.folder / "review")
    output, errors = review(*arguments, "--audio", audio, "--data", field.data, status=1)
    assert "1 of 16 events are already judged." in output
    assert "2 recordings were not found, such as tiny06." in errors
    assert errors.count("tiny08.flac is not readable") == 4
    sheet = pd.read_csv(field.folder / "review" / "review.csv")
    assert set(sheet["recording_id"]) == {"tiny07"}
    clips = sorted(path.name for path in (field.folder / "review" / "clips").iterdir())
    assert clips == ["0001.wav", "0002.wav", "0003.wav", "0004.wav"]
    # A second review does not write over the first one's verdicts.
    assert "never written over" in refused(check_review_folder, field.folder / "review")


def test_applying_says_which_recordings_are_needed(review, field):
    sheet, file = field.folder / "review.csv", field.audio / "tiny06.flac"
    sheet.write_text(sheet_of(("tiny06", 2, "1", "2", "TP", {"file": str(file)})))
    output, errors = review("apply", "--review", sheet, "--data", field.data, status=1)
    assert "Added 1 rows to" in output
    assert f"--copy-recordings:\n  tiny06: {file}\n" in errors


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("out", ["all", "each"])
def test_events_are_read_as_they_were_written(tmp_path, format, out):
    rows = [
        event("007", 2, 1.0, 2.0, 0.5, probability=0.25),
        event("NA", 5, 0.0, 1.0, 1.0, band=(np.nan, np.nan)),
    ]
    events = pd.DataFrame(rows).astype(EVENT_COLUMNS)
    recordings = [EventRecording(name, f"{name}.wav", 9.0) for name in ("007", "NA")]
    path = tmp_path / "events" if out == "each" else tmp_path / f"all.{format}"
    write_events(events, recordings, path, format, highest_hz=4000)
    if out == "each":
        # A folder with the same events in both formats holds each once.
        write_events(events, recordings, path, "csv", highest_hz=4000)
    pd.testing.assert_frame_equal(read_events(path), events)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"score": "high"}, r":3: score must be a finite number. Received: 'high'"),
        ({"score": 1.5}, r":3: score must be from 0 to 1. Received: 1\.5"),
        ({"species_id": 2.5}, r":3: species_id must be a whole number"),
        ({"start_s": ""}, r":3: start_s must be a finite number. Received: ''"),
        ({"end_s": 0.5}, r":3: an event must end after it begins"),
        ({"recording_id": ""}, r":3: recording_id must not be empty"),
    ],
)
def test_wrong_events_are_named(tmp_path, change, complaint):
    right = event("a", 2, 1.0, 2.0, 0.5)
    path = tmp_path / "events.csv"
    pd.DataFrame([right, {**right, **change}]).to_csv(path, index=False)
    with pytest.raises(UserError, match=complaint):
        read_events(path)


def test_names_cannot_break_out_of_the_page(field):
    name = '</script><b>$"é\u2028'
    events = pd.DataFrame([{**event("tiny06", 2, 1, 2, 0.5), "species": name}])
    picks = pick_events(events.astype(EVENT_COLUMNS), PickRules())
    recordings = {"tiny06": field.audio / "tiny06.flac"}
    folder = field.folder / "review"
    assert write_review(picks, recordings, folder, progress=False) == []
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    data = json.loads(re.search(r'^<script [^>]*id="given">(.*)</script>$', page, re.MULTILINE)[1])
    sheet = pd.read_csv(folder / "review.csv", dtype=str, keep_default_na=False)
    assert (data["columns"], data["rows"]) == (COLUMNS, sheet.to_dict("records"))
    assert data["rows"][0]["species"] == name
    # Neither scripts, styles nor pictures from elsewhere.
    assert not re.search(r"https?:|//\w", page.replace(name, ""))


def test_names_that_a_spreadsheet_program_would_run(field):
    """They are text in all tables that such programs open, and come back as they were."""
    name = '=HYPERLINK("x";"y")'
    events = pd.DataFrame([{**event("tiny06", 77, 1, 2, 0.5), "species": name}])
    events = events.astype(EVENT_COLUMNS)
    path = field.folder / "events.csv"
    path.write_text(csv_text(events, [], 0.0))
    pd.testing.assert_frame_equal(read_events(path), events)
    folder = field.folder / "review"
    picks, recordings = pick_events(events, PickRules()), {"tiny06": field.audio / "tiny06.flac"}
    assert write_review(picks, recordings, folder, progress=False) == []
    for sheet in (path, folder / "review.csv"):
        (row,) = pd.read_csv(sheet, dtype=str, keep_default_na=False).to_dict("records")
        assert row["species"] == f"'{name}"
        assert not any(cell[:1] in "=+-@" for cell in row.values() if cell)
    sheet = folder / "review.csv"
    judged = pd.read_csv(sheet, dtype=str, keep_default_na=False).assign(verdict="TP")
    judged.to_csv(sheet, index=False)
    assert [c.name for c in apply_review(sheet, field.data).new_classes] == [name]


def test_the_page_downloads_what_a_spreadsheet_program_does_not_run(field):
    """The page's own code, in Node."""
    node = shutil.which("node")
    if not node:
        pytest.skip("Node is not installed")
    page = ROOT / "rfcx_tf" / "review" / "templates" / "stores.js"
    items = [
        {"place": "review", "cells": {"a": "=1+1", "b": "-, x"}},
        {"place": "removed", "cells": {"a": "2", "b": "2"}},
        {"place": "review", "cells": {"a": "1", "b": "'"}},
    ]
    code = page.read_text(encoding="utf-8")
    code += f'process.stdout.write(csvText(["a", "b"], {json.dumps(items)}));'
    result = subprocess.run([node, "-e", code], capture_output=True, text=True, check=True)
    assert result.stdout == "\ufeffa,b\n'=1+1,\"'-, x\"\n1,'\n"
