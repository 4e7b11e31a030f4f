"""Files of events: letter by letter, and as other programs' readers see them."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from crowsetta.formats.bbox import AudBBox, Raven
from crowsetta.formats.seq import AudSeq

from rfcx_tf.core.errors import UserError
from rfcx_tf.events.table import EVENT_COLUMNS, EventRecording, empty_events
from rfcx_tf.events.write import FORMATS, check_events_out, write_events, writes_one_file
from rfcx_tf.labels.annotation_import import import_annotations
from rfcx_tf.labels.annotations import read_kaggle_folder

START = datetime(2023, 4, 1, 23, 59, 30, tzinfo=timezone(timedelta(hours=2)))
A = EventRecording("a", "/sounds/site1/a.wav", 60.0, START)
B = EventRecording("b", "/sounds/site2/b.flac", 30.5)
C = EventRecording("c", "/sounds/c.wav", 10.0)
RECORDINGS = [B, C, A]


def make(*rows):
    return pd.DataFrame(rows, columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS)


# Not in the order of the recordings; the owl's band and the b's calibration are not known.
EVENTS = make(
    ("a", A.file, 7, 'Frog, "red"', 1.0004, 2.5, 500.04, 2500, 0.81234567, 0.9, "T1", "T2"),
    ("a", A.file, 3, "Owl", 45.0, 60.0, np.nan, np.nan, 0.5, 0.25, "T3", "T4"),
    ("b", B.file, 7, 'Frog, "red"', 0.0, 1.0, 500.04, 2500, 0.75, np.nan, "", ""),
)

CSV = """\
recording_id,file,species_id,species,start_s,end_s,low_hz,high_hz,score,probability,start_time,end_time
b,/sounds/site2/b.flac,7,"Frog, ""red\""",0.0,1.0,500.0,2500.0,0.75,,,
a,/sounds/site1/a.wav,7,"Frog, ""red\""",1.0,2.5,500.0,2500.0,0.812346,0.9,T1,T2
a,/sounds/site1/a.wav,3,Owl,45.0,60.0,,,0.5,0.25,T3,T4
"""
RAVEN_HEADER = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
    "Begin Path\tBegin File\tFile Offset (s)\tSpecies\tScore\tProbability\tVerdict\n"
)
# a begins after the 30.5 s of b and the 10 s of c.
RAVEN = RAVEN_HEADER + (
    "1\tSpectrogram 1\t1\t0.000000\t1.000000\t500.0\t2500.0\t"
    '/sounds/site2/b.flac\tb.flac\t0.000000\tFrog, "red"\t0.7500\t\t\n'
    "2\tSpectrogram 1\t1\t41.500400\t43.000000\t500.0\t2500.0\t"
    '/sounds/site1/a.wav\ta.wav\t1.000400\tFrog, "red"\t0.8123\t0.9000\t\n'
    "3\tSpectrogram 1\t1\t85.500000\t100.500000\t0.0\t24000.0\t"
    "/sounds/site1/a.wav\ta.wav\t45.000000\tOwl\t0.5000\t0.2500\t\n"
)
AUDACITY_A = (
    '1.000400\t2.500000\tFrog, "red"\t0.8123\n\\\t500.040000\t2500.000000\n'
    "45.000000\t60.000000\tOwl\t0.5000\n"
)
KALEIDOSCOPE_HEADER = (
    "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,Fmax,DATE,TIME,HOUR,"
    "TOP1MATCH,TOP1DIST,MANUAL ID\n"
)
KALEIDOSCOPE = KALEIDOSCOPE_HEADER + (
    '/sounds,site2,b.flac,0,0.000,1.000,500.0,1500.0,2500.0,,,,"Frog, ""red""",0.2500,\n'
    "/sounds,site1,a.wav,0,1.000,1.500,500.0,1500.0,2500.0,2023-04-01,23:59:30,23,"
    '"Frog, ""red""",0.1000,\n'
    "/sounds,site1,a.wav,0,45.000,15.000,,,,2023-04-01,23:59:30,23,Owl,0.7500,\n"
)


def write(out, format, events=EVENTS, recordings=RECORDINGS):
    return write_events(events, recordings, out, format, highest_hz=24000)


@pytest.mark.parametrize(
    ("format", "name", "expected"),
    [
        ("csv", "all.csv", CSV),
        ("raven", "all.txt", RAVEN),
        ("kaleidoscope", "all.csv", KALEIDOSCOPE),
    ],
)
def test_one_file_for_all(tmp_path, format, name, expected):
    (path,) = write(tmp_path / "deep" / name, format)
    assert path == tmp_path / "deep" / name
    assert path.read_text() == expected
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_a_file_for_every_recording_also_without_events(tmp_path):
    paths = write(tmp_path / "raven", "raven")
    assert [p.name for p in paths] == [f"{name}.Table.1.selections.txt" for name in "bca"]
    assert paths[1].read_text() == RAVEN_HEADER
    # Alone, a recording begins at 0.
    assert paths[2].read_text().splitlines()[1].split("\t")[3:5] == ["1.000400", "2.500000"]
    paths = write(tmp_path / "csv", "csv")
    assert [p.name for p in paths] == [f"{name}.events.csv" for name in "bca"]
    assert paths[1].read_text() == CSV.splitlines(keepends=True)[0]
    paths = write(tmp_path / "audacity", "audacity")
    assert [p.name for p in paths] == ["b.txt", "c.txt", "a.txt"]
    assert paths[2].read_text() == AUDACITY_A
    assert paths[1].read_text() == ""
    paths = write(tmp_path / "kaleidoscope", "kaleidoscope")
    assert paths[1].read_text() == KALEIDOSCOPE_HEADER
    # The folder of one file is the input folder itself.
    assert paths[0].read_text().splitlines()[1].startswith("/sounds/site2,,b.flac,0,")


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "audacity"])
def test_no_events_at_all_leave_the_header(tmp_path, format):
    suffix = {"raven": ".txt", "parquet": ".parquet"}.get(format, ".csv")
    (path,) = write(tmp_path / f"all{suffix}", format, empty_events())
    if format == "parquet":
        assert pd.read_parquet(path).columns.tolist() == list(EVENT_COLUMNS)
    else:
        assert len(path.read_text().splitlines()) == 1


def test_parquet_keeps_types_every_digit_and_the_version(tmp_path):
    (path,) = write(tmp_path / "all.parquet", "parquet")
    expected = pd.concat([EVENTS.iloc[2:], EVENTS.iloc[:2]], ignore_index=True)
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected)
    assert pyarrow.parquet.read_schema(path).metadata == {b"rfcx_tf.event_table_version": b"1"}
    # No events have the same types as some.
    (empty,) = write(tmp_path / "empty.parquet", "parquet", empty_events())
    assert pyarrow.parquet.read_schema(empty).equals(pyarrow.parquet.read_schema(path))


def test_crowsetta_reads_the_raven_table(tmp_path):
    (path,) = write(tmp_path / "all.txt", "raven")
    boxes = Raven.from_file(path, annot_col="Species").to_bbox()
    assert [box.label for box in boxes] == ['Frog, "red"', 'Frog, "red"', "Owl"]
    assert [(box.onset, box.offset) for box in boxes][1:] == [(41.5004, 43.0), (85.5, 100.5)]
    assert (boxes[2].low_freq, boxes[2].high_freq) == (0, 24000)


def test_crowsetta_reads_the_audacity_labels(tmp_path):
    known, unknown = EVENTS.iloc[:1], EVENTS.iloc[1:2]
    (path,) = write(tmp_path / "known.txt", "audacity", known, [A])
    (box,) = AudBBox.from_file(path).to_bbox()
    assert (box.onset, box.offset, box.label) == (1.0004, 2.5, 'Frog, "red"')
    assert (box.low_freq, box.high_freq) == (500.04, 2500)
    (path,) = write(tmp_path / "unknown.txt", "audacity", unknown, [A])
    # It takes three cells alone, as Audacity exports them.
    path.write_text(path.read_text().replace("\t0.5000", ""))
    (segment,) = AudSeq.from_file(path).to_seq().segments
    assert (segment.onset_s, segment.offset_s, segment.label) == (45, 60, "Owl")


def test_raven_finds_a_relative_file_and_a_name_with_tabs_stays_one_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recording = EventRecording("x", "in  put/x.wav", 9.0)
    events = make(("x", recording.file, 1, "a\tb\nc", 0, 1, 1, 2, 0.5, np.nan, "", ""))
    (path,) = write(tmp_path / "x.txt", "raven", events, [recording])
    (row,) = pd.read_csv(path, sep="\t").to_dict("records")
    assert (row["Begin Path"], row["Species"]) == (f"{tmp_path}/in  put/x.wav", "a b c")


def test_labels_of_several_recordings_need_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"Received: 3 recordings and the file .*all\.txt"):
        write(tmp_path / "all.txt", "audacity")
    with pytest.raises(UserError, match="Name a folder"):
        check_events_out(tmp_path / "all.txt", "audacity", 2)
    check_events_out(tmp_path / "all.txt", "audacity", 1)
    check_events_out(tmp_path / "all", "audacity", 2)
    assert list(tmp_path.iterdir()) == []


def test_the_extension_tells_a_file_from_a_folder():
    assert writes_one_file("x/all.CSV", "csv") and writes_one_file("all.txt", "raven")
    assert not writes_one_file("x/all", "csv") and not writes_one_file("all.csv", "parquet")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / "all").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "all", "csv")
    assert (tmp_path / "all").read_text() == "mine"


def test_events_that_a_listener_judged_become_training_rows(tmp_path, tiny_data):
    """Events -> Raven -> TP and FP in the Verdict column -> a data folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tiny_data / "train")
    (tmp_path / "data" / "species.csv").write_text((tiny_data / "species.csv").read_text())
    recordings = [
        EventRecording(f"tiny0{k}", str(tiny_data / "train" / f"tiny0{k}.flac"), 6.0)
        for k in range(3)
    ]
    files = [recording.file for recording in recordings]
    events = make(
        ("tiny00", files[0], 2, "low", 0.5, 1.25, 600, 800, 0.9, np.nan, "", ""),
        ("tiny02", files[2], 9, "high", 1 / 3, 2 / 3, 2600, 3000, 0.8, np.nan, "", ""),
        ("tiny02", files[2], 5, "middle", 3.0, 4.0, np.nan, np.nan, 0.7, np.nan, "", ""),
        ("tiny02", files[2], 5, "middle", 5.0, 5.5, 1400, 1700, 0.6, np.nan, "", ""),
    )
    (path,) = write_events(events, recordings, tmp_path / "all.txt", "raven", highest_hz=4000)
    header, *lines = path.read_text().splitlines()
    verdicts = ["TP", "TP", "FP", ""]
    judged = [line + verdict for line, verdict in zip(lines, verdicts, strict=True)]
    path.write_text("\n".join([header, *judged]) + "\n")
    imported = import_annotations([path], tmp_path / "data")
    assert (imported.added_tp, imported.added_fp, imported.unjudged) == (2, 1, 1)
    rows = read_kaggle_folder(tmp_path / "data").rows
    assert rows["recording_id"].tolist() == ["tiny00", "tiny02", "tiny02"]
    assert rows["species_id"].tolist() == [2, 9, 5]
    assert rows["present"].tolist() == [True, True, False]
    box = rows[["t_min", "t_max", "f_min", "f_max"]].to_numpy()
    expected = [[0.5, 1.25, 600, 800], [1 / 3, 2 / 3, 2600, 3000], [3, 4, 0, 4000]]
    np.testing.assert_allclose(box, expected, atol=1e-6)
