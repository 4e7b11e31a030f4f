"""Raven and Audacity tables into a data folder: every row once, every mistake by its place."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from crowsetta import BBox
from crowsetta.formats.bbox import AudBBox, Raven
from refused import refused

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.events.read import read_events
from rfcx_tf.labels.annotation_import import import_annotations
from rfcx_tf.labels.annotation_tables import find_tables, read_table
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.labels.marks import TableColumns, recording_of_table

HEADER = "recording_id,species_id,songtype_id,t_min,f_min,t_max,f_max\n"
RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def raven(*rows, extra="\tSpecies"):
    """A selection table of rows (begin, end, low, high, extra cells)."""
    lines = [RAVEN + extra]
    for number, row in enumerate(rows, 1):
        lines.append("\t".join([str(number), "Spectrogram 1", "1", *map(str, row)]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path):
    """A data folder with two recordings of 2 s at 8 kHz and nothing else."""
    (tmp_path / "data" / "train").mkdir(parents=True)
    for name in ("rec1", "rec2"):
        path = tmp_path / "data" / "train" / f"{name}.wav"
        soundfile.write(path, np.zeros(16000), 8000)
    return tmp_path / "data"


@pytest.fixture
def table(tmp_path):
    """table(text, name) writes an annotation table and returns its path."""

    def write(text, name="rec1.Table.1.selections.txt"):
        path = tmp_path / "tables" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def rows_of(folder, name="train_tp.csv"):
    return (folder / name).read_text().splitlines()[1:]


def test_a_hand_made_table_is_all_tp(folder, table):
    path = table(raven((0.5, 1.25, 300, 900, "Owl"), (1, 1.5, 100.5, 200, "Coquí")))
    imported = import_annotations([path], folder)
    assert (imported.added_tp, imported.added_fp, imported.repeated) == (2, 0, 0)
    assert (folder / "train_tp.csv").read_text() == (
        HEADER + "rec1,1,1,0.5,300,1.25,900\nrec1,0,1,1,100.5,1.5,200\n"
    )
    assert (folder / "train_fp.csv").read_text() == HEADER
    assert (folder / "species.csv").read_text() == "species_id,name\n0,Coquí\n1,Owl\n"
    found = read_kaggle_folder(folder)
    assert found.classes == [SpeciesClass(0, "Coquí"), SpeciesClass(1, "Owl")]


def test_a_file_sequence_is_read_by_its_file_offsets(folder, table):
    extra = "\tBegin Path\tFile Offset (s)\tCall\tJudged"
    path = table(
        raven(
            (0.5, 1.25, 1, 2, "C:\\x\\rec1.wav", 0.5, "Owl", "TP"),
            (60.1, 60.4, 1, 2, "/x/rec2.wav", 0.1, "Owl", "no"),
            (60.5, 60.6, 1, 2, "/x/rec2.wav", 0.5, "", " "),
            extra=extra,
        ),
        "all.txt",
    )
    imported = import_annotations([path], folder, TableColumns("Call", "Judged"))
    assert (imported.added_tp, imported.added_fp, imported.unjudged) == (1, 1, 1)
    assert rows_of(folder) == ["rec1,0,1,0.5,1,1.25,2"]
    assert rows_of(folder, "train_fp.csv") == ["rec2,0,1,0.1,1,0.4,2"]


def test_a_verdict_can_stand_without_a_class(folder, table):
    path = table(raven((0, 1, 1, 2, "TP"), (1, 2, 1, 2, "fp"), extra="\tVerdict"))
    import_annotations([path], folder, TableColumns(only_species="Owl"))
    assert (len(rows_of(folder)), len(rows_of(folder, "train_fp.csv"))) == (1, 1)
    assert (folder / "species.csv").read_text() == "species_id,name\n0,Owl\n"


def test_a_selection_that_raven_wrote_for_two_views_counts_once(table):
    path = table(
        f"{RAVEN}\tAnnotation\n"
        "1\tWaveform 1\t1\t0.5\t1\t\t\tOwl\n"
        "1\tSpectrogram 1\t1\t0.5\t1\t300\t900\tOwl\n"
        "2\tWaveform 1\t1\t1.5\t2\t\t\tOwl\n"
    )
    marks = read_table(path, TableColumns()).marks
    assert [(m.t_min, m.f_min, m.f_max) for m in marks] == [("0.5", "300", "900"), ("1.5", "", "")]


def test_audacity_labels(folder, table):
    path = table(
        "0.500000\t1.000000\tOwl\n\\\t300.0\t900.0\n"
        "1.0\t1.5\tOwl|FP\n\\\t-1.0\t900.0\n"
        "1.5\t1.75\tFrog|TP\n",
        "rec1.txt",
    )
    import_annotations([path], folder)
    # Unbounded boxes reach to 0 and to half of 8 kHz.
    assert rows_of(folder) == ["rec1,1,1,0.5,300.0,1,900.0", "rec1,0,1,1.5,0,1.75,4000"]
    assert rows_of(folder, "train_fp.csv") == ["rec1,1,1,1,0,1.5,900.0"]


def test_tables_that_crowsetta_writes(tmp_path, folder):
    """Its writers know nothing of ours."""
    columns = {"begin_time_s": [0.25], "end_time_s": [1.5], "low_freq_hz": [300.0]}
    frame = pd.DataFrame(columns | {"high_freq_hz": [900.0], "annotation": ["Owl"]})
    Raven(frame, tmp_path, "Species").to_file(tmp_path / "rec1.txt")
    labels = frame.rename(columns={"annotation": "label"})
    labels = labels[["begin_time_s", "end_time_s", "label", "low_freq_hz", "high_freq_hz"]]
    AudBBox(labels, tmp_path).to_file(tmp_path / "rec2.txt")
    import_annotations([tmp_path / "rec1.txt", tmp_path / "rec2.txt"], folder)
    rows = read_kaggle_folder(folder).rows
    assert rows["recording_id"].tolist() == ["rec1", "rec2"]
    for row in rows.itertuples():
        box = BBox(row.t_min, row.t_max, row.f_min, row.f_max, "Owl")
        assert box == BBox(0.25, 1.5, 300.0, 900.0, "Owl")


def test_importing_again_changes_nothing_and_more_rows_lose_none(folder, table):
    # Own column order, an extra column, no line end; a species known by name, one by number only.
    (folder / "train_tp.csv").write_text(
        "t_min,t_max,f_min,f_max,species_id,recording_id,who\n0.50,1.250,300,900.0,4,rec1,me"
    )
    (folder / "train_fp.csv").write_text(HEADER + "rec2,7,1,0,1,2,3\n")
    (folder / "species.csv").write_text("species_id,family,scientific_name\n4,x,Asio otus\n")
    path = table(
        raven(
            (0.5, 1.25, 300, 900, "asio  OTUS"),
            (1, 1.5, 1, 2, "s7"),
            (1, 1.5, 1, 2, "s7"),
            (1, 1.5, 1, 2, "Bufo bufo"),
            (1, 1.25, 1, 2, "Alytes"),
        )
    )
    imported = import_annotations([path], folder)
    assert (imported.added_tp, imported.repeated) == (3, 2)
    assert imported.new_classes == [SpeciesClass(8, "Alytes"), SpeciesClass(9, "Bufo bufo")]
    assert (folder / "train_tp.csv").read_text() == (
        "t_min,t_max,f_min,f_max,species_id,recording_id,who\n0.50,1.250,300,900.0,4,rec1,me\n"
        "1,1.5,1,2,7,rec1,\n1,1.5,1,2,9,rec1,\n1,1.25,1,2,8,rec1,\n"
    )
    assert (folder / "train_fp.csv").read_text() == HEADER + "rec2,7,1,0,1,2,3\n"
    assert (folder / "species.csv").read_text() == (
        "species_id,family,scientific_name\n4,x,Asio otus\n8,,Alytes\n9,,Bufo bufo\n"
    )
    before = {p.name: p.read_bytes() for p in folder.glob("*.csv")}
    again = import_annotations([path], folder)
    assert (again.added_tp, again.added_fp, again.repeated, again.new_classes) == (0, 0, 5, [])
    assert {p.name: p.read_bytes() for p in folder.glob("*.csv")} == before


def test_column_names_of_a_run_without_names_keep_their_number(folder, table):
    path = table(raven((0, 1, 1, 2, "s12"), (0, 1, 1, 2, "s3"), (0, 1, 1, 2, "Owl")))
    new = import_annotations([path], folder).new_classes
    assert sorted((c.species_id, c.name) for c in new) == [(3, "s3"), (12, "s12"), (13, "Owl")]


def test_an_empty_table_must_be_explained(folder, table):
    paths = [
        table(raven((0, 1, 1, 2, "Owl"), (0, 1, 1, 2, "Frog"))),
        table(raven(), "rec2.Table.1.selections.txt"),
    ]
    text = refused(import_annotations, paths[1:], folder)
    assert text.startswith(f"{paths[1]}: a table without rows") and "--empty-means" in text
    assert list(folder.glob("*.csv")) == []
    imported = import_annotations(paths, folder)
    assert (imported.added_tp, imported.added_fp, imported.empty_tables) == (2, 0, 1)
    assert imported.left_out == [text]
    imported = import_annotations(paths, folder, empty_means="unknown")
    assert (imported.added_tp, imported.added_fp, imported.left_out) == (0, 0, [])
    imported = import_annotations(paths, folder, empty_means="absent")
    assert (imported.added_tp, imported.added_fp) == (0, 2)
    # Both species, over the 2 s and the 4 kHz of the recording.
    assert rows_of(folder, "train_fp.csv") == ["rec2,0,1,0,0,2,4000", "rec2,1,1,0,0,2,4000"]
    assert import_annotations(paths, folder, empty_means="absent").added_fp == 0


def test_absent_must_be_true_and_of_a_recording_that_is_there(folder, table):
    full, empty = table(raven((0, 1, 1, 2, "Owl"))), table("\n", "rec1.txt")
    gone = table("", "gone.txt")
    imported = import_annotations([full, empty, gone], folder, empty_means="absent")
    assert (imported.added_tp, imported.added_fp, imported.missing) == (1, 0, ["gone"])
    contradiction, not_there = imported.left_out
    assert contradiction.startswith(
        f"{empty}: an empty table says that nothing is in rec1. {full}:2 has a TP row"
    )
    assert not_there.startswith(f"{gone}: ") and "gone" in not_there.split("Not found in")[1]
    # The row may also be one that the folder has.
    text = refused(import_annotations, [empty], folder, empty_means="absent")
    assert f"{folder}/train_tp.csv:2 has a TP row" in text


def test_recordings_that_are_not_there_are_counted(folder, table):
    paths = [table(raven((0, 1, 1, 2, "Owl")), f"{name}.txt") for name in ("rec1", "x", "y")]
    assert import_annotations(paths, folder).missing == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (raven((0, "b", 1, 2, "Owl")), ":2: End Time (s) must be a finite number"),
        (raven((1, 1, 1, 2, "Owl")), ":2: t_max must be greater than t_min"),
        (raven((0, 1, 2, 2, "Owl")), ":2: f_max must be greater than f_min"),
        (raven((-1, 1, 1, 2, "Owl")), ":2: t_min must not be negative"),
        (raven((0, 1, "x", 2, "Owl")), ":2: f_min must be a finite number"),
        (raven((0, "nan", 1, 2, "Owl")), ":2: End Time (s) must be a finite number"),
        (raven((0, 1, 1, 2, "")), ":2: 'Species' must name a species"),
        (raven((0, 1, 1, 2, "Owl"), extra="\tWho"), ":1: the header must name the species' column"),
        (raven((0, 1, 1, 2, "Owl", "x"), extra="\tSpecies\tVerdict"), ":2: a verdict must be TP"),
        (raven((0, 1, 1, 2, "Owl", "x")), ":2: a line must have no more cells"),
        (
            raven(
                (0, 1, 1, 2, "Owl", "a.wav"),
                (5, 6, 1, 2, "Owl", "b.wav"),
                extra="\tSpecies\tBegin File",
            ),
            ": a table of several recordings must have the column 'File Offset (s)'",
        ),
        (
            raven((0, 1, 1, 2, "Owl", "a.wav", "b.wav"), extra="\tSpecies\tBegin File\tEnd File"),
            ":2: a box must lie in one recording. It begins in a and ends in b",
        ),
        ("0\t1\tOwl\n\\\t5\n", ":2: a line of frequencies must be"),
        ("0\t1\tOwl\n\\\t5\t6\n\\\t5\t6\n", ":3: a line of frequencies must be"),
        ("0\t1\tOwl\n\\\t5\tx\n", ":2: A frequency must be a finite number"),
        ("0\t1\t\n2\n", ":1: a label must name a species. It is empty. (and 1 more)"),
        ("\n1\t1\tOwl\n", ":2: t_max must be greater than t_min"),
        ("0\t1\t|FP\n", ":1: a label must name a species"),
        ("0\t1\tOwl|perhaps\n", ":1: a verdict must be TP"),
        ("hello\n", ":1: an annotation table is Raven's"),
        ("Selection,Begin Time (s)\n1,2\n", ":1: the header must name End Time (s)"),
    ],
)
def test_a_mistake_is_named_by_file_and_line_and_nothing_is_written(folder, table, text, complaint):
    path = table(text)
    assert f"{path}{complaint}" in refused(import_annotations, [path], folder)
    assert list(folder.glob("*.csv")) == []


def test_what_can_be_used_is_and_the_rest_is_listed(folder, table):
    """Rows, tables, and files that are no tables."""
    rows = [(0, 1, 1, 2, "Owl"), (0, 1, 1, 2, ""), (1, 1, 1, 2, "Owl"), (0, 1, 2, 1, "New")]
    good = table(raven(*rows, (1, 2, "x", 2, "Owl"), (1, 2, 1, 2, "Owl", "a", "b")))
    labels = table("0\t1\tOwl\n\\\t5\tx\n1.5\t1.5\tOwl\n1\t2\tOwl\n\\\t5\t6\n", "rec2.txt")
    readme = table("Read me\n", "README.txt")
    imported = import_annotations([good, labels, readme], folder)
    assert rows_of(folder) == ["rec1,0,1,0,1,1,2", "rec2,0,1,1,5,2,6"]
    assert (folder / "species.csv").read_text() == "species_id,name\n0,Owl\n"
    assert sorted(line.split(": ")[0] for line in imported.left_out) == [
        *(f"{readme}:1",),
        *(f"{good}:{number}" for number in (3, 4, 5, 6, 7)),
        *(f"{labels}:{number}" for number in (2, 3)),
    ]


def test_rows_that_contradict_each_other_are_both_in_doubt(folder, table):
    both = [(0, 1, 1, 2, "Owl", "TP"), (0, 1, 1, 2, "Owl", "FP"), (1, 2, 1, 2, "Owl", "FP")]
    path = table(raven(*both, extra="\tSpecies\tVerdict"))
    (problem,) = import_annotations([path], folder).left_out
    assert f"{path}:2" in problem and f"{path}:3" in problem and "both TP and FP" in problem
    assert rows_of(folder) == [] and rows_of(folder, "train_fp.csv") == ["rec1,0,1,1,1,2,2"]


def test_quotation_marks_are_what_was_typed(folder, table):
    """Raven does not quote; programs that do put the mark at both ends of a cell."""
    species = ['"chip', "Owl", '"Owl, small"', 'chip"', 'a "b" c']
    path = table(raven(*((i / 4, i / 4 + 1, 1, 2, name) for i, name in enumerate(species))))
    assert import_annotations([path], folder).added_tp == len(species)
    names = {c.name for c in read_kaggle_folder(folder).classes}
    assert names == {'"chip', "Owl", "Owl, small", 'chip"', 'a "b" c'}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_tables_as_spreadsheet_programs_save_them(folder, table, delimiter, encoding):
    path = table("")
    text = raven((0.5, 1.25, 300, 900, "Grünspecht"), (1.0, 1.5, 300, 900, '"chip'))
    path.write_bytes(text.replace("\t", delimiter).replace("\n", "\r\n").encode(encoding))
    imported = import_annotations([path], folder)
    assert rows_of(folder) == ["rec1,1,1,0.5,300,1.25,900", "rec1,0,1,1,300,1.5,900"]
    assert [c.name for c in imported.new_classes] == ['"chip', "Grünspecht"]
    assert len(imported.notes) == (encoding == "latin-1")


def test_decimal_commas_and_doubt(folder, table):
    raven_table = table(raven(("0,5", "1,25", "300,0", 900, "Owl")))
    labels = table("0,5\t1,25\tOwl\n\\\t300,5\t900,0\n", "rec2.txt")
    doubt = table(raven(("0.5", "1,250", "300", 900, "Owl")), "rec1.txt")
    imported = import_annotations([raven_table, labels, doubt], folder)
    assert rows_of(folder) == ["rec1,0,1,0.5,300.0,1.25,900", "rec2,0,1,0.5,300.5,1.25,900.0"]
    assert len(imported.left_out) == 1 and imported.left_out[0].startswith(f"{doubt}:2: ")


def test_a_species_in_two_unicode_forms_is_one(folder, table):
    (folder / "species.csv").write_text("species_id,name\n7,Gr\u00fcnspecht\n")
    paths = [
        table(raven((0, 1, 1, 2, "Gru\u0308nspecht"))),
        table("0\t1\tgr\u00fcnspecht\n", "rec2.txt"),
        table("1\t2\tGRU\u0308NSPECHT\n", "rec2.csv"),
    ]
    assert import_annotations(paths, folder).new_classes == []
    assert [row.split(",")[1] for row in rows_of(folder)] == ["7", "7", "7"]


def test_a_table_names_its_recording_in_any_unicode_form(folder, table):
    (folder / "train" / "rec1.wav").rename(folder / "train" / "Gru\u0308n.wav")
    imported = import_annotations([table("0\t1\tOwl\n", "Gr\u00fcn.txt")], folder)
    assert (imported.missing, rows_of(folder)) == ([], ["Gr\u00fcn,0,1,0,0,1,4000"])
    assert list(read_kaggle_folder(folder).used_rows["recording_id"]) == ["Gr\u00fcn"]


def test_a_table_of_another_site_is_not_taken_for_the_same(folder, table):
    for site in ("site1", "site2"):
        (folder.parent / "tables" / site).mkdir(parents=True)
    paths = [table(raven((0, 1, 1, 2, "Owl")), f"{site}/x.txt") for site in ("site1", "site2")]
    text = refused(import_annotations, paths, folder)
    assert all(str(path) in text for path in paths) and "both of x" in text
    assert "--recording-ids path" in text and "--recording-ids name" in text
    # Somebody says that it is one recording, and that they are two.
    assert import_annotations(paths, folder, same_names=True).repeated == 1
    by_path = TableColumns(folders=[folder.parent / "tables"])
    text = refused(import_annotations, paths, folder, by_path)
    assert "Found x and site1/x" in text
    (folder / "train_tp.csv").unlink()
    assert import_annotations(paths, folder, by_path).added_tp == 2
    assert "Found x and site1/x" in refused(import_annotations, paths[:1], folder)
    # Both lie in train/: then they are two.
    (folder / "train" / "site1").mkdir()
    for name in ("x", "site1/x"):
        soundfile.write(folder / "train" / f"{name}.wav", np.zeros(16000), 8000)
    assert import_annotations(paths[:1], folder).added_tp == 1


def test_tables_say_by_their_paths_which_site_they_are_of(folder, table):
    extra, row = "\tSpecies\tBegin Path", (0, 1, 1, 2, "Owl")
    one = table(raven((*row, "D:\\site1\\x.WAV"), extra=extra), "a.txt")
    other = table(raven((*row, "D:\\site2\\x.WAV"), extra=extra), "b.txt")
    text = refused(import_annotations, [one, other], folder)
    assert str(one) in text and str(other) in text
    # One recording, whose species have folders of their own.
    (folder.parent / "tables" / "frogs").mkdir()
    same = table(one.read_text(), "frogs/a.txt")
    assert import_annotations([one, same], folder).repeated == 1


def test_times_that_cannot_run_on_are_those_in_the_files(folder, table):
    """Recordings last 2 s: what begins in the second within these 2 s is in its own file."""
    extra = "\tSpecies\tBegin File"

    def imported(*begins):
        files = ("rec1.wav", "rec2.wav", "rec1.wav")
        rows = [(b, b + 0.25, 1, 2, "Owl", file) for b, file in zip(begins, files, strict=False)]
        return import_annotations([table(raven(*rows, extra=extra))], folder)

    assert imported(0.5, 1.5).added_tp == 2
    assert imported(0.5, 0.75, 1).added_tp == 2
    assert rows_of(folder)[1] == "rec2,0,1,1.5,1,1.75,2"
    # So it may be in a sequence, and this it must be.
    for begins in ((0.5, 2), (0.5, 2.5, 1), (3, 1)):
        assert "'File Offset (s)'" in refused(imported, *begins)


BIRDNET = (
    f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
    "1\tSpectrogram 1\t1\t0\t1\t0\t4000\tBlackbird\teurbla\t0.87\tE:\\A\\rec1.WAV\t0\n"
    "2\tSpectrogram 1\t1\t1\t2\t0\t4000\tnocall\tnocall\t0.4\tE:\\A\\rec1.WAV\t1\n"
)


@pytest.mark.parametrize(
    ("name", "text", "band"),
    [
        ("rec1.BirdNET.selection.table.txt", BIRDNET, (0, 4000)),
        ("rec1.BirdNET.results.txt", "0\t1.0\tBlackbird\t0.87\n", (np.nan, np.nan)),
        ("rec1.BirdNET.results.txt", "0\t1,0\tBlackbird\t0,87\n", (np.nan, np.nan)),
        (
            "rec1.BirdNET.results.csv",
            "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
            "0,1.0,Turdus merula,Blackbird,0.87,rec1.wav\n",
            (np.nan, np.nan),
        ),
        # Of any other detector.
        ("x.txt", raven((0, 1, 0, 4000, "Blackbird", 0.87), extra="\tSpecies\tScore"), (0, 4000)),
    ],
)
def test_what_a_detector_found_becomes_candidates_only(folder, table, run_script, name, text, band):
    (folder / "species.csv").write_text("species_id,name\n7,Blackbird\n")
    path = table(text, name)
    command = ("import-annotations", "--data", folder, "--tables", path)
    result = run_script(*command)
    assert result.returncode == 1
    assert f"1 rows of a detector, which nobody has judged, such as {path}:" in result.stderr
    assert not list(folder.glob("train_*.csv"))
    result = run_script(*command, "--detections", folder / "found.csv")
    assert not list(folder.glob("train_*.csv"))
    assert f"Wrote {folder / 'found.csv'}: 1 detections" in result.stdout
    (event,) = read_events(folder / "found.csv").itertuples()
    assert (event.species_id, event.species, event.score) == (7, "Blackbird", 0.87)
    assert (event.start_s, event.end_s) == (0, 1)
    np.testing.assert_equal((event.low_hz, event.high_hz), band)
    if name != "x.txt":
        assert (result.returncode, result.stderr) == (0, "")
        assert event.file == str(folder / "train" / "rec1.wav")
    run_script(*command, "--detections")
    assert (folder / "detections.csv").read_text() == (folder / "found.csv").read_text()


def test_what_a_person_wrote_of_confidence_is_no_detector(folder, table):
    rows = [(0, 1, 1, 2, "Owl", "sure"), (1, 2, 1, 2, "Owl", 3)]
    path = table(raven(*rows, extra="\tSpecies\tConfidence"))
    assert import_annotations([path], folder).added_tp == 2
    # A detector's rows that somebody has judged are as good as any.
    judged = table(BIRDNET.replace("Confidence", "Verdict").replace("0.87", "TP"), "b.txt")
    judged.write_text(judged.read_text().replace("0.4", ""))
    imported = import_annotations([judged], folder)
    assert (imported.added_tp, imported.unjudged) == (1, 1)


def test_a_box_is_not_both_tp_and_fp(folder, table):
    (folder / "train_fp.csv").write_text(HEADER + "rec1,0,1,0,1,1,2\n")
    path = table(raven((0, 1, 1, 2, "s0")))
    text = refused(import_annotations, [path], folder)
    assert "both TP and FP" in text and f"{path}:2" in text
    assert not (folder / "train_tp.csv").exists()


def test_a_box_without_a_band_needs_its_recording(folder, table):
    path = table("0\t1\tOwl\n", "x.txt")
    text = refused(import_annotations, [path], folder)
    assert text.startswith(f"{path}:1: the box has no upper frequency") and text.endswith(": x.")


def test_a_named_verdict_column_must_be_there(folder, table):
    path = table(raven((0, 1, 1, 2, "Owl")))
    text = refused(import_annotations, [path], folder, TableColumns(verdict="Judged"))
    assert f"{path}:1: the header must name Judged" in text


def test_two_species_of_one_name_are_refused(folder, table):
    (folder / "species.csv").write_text("species_id,name\n1,Owl\n2,owl\n")
    text = refused(import_annotations, [table(raven((0, 1, 1, 2, "Owl")))], folder)
    assert "owl is 1 and 2" in text


def test_a_folder_by_a_wrong_name_is_not_made(folder, table):
    path = table(raven((0, 1, 1, 2, "Owl")))
    assert "must be a folder" in refused(import_annotations, [path], folder / "dta")
    assert not (folder / "dta").exists()


def test_rows_in_tfrecord_files_are_not_hidden(folder, table):
    (folder / "tfrecords" / "train").mkdir(parents=True)
    (folder / "tfrecords" / "train" / "0.tfrec").write_bytes(b"")
    text = refused(import_annotations, [table(raven((0, 1, 1, 2, "Owl")))], folder)
    assert "TFRecord" in text


def test_tables_are_found_in_folders_once(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "deep/a.txt", "._b.txt", "c.wav"):
        (tmp_path / name).write_text("")
    for name in ("d.CSV", "train_tp.csv", "species.csv", "a.events.csv", "a.kaleidoscope.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "unplugged")
    tables, unsearched = find_tables([tmp_path, tmp_path / "b.txt"])
    assert tables == [tmp_path / "b.txt", tmp_path / "d.CSV", tmp_path / "deep" / "a.txt"]
    assert len(unsearched) == 1 and f"{tmp_path / 'gone'} is a link" in unsearched[0]
    assert "Not found" in refused(find_tables, [tmp_path / "x"])
    (tmp_path / "none").mkdir()
    assert "None found" in refused(find_tables, [tmp_path / "none"])


@pytest.mark.parametrize(
    "name",
    [
        "rec.1.Table.1.selections.txt",
        "rec.1.selections.txt",
        "rec.1.txt",
        "rec.1.wav.txt",
        "rec.1.BirdNET.selection.table.txt",
    ],
)
def test_a_table_is_for_the_recording_in_its_name(name):
    assert recording_of_table(f"/x/{name}") == "rec.1"


def test_recordings_that_are_called_by_their_paths(folder, table):
    """By the tables' places; a table of several, and of two of one name, is refused."""
    by_path = TableColumns(folders=[folder.parent / "tables"])
    for site in ("site1", "site2"):
        (folder / "train" / site).mkdir()
        soundfile.write(folder / "train" / site / "x.WAV", np.zeros(16000), 8000)
        (folder.parent / "tables" / site).mkdir(parents=True)
    extra = "\tSpecies\tBegin File"
    drawn = table(
        raven((0, 1, 1, 2, "Owl", "x.WAV"), extra=extra), "site1/x.Table.1.selections.txt"
    )
    labels = table("0.5\t1.0\tOwl\n", "site2/x.txt")
    assert recording_of_table(drawn, by_path.folders) == "site1/x"
    assert import_annotations([drawn, labels], folder, by_path).missing == []
    # The upper bound of an unbounded box is that of its own recording.
    expected = ["site1/x,0,1,0,1,1,2", "site2/x,0,1,0.5,0,1,4000"]
    assert rows_of(folder) == expected
    assert list(read_kaggle_folder(folder).recordings) == ["rec1", "rec2", "site1/x", "site2/x"]
    empty = table("", "site2/rec1.txt")
    assert "site2/rec1" in refused(import_annotations, [empty], folder, by_path, "absent")
    assert "write site1/x" in refused(import_annotations, [labels], folder)
    other = table(raven((0, 1, 1, 2, "Owl", "y.WAV"), extra=extra), "site1/x.txt")
    (text,) = read_table(other, by_path).problems
    assert "site1/x.txt:2" in text and "here site1/x as" in text and "row of y" in text
    extra = "\tSpecies\tBegin Path\tFile Offset (s)"
    rows = [(0, 1, 1, 2, "Owl", f"D:\\{site}\\x.WAV", 0) for site in ("site1", "site2")]
    text = refused(read_table, table(raven(*rows, extra=extra), "all.txt"), TableColumns())
    assert "all.txt:3" in text and "D:\\site1\\x.WAV and D:\\site2\\x.WAV" in text
    rows = [(*row, name) for row, name in zip(rows, ("site1/x", ""), strict=True)]
    path = table(raven(*rows, extra=f"{extra}\trecording_id"), "all.txt")
    (text,) = read_table(path, TableColumns()).problems
    assert "all.txt:3" in text and "must have a recording_id" in text
    assert rows_of(folder) == expected


def test_the_verb_says_what_it_did(folder, table, run_script):
    path = table(raven((0, 1, 1, 2, "Owl", "x", "TP"), extra="\tAnnotation\tWho\tIs it"))
    empty = table("", "rec2.txt")
    command = ("import-annotations", "--data", folder, "--verdict-column", "Is it", "--tables")
    result = run_script(*command, path, empty)
    assert (result.returncode, rows_of(folder)) == (1, ["rec1,0,1,0,1,1,2"])
    assert f"{empty}: a table without rows" in result.stderr
    result = run_script(
        *(*command, path.parent, "--class-column", "Annotation", "--empty-means", "absent")
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "New species" not in result.stdout
    assert "\nAdded 0 rows to " in result.stdout
    assert rows_of(folder, "train_fp.csv") == ["rec2,0,1,0,0,2,4000"]
    gone = table(raven((0, 1, 1, 2, "Frog")), "gone.txt")
    result = run_script("import-annotations", "--data", folder, "--tables", gone)
    assert (result.returncode, result.stderr.splitlines()[1:]) == (1, ["  gone"])
    assert f"not in {folder}/train" in result.stderr and "New species s1: Frog" in result.stdout
    # The folder of the recordings is not the folder of the data.
    before = sorted(folder.rglob("*"))
    result = run_script("import-annotations", "--data", folder / "train", "--tables", path)
    assert result.returncode == 2 and "Name the folder above it" in result.stderr
    assert sorted(folder.rglob("*")) == before
