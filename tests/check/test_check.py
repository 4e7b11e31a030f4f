"""Before training: what is found in data folders and tables that were made to hold it."""

import csv

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from rfcx_tf.check.facts import read_data_folder
from rfcx_tf.check.folds import fold_table
from rfcx_tf.check.suspicious import find_suspicious

HEADER = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
RAVEN = "Selection\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies"


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory):
    """train/ with a, b, c: 4 s of noise at 8 kHz; d: the same, cut in half."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "train").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    for name in "abcd":
        soundfile.write(folder / "train" / f"{name}.wav", noise, 8000)
    path = folder / "train" / "d.wav"
    path.write_bytes(path.read_bytes()[:32_000])
    return folder


# What each row is, beside two good ones of species 1 in two recordings.
GOOD = [["a", 1, 1, 0.5, 500, 1.0, 900], ["b", 1, 1, 0.5, 500, 1.1, 900]]
DOUBTFUL = {
    "not there": ["lost", 1, 1, 0, 500, 1, 900],
    "outside": ["a", 1, 1, 3.5, 500, 4.5, 900],
    "half the sample rate": ["a", 1, 1, 2.5, 3000, 3.0, 5000],
    "much longer": ["b", 1, 1, 0, 100, 4, 200],
    "drawn twice": ["a", 1, 1, 0.52, 510, 1.0, 900],
    "wrong or doubled": ["a", 1, 1, 0.5, 500, 1.0, 900],
    "nothing can be seen": ["c", 1, 1, 2.0, 500, 2.001, 900],
    "cannot be learned": ["c", 2, 1, 0.5, 500, 1.0, 900],
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_a_doubtful_row_is_found_where_it_stands(kind, sound_folder):
    # Other good rows keep the median length of the species what it is.
    good = [["c", 1, 1, 0.5 * i, 500, 0.5 * i + 0.3, 900] for i in range(4)]
    write_rows(sound_folder / "train_tp.csv", [*GOOD, *good, DOUBTFUL[kind]])
    (sound_folder / "train_fp.csv").unlink(missing_ok=True)
    found = find_suspicious(read_data_folder(sound_folder, progress=False))
    ((name, lines),) = [(n, found[n]) for n in found if "damaged" not in n]
    assert kind in name and len(lines) == 1
    place = {"not there": "lost: 1 rows", "cannot be learned": "s2: all 1 TP rows"}
    place["drawn twice"] = f"{sound_folder}/train_tp.csv:8 is nearly"
    assert lines[0].startswith(place.get(kind, f"{sound_folder}/train_tp.csv:8: "))


def test_rows_that_contradict_each_other_and_damaged_sound_are_found(sound_folder):
    write_rows(sound_folder / "train_tp.csv", GOOD)
    rows = [
        ["a", 1, 1, 0.6, 600, 0.9, 800],
        ["a", 1, 1, 0.95, 600, 1.5, 800],
        ["a", 1, 2, 0.6, 600, 0.9, 800],
        ["b", 1, 1, 0.5, 2000, 1.1, 3000],
    ]
    write_rows(sound_folder / "train_fp.csv", rows)
    found = find_suspicious(read_data_folder(sound_folder, progress=False))
    assert list(found) == [
        "Recordings that are damaged",
        "TP and FP boxes of a species that overlap (present wins)",
    ]
    # Not what shares a little, is another song or another band.
    (line,) = found["TP and FP boxes of a species that overlap (present wins)"]
    assert "train_fp.csv:2 (FP)" in line and "train_tp.csv:2 (TP) share 0.30 s of a" in line
    (line,) = found["Recordings that are damaged"]
    assert "d.wav is cut short at 1.9" in line


def test_recordings_that_complete_csv_names_must_be_there(sound_folder):
    write_rows(sound_folder / "train_tp.csv", GOOD)
    path = sound_folder / "complete.csv"
    path.write_text("recording_id\na\ngone\n")
    facts = read_data_folder(sound_folder, progress=False)
    path.unlink()
    assert find_suspicious(facts)["Recordings that are named and not there"] == ["gone: 0 rows"]
    assert "a" in facts.complete


def test_sound_is_listened_to_where_asked(sound_folder, monkeypatch):
    """Damage inside does not show in headers."""
    write_rows(sound_folder / "train_tp.csv", GOOD)
    (sound_folder / "train_fp.csv").unlink(missing_ok=True)
    path = sound_folder / "train" / "e.flac"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 32_000), 8000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    path.write_bytes(content)
    headers = read_data_folder(sound_folder, progress=False)
    heard = read_data_folder(sound_folder, listen=True, progress=False)
    path.unlink()
    assert not any("e.flac" in line for line in headers.damaged)
    assert any("e.flac" in line for line in heard.damaged)


def test_the_species_table_is_that_of_pandas(tiny_data):
    facts = read_data_folder(tiny_data, progress=False)
    tp = pd.read_csv(tiny_data / "train_tp.csv")
    fp = pd.read_csv(tiny_data / "train_fp.csv")
    length_s = (tp["t_max"] - tp["t_min"]).groupby(tp["species_id"])
    for row in facts.species.itertuples():
        own = tp[tp["species_id"] == row.species_id]
        assert (row.tp, row.fp) == (len(own), (fp["species_id"] == row.species_id).sum())
        assert row.recordings == own["recording_id"].nunique()
        assert (row.low_hz, row.high_hz) == (own["f_min"].median(), own["f_max"].median())
        lengths = length_s.get_group(row.species_id)
        assert np.allclose(
            [row.shortest_s, row.median_s, row.longest_s, row.mean_s],
            [lengths.min(), lengths.median(), lengths.max(), lengths.mean()],
        )
    assert list(facts.species["name"]) == ["low", "middle", "high"]
    assert not find_suspicious(facts)


def test_folds_hold_what_the_shards_hold(tiny_data, tiny_config, tiny_shards):
    table = fold_table(read_data_folder(tiny_data, progress=False), tiny_config.training)
    index = pd.read_csv(tiny_shards / "index.csv")
    for row in table.itertuples():
        own = index[index["fold"] == row.fold]
        assert row.tp == (own["kind"] == "tp").sum() and row.fp == (own["kind"] == "fp").sum()
        assert row.annotated == row.recordings == own["recording_id"].nunique()
        named = set(own.loc[own["kind"] == "tp", "species_id"])
        lacking = [n for i, n in {2: "low", 5: "middle", 9: "high"}.items() if i not in named]
        assert row.without_tp == ", ".join(lacking)


def test_tables_are_checked_before_and_after_import_alike(tmp_path, sound_folder, run_script):
    tables = tmp_path / "tables"
    tables.mkdir()
    for name, rows in {
        "a": ["1\t0.5\t1.0\t500\t900\tOwl", "2\t3.5\t4.5\t500\t900\tOwl"],
        "b": ["1\t0.5\t1.1\t500\t900\tOwl", "2\t2\t2.5\t500\t900\tToad"],
    }.items():
        (tables / f"{name}.Table.1.selections.txt").write_text("\n".join([RAVEN, *rows]) + "\n")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").symlink_to(sound_folder / "train")
    before = run_script("check", "--annotations", tables, "--audio", data / "train")
    assert before.returncode == 1 and before.stderr == ""
    assert "b.Table.1.selections.txt:2" not in before.stdout
    assert "a.Table.1.selections.txt:3: a is 4.00 s long" in before.stdout
    assert "Next: rfcx-tf import-annotations --tables" in before.stdout
    assert not (data / "train_tp.csv").exists()
    run_script("import-annotations", "--tables", tables, "--data", data)
    after = run_script("check", data)
    assert after.returncode == 1

    def said(text):
        lines = text.splitlines()[:-1]
        return [line for line in lines if ": a is 4.00 s" not in line]

    assert said(before.stdout) == said(after.stdout)


def test_the_page_holds_pictures_rows_and_the_recipe(tiny_data, tmp_path, run_script):
    page, recipe = tmp_path / "check.html", tmp_path / "my.yaml"
    result = run_script("check", tiny_data, "--out", page, "--recipe", recipe, "--machine", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"--config {recipe}" in result.stdout.splitlines()[-1]
    html = page.read_text()
    for section in ("overview", "doubts", "species", "examples", "folds", "recipe"):
        assert f'<section id="check-{section}">' in html
    assert html.count("<audio") == html.count('class="event"') == 3
    for key in yaml.safe_load(recipe.read_text())["frontend"]:
        assert f"{key}: " in html


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name DIR, or --annotations"),
        (["DIR", "--annotations", "x"], "Name DIR, or --annotations"),
        (["DIR", "--species", "Owl"], "--species is for --annotations"),
        (["--annotations", "x"], "Add --audio FOLDER"),
        (["DIR"], "The data must be a folder"),
        (["DIR", "--weights", "yamnet.h5"], "Not found: yamnet.h5"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments, says, run_script):
    result = run_script("check", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr


def test_a_folder_without_tables_is_told_their_columns(tmp_path, sound_folder, run_script):
    (tmp_path / "train").symlink_to(sound_folder / "train")
    result = run_script("check", tmp_path)
    assert result.returncode == 2 and ",".join(HEADER) in result.stderr
