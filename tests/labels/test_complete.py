"""Completely annotated recordings: read, imported and refused, by hand."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from refused import refused

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.labels.annotation_import import import_annotations
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.labels.complete import complete_mask, without_lost_rows
from rfcx_tf.labels.marks import TableColumns

RAVEN = "Selection\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\tVerdict\n"
OWL, FROG = "1\t0\t1\t100\t200\towl\tTP\n", "2\t0\t1\t100\t200\tfrog\tTP\n"
# What one of them says of completeness.
HEADER = "recording_id,species_id\n"


@pytest.fixture
def folder(tmp_path):
    """A data folder with four recordings of 2 s, an owl (3) and a frog (5), and two rows."""
    (tmp_path / "train").mkdir()
    for name in "abcd":
        soundfile.write(tmp_path / "train" / f"{name}.wav", np.zeros(16000), 8000)
    rows = "recording_id,species_id,t_min,f_min,t_max,f_max\na,3,0,100,1,200\nb,5,0,100,1,200\n"
    (tmp_path / "train_tp.csv").write_text(rows)
    (tmp_path / "species.csv").write_text("species_id,name\n3,owl\n5,frog\n")
    return tmp_path


@pytest.fixture
def tables(tmp_path):
    """tables(a=text, ...) writes selection tables and returns their paths."""

    def write(**texts):
        (tmp_path / "tables").mkdir(exist_ok=True)
        paths = [tmp_path / "tables" / f"{name}.txt" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        return paths

    return write


def test_a_line_says_all_species_or_one(folder):
    assert read_kaggle_folder(folder).complete == {}
    text = f"{HEADER}a,\nb,5\nb,3\nc.wav,3.0\nd,\nd,5\ngone,\n"
    (folder / "complete.csv").write_text(text)
    found = read_kaggle_folder(folder)
    assert found.complete == {"a": [3, 5], "b": [3, 5], "c": [3], "d": [3, 5]}
    assert found.missing == ["gone"]
    assert complete_mask(found.complete, "c", found.classes).tolist() == [1, 0]
    assert complete_mask(found.complete, "other", found.classes).tolist() == [0, 0]
    (folder / "complete.csv").write_text("recording_id\nb\n")
    assert read_kaggle_folder(folder).complete == {"b": [3, 5]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording\na\n", ":1: the header must name recording_id"),
        (f"{HEADER},3\n", ":2: recording_id must not be empty"),
        (f"{HEADER}a,\nb,owl\n", ":3: species_id must be a finite number. Received: 'owl'"),
        (f"{HEADER}a,\nb,4\n", ":3: species_id must be one that the folder knows. Received: 4."),
    ],
)
def test_bad_lines_are_refused_by_their_place(folder, text, message):
    (folder / "complete.csv").write_text(text)
    assert f"{folder / 'complete.csv'}{message}" in refused(read_kaggle_folder, folder)


def test_a_species_with_a_row_that_was_not_used_is_not_complete():
    rows = pd.DataFrame({"recording_id": ["a", "a", "a", "b"], "species_id": [3, 3, 5, 3]})
    complete = {"a": [3, 5, 7], "b": [3], "c": [3]}
    assert without_lost_rows(complete, rows, rows) == complete
    assert without_lost_rows(complete, rows, rows[1:3]) == {"a": [5, 7], "c": [3]}
    assert without_lost_rows(complete, rows, rows[:0]) == {"a": [7], "c": [3]}


def test_imported_tables_may_be_complete(folder, tables):
    paths = tables(a=RAVEN + OWL, c=RAVEN, d="\n")
    imported = import_annotations(paths, folder, complete=True)
    assert imported.complete == ["a", "c", "d"] and not imported.left_out
    assert (imported.added_tp, imported.added_fp, imported.repeated) == (0, 0, 1)
    assert (folder / "complete.csv").read_text() == f"{HEADER}a,\nc,\nd,\n"
    # Again, and of more tables.
    assert import_annotations(paths, folder, complete=True).complete == []
    imported = import_annotations(tables(b=RAVEN + FROG), folder, complete=True)
    assert imported.complete == ["b"]
    assert (folder / "complete.csv").read_text() == f"{HEADER}a,\nc,\nd,\nb,\n"
    assert read_kaggle_folder(folder).complete == {name: [3, 5] for name in "abcd"}


def test_tables_of_one_species_are_complete_for_it(folder, tables):
    frogs = TableColumns(only_species="Frog")
    paths = tables(a=RAVEN, c=RAVEN + FROG)
    assert import_annotations(paths, folder, frogs, complete=True).complete == ["a", "c"]
    assert (folder / "complete.csv").read_text() == f"{HEADER}a,5\nc,5\n"
    newts = TableColumns(only_species="newt")
    text = refused(import_annotations, tables(d=RAVEN), folder, newts, complete=True)
    assert "newt has no row, and is not in species.csv" in text
    # A column that is not there could not say it: the line would say all species.
    (folder / "complete.csv").write_text("recording_id\n")
    text = refused(import_annotations, paths, folder, frogs, complete=True)
    assert f"{folder / 'complete.csv'} has none" in text


@pytest.mark.parametrize(
    "text",
    [
        RAVEN + OWL.replace("TP", "unsure"),
        RAVEN + OWL + FROG.replace("TP", ""),
        RAVEN + OWL + FROG.replace("200", "50"),  # f_max below f_min
        RAVEN + OWL + FROG.replace("frog", ""),
        RAVEN + OWL + "9\tsoon\t1\t1\t2\towl\tTP\n",
        RAVEN + OWL + OWL.replace("TP", "FP"),
        RAVEN.replace("\tVerdict", "\tConfidence") + OWL.replace("TP", "0.8"),
        "a table of something else\n",
    ],
)
def test_what_is_left_out_or_not_judged_makes_no_recording_complete(folder, tables, text):
    paths = tables(c=text, d=RAVEN + FROG)
    imported = import_annotations(paths, folder, complete=True)
    assert imported.complete == ["d"]
    assert (folder / "complete.csv").read_text() == f"{HEADER}d,\n"
    if not text.startswith("a table"):
        assert any("not noted as completely annotated: 1 (c)" in t for t in imported.left_out)


def test_an_empty_table_beside_a_call_is_left_out(folder, tables):
    [path] = tables(a=RAVEN)
    text = refused(import_annotations, [path], folder, complete=True)
    assert f"{path}: an empty table says that nothing is in a. " in text
    assert not (folder / "complete.csv").exists()


def test_tables_without_rows_may_mean_that_nobody_looked(folder, tables):
    paths = tables(c=RAVEN, d=RAVEN + FROG)
    imported = import_annotations(paths, folder, empty_means="unknown", complete=True)
    assert imported.complete == ["d"] and not imported.left_out


def test_species_that_come_later_are_told(folder, tables):
    (folder / "complete.csv").write_text(f"{HEADER}a,\n")
    imported = import_annotations(tables(c=RAVEN + OWL.replace("owl", "newt")), folder)
    assert imported.new_classes == [SpeciesClass(6, "newt")]
    assert any("1 (a)" in note and "1 (newt)" in note for note in imported.notes)


def test_the_verb_says_what_it_noted(folder, tables, run_script):
    paths = tables(a=RAVEN + OWL, c=RAVEN + OWL.replace("TP", ""))
    result = run_script("import-annotations", "--tables", *paths, "--data", folder, "--complete")
    assert result.returncode == 1
    assert f"Noted 1 recordings as completely annotated in {folder}/complete.csv." in result.stdout
    assert "not noted as completely annotated: 1 (c)" in result.stderr
