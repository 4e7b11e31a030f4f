"""Recorders at two sites name their files alike: from predict.py to reviewed rows and shards."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from rfcx_tf.cli.main import main
from rfcx_tf.events.read import read_events
from rfcx_tf.labels.annotation_import import import_annotations
from rfcx_tf.labels.annotation_tables import find_tables
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.labels.marks import TableColumns
from rfcx_tf.review.selection import not_judged_yet
from rfcx_tf.scoring.detector import DetectorScorer
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import ShardReader

# What the recorders at two sites called recordings of `tiny_data`.
SITES = {
    "A/20210101_050000": "tiny00",
    "A/20210101_060000": "tiny01",
    "B/20210101_050000": "tiny02",
}
ENDINGS = {
    "csv": ".events.csv",
    "parquet": ".events.parquet",
    "raven": ".Table.1.selections.txt",
    "audacity": ".txt",
    "kaleidoscope": ".kaleidoscope.csv",
}


def script(verb, *arguments) -> int:
    """Runs a verb in this process; its exit status."""
    return main([verb, *map(str, arguments)])


@pytest.fixture(scope="module")
def field(tiny_data, tmp_path_factory) -> Path:
    """A folder of two sites."""
    folder = tmp_path_factory.mktemp("field")
    for name, original in SITES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        sound, rate_hz = soundfile.read(tiny_data / "train" / f"{original}.flac")
        soundfile.write(folder / f"{name}.WAV", sound, rate_hz, "PCM_16")
    return folder


@pytest.fixture(scope="module")
def predicted(untrained_run, field, tmp_path_factory) -> Path:
    """A folder with scores.csv, windows.parquet and events in all formats, of both sites, by a
    prediction that was stopped before its last recording and begun again.
    """
    folder = tmp_path_factory.mktemp("predicted")
    arguments = [
        *("predict", "--run", untrained_run.path, "--audio", field, "--recording-ids", "path"),
        *("--out", folder / "scores.csv", "--window-scores", folder / "windows.parquet"),
        *("--events", folder / "events", "--threshold", "0.3", "--format", *ENDINGS),
    ]
    scored = []
    stream = DetectorScorer.stream

    def stop_at_the_third(self, recording_id=None):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(1)
        return stream(self, recording_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectorScorer, "stream", stop_at_the_third)
        assert script(*arguments) == 130
        assert not (folder / "scores.csv").exists()
        scored.clear()
        assert script(*arguments) == 0
    assert len(scored) == 1
    return folder


@pytest.fixture
def data(tiny_data, tmp_path) -> Path:
    """A data folder with the species of `tiny_data` and nothing else."""
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "species.csv").write_bytes((tiny_data / "species.csv").read_bytes())
    return folder


def test_names_that_repeat_are_refused_before_any_work(untrained_run, field, tmp_path, capsys):
    arguments = ["--run", untrained_run.path, "--audio", field, "--out", tmp_path / "scores.csv"]
    assert script("predict", *arguments) == 2
    assert re.search(r"Found .*A/.* and .*B/.*--recording-ids path", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_scores_and_events_are_those_of_the_same_sound_by_other_names(
    untrained_run, tiny_data, predicted, tmp_path
):
    originals = [tiny_data / "train" / f"{original}.flac" for original in SITES.values()]
    arguments = ["--audio", *originals, "--out", tmp_path / "scores.csv", "--threshold", "0.3"]
    script("predict", "--run", untrained_run.path, *arguments, "--events", tmp_path / "events")
    named = {original: name for name, original in SITES.items()}
    scores, expected = (pd.read_csv(folder / "scores.csv") for folder in (predicted, tmp_path))
    assert scores["recording_id"].to_list() == list(SITES)
    pd.testing.assert_frame_equal(scores, expected.replace({"recording_id": named}))
    events, expected = (read_events(folder / "events") for folder in (predicted, tmp_path))
    assert set(events["recording_id"]) == set(SITES)
    of_sound = [c for c in events.columns if c not in ("file", "start_time", "end_time")]
    expected = expected.replace({"recording_id": named})
    pd.testing.assert_frame_equal(events[of_sound], expected[of_sound])


def test_every_recording_has_its_tables_in_its_subfolder(predicted, field):
    folder = predicted / "events"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {f"{name}{ending}" for name in SITES for ending in ENDINGS.values()}
    events = read_events(folder)
    for name in SITES:
        own = events[events["recording_id"] == name]
        begin, hour = f"2021-01-01T{name[-6:-4]}:00:0", name[-6:-4]
        assert own["start_time"].str.startswith(begin).all()
        assert (own["file"] == str(field / f"{name}.WAV")).all()
        parquet = pd.read_parquet(folder / f"{name}.events.parquet")
        assert parquet["start_s"].to_list() == pytest.approx(own["start_s"], abs=1e-3)
        raven = pd.read_csv(folder / f"{name}.Table.1.selections.txt", sep="\t")
        assert set(raven["Begin Path"]) == {str(field / f"{name}.WAV")}
        assert set(raven["recording_id"]) == {name}
        labels = (folder / f"{name}.txt").read_text().splitlines()
        assert len([line for line in labels if not line.startswith("\\")]) == len(own)
        kaleidoscope = pd.read_csv(folder / f"{name}.kaleidoscope.csv")
        assert set(kaleidoscope["INDIR"]) == {str((field / name).parent)}
        assert set(kaleidoscope["HOUR"]) == {int(hour)}


def test_verdicts_become_rows_and_shards(field, predicted, data, tiny_config, tmp_path, capsys):
    events, review = predicted / "events", tmp_path / "review"
    arguments = ["--events", events, "--audio", field, "--out", review]
    assert script("review", "pick", *arguments, "--per-class", 4, "--per-recording", 2) == 0
    sheet = pd.read_csv(review / "review.csv", dtype=str, keep_default_na=False)
    assert set(sheet["recording_id"]) == set(SITES)
    for row in sheet.itertuples():
        assert row.file == str(field / f"{row.recording_id}.WAV")
        clip, rate_hz = soundfile.read(review / row.clip)
        sound, _ = soundfile.read(row.file)
        begin = round(max(0.0, float(row.t_min) - 1) * rate_hz)
        # Clips begin at a whole sample; times in the sheet are in milliseconds.
        near = [sound[max(0, begin + k) :][: len(clip)] for k in range(-8, 9)]
        # Their peaks are raised.
        raised = [n * (np.abs(clip).max() / np.abs(n).max()) for n in near]
        assert any(len(n) == len(clip) and np.allclose(n, clip, atol=1e-3) for n in raised)
    # TP in one recording of each name, FP in its namesake.
    sheet["verdict"] = ["FP" if name[0] == "B" else "TP" for name in sheet["recording_id"]]
    sheet.to_csv(review / "review.csv", index=False)

    apply = ["review", "apply", "--review", review / "review.csv", "--data", data]
    assert script(*apply, "--copy-recordings") == 0
    for name in SITES:
        copy = data / "train" / f"{name}.WAV"
        assert copy.read_bytes() == (field / f"{name}.WAV").read_bytes()
    assert script(*apply) == 0
    assert f"{len(sheet)} rows were there already" in capsys.readouterr().out

    found = read_kaggle_folder(data)
    assert list(found.recordings) == list(SITES) and not found.missing
    present = found.rows.groupby("recording_id")["present"].agg(["all", "any"])
    assert present.loc["A/20210101_050000"].all() and not present.loc["B/20210101_050000"].any()
    make_shards(found, tiny_config, data, tmp_path / "shards", progress=False)
    reader = ShardReader(tmp_path / "shards")
    assert set(reader.index["recording_id"]) == set(SITES)
    assert {e["path"] for e in reader.manifest.recordings.values()} == {
        f"train/{name}.WAV" for name in SITES
    }
    # The next round passes over what is judged, by recording.
    left = not_judged_yet(read_events(events), found.rows)
    judged = left.merge(sheet.astype({"species_id": int}), on=["recording_id", "species_id"])
    assert len(left) < len(read_events(events))
    assert not np.isclose(judged["start_s"], judged["t_min"].astype(float), atol=1e-3).any()


def test_a_review_cannot_leave_the_data_folder(field, predicted, data, tmp_path, capsys):
    review, name = tmp_path / "review", "A/20210101_060000"
    events = predicted / "events" / f"{name}.events.csv"
    script("review", "pick", "--events", events, "--out", review, "--per-class", 1)
    text = (review / "review.csv").read_text(encoding="utf-8-sig")
    sheet = tmp_path / "moved.csv"
    for out in ("../../outside", str(tmp_path / "outside")):
        moved = text.replace(f"\n{name},", f"\n{out},").replace(",,,/", ",TP,,/")
        assert moved.count(",TP,,") == moved.count("\n") - 1
        sheet.write_text(moved)
        apply = ("apply", "--review", sheet, "--data", data, "--copy-recordings")
        assert script("review", *apply) == 2
        assert "a path below a folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("outside*"))
    assert not (data / "train_tp.csv").exists()


def test_raven_tables_come_back(field, predicted, data, tmp_path):
    """Checked in Raven: a table for each recording, or one for all; and a row drawn there."""
    tables = tmp_path / "tables"
    judged = 0
    for name in SITES:
        path = tables / f"{name}.Table.1.selections.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.read_csv(predicted / "events" / path.relative_to(tables), sep="\t", dtype=str)
        table["Verdict"] = "TP"
        # Raven fills in the file, and leaves what it does not know empty.
        drawn = table.iloc[[0]].assign(**{"recording_id": "", "File Offset (s)": "0.1"})
        table = pd.concat([table, drawn], ignore_index=True)
        table.to_csv(path, sep="\t", index=False)
        judged += len(table)
    found, _ = find_tables([tables])
    imported = import_annotations(found, data)
    assert imported.added_tp == judged
    assert imported.missing == list(SITES)
    rows = pd.read_csv(data / "train_tp.csv")
    assert rows["recording_id"].value_counts().to_dict() == {
        name: len(pd.read_csv(tables / f"{name}.Table.1.selections.txt", sep="\t"))
        for name in SITES
    }
    by_path = import_annotations(found, data, TableColumns(folders=[tables]))
    assert (by_path.added_tp, by_path.repeated) == (0, judged)
    single = tmp_path / "all.txt"
    pd.concat([pd.read_csv(t, sep="\t", dtype=str) for t in found]).to_csv(
        single, sep="\t", index=False
    )
    assert import_annotations([single], data).repeated == judged


def test_labels_of_audacity_come_back_by_their_folders(field, predicted, data):
    labels = [predicted / "events" / f"{name}.txt" for name in SITES]
    events = read_events(predicted / "events")
    columns = TableColumns(folders=[predicted / "events"])
    untouched = import_annotations(labels, data, columns)
    assert (untouched.added_tp, len(untouched.detections)) == (0, len(events))
    # Audacity writes three cells of a label.
    for path in labels:
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        path.write_text("".join("\t".join(cells[:3]) + "\n" for cells in lines))
    assert import_annotations(labels, data, columns).added_tp == len(events)
    rows = pd.read_csv(data / "train_tp.csv")
    assert rows["recording_id"].value_counts().to_dict() == (
        events["recording_id"].value_counts().to_dict()
    )


def test_the_report_has_both_sites(field, predicted, tmp_path, capsys):
    page = tmp_path / "report.html"
    status = script(
        *("report", "--events", predicted / "events", "--audio", field, "--out", page),
        *("--scores", predicted / "scores.csv", "--window-scores", predicted / "windows.parquet"),
    )
    assert status == 0, capsys.readouterr().err
    text = page.read_text()
    assert all(name in text for name in SITES)
