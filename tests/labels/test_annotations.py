"""A data folder in the competition's layout: what is read, and what is refused and how."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from refused import refused

from rfcx_tf.audio.decode import AudioSource, read_audio
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.labels.annotations import box_hz, mean_box_s, read_kaggle_folder
from rfcx_tf.labels.kaggle_tfrec import index_tfrec

HEADER = "recording_id,species_id,songtype_id,t_min,f_min,t_max,f_max"
TP = "007,14,1,44.5,2531.25,45.1,5531.25"
FP = "007,3,1,1,100,2,200"


def make_folder(folder, tp=(TP,), fp=(FP,), recordings=("007",), header=HEADER):
    (folder / "train").mkdir(parents=True)
    for name in recordings:
        soundfile.write(folder / "train" / f"{name}.wav", np.zeros(48), 48000)
    (folder / "train_tp.csv").write_text("\n".join([header, *tp]) + "\n")
    if fp is not None:
        (folder / "train_fp.csv").write_text("\n".join([header, *fp]) + "\n")
    return folder


def test_rows_follow_the_contract(tmp_path):
    rows = read_kaggle_folder(make_folder(tmp_path)).rows
    assert rows.to_dict("records") == [
        {
            "recording_id": "007",
            "species_id": 14,
            "songtype_id": 1,
            "t_min": 44.5,
            "t_max": 45.1,
            "f_min": 2531.25,
            "f_max": 5531.25,
            "present": True,
            "source": f"{tmp_path}/train_tp.csv:2",
        },
        {
            "recording_id": "007",
            "species_id": 3,
            "songtype_id": 1,
            "t_min": 1.0,
            "t_max": 2.0,
            "f_min": 100.0,
            "f_max": 200.0,
            "present": False,
            "source": f"{tmp_path}/train_fp.csv:2",
        },
    ]
    kinds = {column: rows[column].dtype.kind for column in ("species_id", "t_min", "present")}
    assert kinds == {"species_id": "i", "t_min": "f", "present": "b"}


def test_tables_that_a_european_spreadsheet_program_saved(tmp_path):
    make_folder(tmp_path)
    expected = read_kaggle_folder(tmp_path).rows
    for name in ("train_tp.csv", "train_fp.csv"):
        text = (tmp_path / name).read_text().replace(",", ";").replace(".", ",")
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    pd.testing.assert_frame_equal(read_kaggle_folder(tmp_path).rows, expected)


def test_rows_may_name_files(tmp_path):
    """With the extension, where no recording is called so itself."""
    rows = ["a.wav,1,1,0,1,1,2", "b.wav,1,1,0,1,1,2", "c.WAV,1,1,0,1,1,2", "d.e,1,1,0,1,1,2"]
    found = read_kaggle_folder(make_folder(tmp_path, rows, None, ("a", "b.wav", "c", "d.e")))
    assert list(found.used_rows["recording_id"]) == ["a", "b.wav", "c", "d.e"]
    assert found.missing == []


def test_what_cannot_be_searched_is_told(tmp_path):
    folder = make_folder(tmp_path)
    (folder / "train" / "site2").symlink_to(folder / "unplugged")
    (folder / "train" / ".Trashes").mkdir()
    (folder / "train" / ".Trashes" / "008.wav").touch()
    found = read_kaggle_folder(folder)
    assert list(found.recordings) == ["007"]
    assert len(found.left_out) == 1 and "site2 is a link" in found.left_out[0]
    assert len(found.notes) == 1 and "008.wav" in found.notes[0]


def test_partly_downloaded_folder(tmp_path):
    absent = ["zz", "dd", "bb", "cc", "aa"]
    folder = make_folder(
        tmp_path,
        tp=[TP, *(f"{name},5,1,1,100,2,200" for name in absent)],
        fp=[FP, "zz,5,1,3,100,4,200"],
        recordings=["007", "unnamed"],
    )
    found = read_kaggle_folder(folder)
    assert found.missing == sorted(absent)
    assert found.recordings.keys() == {"007", "unnamed"}
    assert found.recordings["007"] == AudioSource(folder / "train" / "007.wav")
    assert found.used_rows["recording_id"].tolist() == ["007", "007"]
    assert found.counts == {"used_tp": 1, "skipped_tp": 5, "used_fp": 1, "skipped_fp": 1}
    assert [c.species_id for c in found.classes] == [3, 5, 14]


def test_fp_table_is_optional(tmp_path):
    found = read_kaggle_folder(make_folder(tmp_path, fp=None))
    assert found.rows["present"].tolist() == [True]
    assert found.counts["used_fp"] == 0


def test_numbers_that_pandas_writes_and_a_songtype_that_is_not_given(tmp_path):
    rows = read_kaggle_folder(make_folder(tmp_path, tp=["007,14.0,,44.5,1,45.1,2"])).rows
    assert rows.loc[0, ["species_id", "songtype_id", "t_max"]].tolist() == [14, 1, 45.1]


def test_songtype_column_may_be_absent(tmp_path):
    header = HEADER.replace("songtype_id,", "")
    folder = make_folder(tmp_path, tp=["007,14,1,100,2,200"], fp=[], header=header)
    assert read_kaggle_folder(folder).rows["songtype_id"].tolist() == [1]


def test_classes_come_from_all_tables(tmp_path):
    folder = make_folder(tmp_path)
    (folder / "sample_submission.csv").write_text("recording_id,s0,s14,s20,sum\nx,0,0,0,0\n")
    (folder / "species.csv").write_text("species_id,scientific_name\n14,Eleutherodactylus\n21,\n")
    assert read_kaggle_folder(folder).classes == [
        SpeciesClass(0, "s0"),
        SpeciesClass(3, "s3"),
        SpeciesClass(14, "Eleutherodactylus"),
        SpeciesClass(20, "s20"),
        SpeciesClass(21, "s21"),
    ]


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (",1,1,1,100,2,200", "recording_id must not be empty"),
        ("007,frog,1,1,100,2,200", "species_id must be a finite number. Received: 'frog'"),
        ("007,1.5,1,1,100,2,200", "species_id must be a whole number"),
        ("007,1,x,1,100,2,200", "songtype_id must be a finite number. Received: 'x'"),
        ("007,1,1,nan,100,2,200", "t_min must be a finite number. Received: 'nan'"),
        ("007,1,1,1,100,inf,200", "t_max must be a finite number. Received: 'inf'"),
        ("007,1,1,1,100", "t_max must be a finite number. Received: ''"),
        ("007,1,1,-1,100,2,200", "t_min must not be negative. Received: -1"),
        ("007,1,1,1,-5,2,200", "f_min must not be negative. Received: -5"),
        ("007,1,1,3,100,2,200", "t_max must be greater than t_min. Received: t_min=3, t_max=2"),
        ("007,1,1,2,100,2,200", "t_max must be greater than t_min"),
        ("007,1,1,1,200,2,200", "f_max must be greater than f_min"),
        ("007,1,1,1,100,2,200,9", "no more cells than the header (7). Received: 8"),
    ],
)
@pytest.mark.parametrize("table", ["tp", "fp"])
def test_bad_row_is_named_with_its_line(tmp_path, table, row, part):
    tables = {"tp": [TP], "fp": [FP]}
    tables[table].append(row)
    text = refused(read_kaggle_folder, make_folder(tmp_path, **tables))
    assert text.startswith(f"{tmp_path}/train_{table}.csv:3: ")
    assert part in text and "more)" not in text


def test_first_problem_and_number_of_further_ones(tmp_path):
    bad = [TP, "007,1,1,3,100,2,200", "007,x,1,1,100,2,200", TP]
    text = refused(read_kaggle_folder, make_folder(tmp_path, tp=bad))
    assert "train_tp.csv:3: t_max must" in text and text.endswith("(and 2 more)")


@pytest.mark.parametrize(
    "copy", [FP, FP.replace(",100,", ",100.0,"), FP.replace(",1,1,", ",1,1.,")]
)
def test_row_that_occurs_twice(tmp_path, copy):
    text = refused(read_kaggle_folder, make_folder(tmp_path, fp=[FP, "", copy]))
    assert text.startswith(f"{tmp_path}/train_fp.csv:4: a row must not occur twice.")
    assert text.endswith(f"It repeats {tmp_path}/train_fp.csv:2.")


def test_box_that_is_both_tp_and_fp(tmp_path):
    text = refused(read_kaggle_folder, make_folder(tmp_path, fp=[FP, TP]))
    assert "both TP and FP" in text
    assert f"TP at {tmp_path}/train_tp.csv:2, as FP at {tmp_path}/train_fp.csv:3" in text


def test_same_box_of_another_species_or_songtype_is_fine(tmp_path):
    others = [TP.replace(",14,1,", ",14,4,"), TP.replace(",14,1,", ",15,1,")]
    assert len(read_kaggle_folder(make_folder(tmp_path, tp=[TP, *others], fp=[])).rows) == 3


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (HEADER.encode() + b"\n", ["positive (TP) rows"]),
        (
            b"recording_id,species_id,t_min,t_max\n",
            ["train_tp.csv:1", "must name f_min, f_max.", "Received: recording_id, species_id"],
        ),
    ],
)
def test_unusable_table(tmp_path, content, parts):
    folder = make_folder(tmp_path)
    (folder / "train_tp.csv").write_bytes(content)
    text = refused(read_kaggle_folder, folder)
    for part in ("train_tp.csv", *parts):
        assert part in text


def test_folder_without_what_is_needed(tmp_path):
    assert "Not found" in refused(read_kaggle_folder, tmp_path / "nowhere")
    assert "neither sound files in train/ nor .tfrec" in refused(read_kaggle_folder, tmp_path)
    folder = make_folder(tmp_path / "a")
    (folder / "train_tp.csv").unlink()
    assert "needs train_tp.csv" in refused(read_kaggle_folder, folder)
    text = refused(read_kaggle_folder, make_folder(tmp_path / "b", recordings=["other"]))
    assert "None of the 1 recordings" in text and "names 007" in text
    folder = make_folder(tmp_path / "c")
    soundfile.write(folder / "train" / "007.flac", np.zeros(48), 48000)
    assert "007.wav" in (text := refused(read_kaggle_folder, folder)) and "007.flac" in text


def test_mean_box_is_over_tp_rows_of_the_species(tmp_path):
    tp = ["007,14,1,1,100,2,200", "007,14,4,5,100,8,200", "gone,9,1,1,100,1.5,200"]
    found = read_kaggle_folder(make_folder(tmp_path, tp=tp, fp=["007,3,1,1,1,9,2"]))
    assert mean_box_s(found.rows) == {9: 0.5, 14: 2.0}


def test_box_band_is_the_median_over_tp_rows_of_the_species(tmp_path):
    tp = ["007,14,1,0,100,1,900", "007,14,1,1,200,2,700", "007,14,1,2,0,3,24000"]
    tp += ["gone,9,1,1,100.5,1.5,200", "gone,9,4,1,101,1.5,300"]
    found = read_kaggle_folder(make_folder(tmp_path, tp=tp, fp=["007,3,1,1,1,9,2"]))
    assert box_hz(found.rows) == {9: (100.75, 250.0), 14: (100.0, 900.0)}


def write_tfrec(path, records):
    """Writes (recording_id, WAV bytes, label_info) in the competition's schema."""
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for recording_id, wav, label_info in records:
            texts = {"recording_id": recording_id, "label_info": label_info}
            values = {name: text.encode() for name, text in texts.items()} | {"audio_wav": wav}
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def wav_bytes(folder, samples):
    soundfile.write(folder / "tmp.wav", samples, 48000, subtype="PCM_16")
    return (folder / "tmp.wav").read_bytes()


@pytest.fixture
def tfrec_folder(tmp_path):
    ramp = np.arange(-500, 500) / 1000
    records = [
        ("007", wav_bytes(tmp_path, ramp), '"14,1,44.544,2531.25,45.1307,5531.25,1;3,4,1,2,3,4,0"'),
        ("abc", wav_bytes(tmp_path, -ramp[:300]), '"5,1,0.5,100,1.5,200,0"'),
    ]
    write_tfrec(tmp_path / "tfrecords" / "train" / "00-1.tfrec", records[:1])
    write_tfrec(tmp_path / "tfrecords" / "train" / "01-1.tfrec", records[1:])
    return tmp_path


def test_competition_tfrecords_hold_audio_and_rows(tfrec_folder):
    found = read_kaggle_folder(tfrec_folder)
    columns = ["recording_id", "species_id", "songtype_id", "t_min", "t_max", "f_min", "f_max"]
    assert found.rows[[*columns, "present"]].to_numpy().tolist() == [
        ["007", 14, 1, 44.544, 45.1307, 2531.25, 5531.25, True],
        ["007", 3, 4, 1.0, 3.0, 2.0, 4.0, False],
        ["abc", 5, 1, 0.5, 1.5, 100.0, 200.0, False],
    ]
    assert "00-1.tfrec" in found.rows["source"][1] and "007" in found.rows["source"][1]
    ramp = np.arange(-500, 500) / 1000
    np.testing.assert_allclose(read_audio(found.recordings["007"], 48000), ramp, atol=2**-15)
    np.testing.assert_allclose(read_audio(found.recordings["abc"], 48000), -ramp[:300], atol=2**-15)


def test_csv_tables_and_train_folder_win_over_tfrecords(tfrec_folder):
    (tfrec_folder / "train_tp.csv").write_text(f"{HEADER}\nabc,9,1,1,100,2,200\n")
    found = read_kaggle_folder(tfrec_folder)
    assert found.rows["species_id"].tolist() == [9]
    assert found.recordings.keys() == {"007", "abc"}
    (tfrec_folder / "train").mkdir()
    soundfile.write(tfrec_folder / "train" / "abc.flac", np.zeros(48), 48000)
    found = read_kaggle_folder(tfrec_folder)
    assert found.recordings == {"abc": AudioSource(tfrec_folder / "train" / "abc.flac")}


def test_damaged_tfrecords_are_named(tfrec_folder):
    path = tfrec_folder / "tfrecords" / "train" / "00-1.tfrec"
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    assert "Found 007 in" in refused(read_kaggle_folder, tfrec_folder)
    path.write_bytes(whole[:-100])
    assert "00-1.tfrec is cut short" in refused(read_kaggle_folder, tfrec_folder)
    write_tfrec(path, [("007", b"no wav", '"14,1,44.5;"')])
    assert "00-1.tfrec:007:1: a row of label_info must be species_id" in refused(
        read_kaggle_folder, tfrec_folder
    )
    (record,) = index_tfrec(path)
    with pytest.raises(UserError, match=r"00-1\.tfrec at byte \d+ is not readable"):
        read_audio(record.audio, 48000)


def test_worker_processes_do_not_load_tensorflow():
    code = "import sys, rfcx_tf.labels.annotations; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_real_competition_tables(real_data):
    found = read_kaggle_folder(real_data / "rfcx-sample")
    counts = found.counts
    assert (counts["used_tp"] + counts["skipped_tp"], counts["used_fp"] + counts["skipped_fp"]) == (
        1216,
        7781,
    )
    assert len(found.recordings) == 18 and len(found.recordings) + len(found.missing) == 4727
    assert [c.species_id for c in found.classes] == list(range(24))
    # Means of species 0, 8 and 18 as published with the task.
    means = mean_box_s(found.rows)
    assert [round(means[s], 2) for s in (0, 8, 18)] == [0.89, 4.12, 0.69]
    tables = [pd.read_csv(real_data / "rfcx-sample" / f"train_{t}.csv") for t in ("tp", "fp")]
    assert found.rows["t_max"].tolist() == pd.concat(tables)["t_max"].tolist()


def test_real_fieldmix(real_data):
    found = read_kaggle_folder(real_data / "fieldmix")
    counts = found.counts
    assert (counts["used_tp"], counts["used_fp"], found.missing) == (651, 2850, [])
    assert len(found.classes) == 19 and found.classes[0] == SpeciesClass(0, "baby_cry")
