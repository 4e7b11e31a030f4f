"""The synthetic rainforest, read back from its files with soundfile, pandas and scipy."""

import functools
import hashlib
import os

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import temporary_folder
from rfcx_tf.demo import rainforest as synthetic
from rfcx_tf.demo.rainforest import SPECIES, make_rainforest, species_counts

BOX = ["recording_id", "species_id", "songtype_id", "t_min", "f_min", "t_max", "f_max"]
DURATION_S = 15.0
TINY = {"train_recordings": 2, "test_recordings": 1, "duration_s": 10.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("forest") / "new" / "data"
    make_rainforest(out, seed=3, train_recordings=20, test_recordings=12, duration_s=DURATION_S)
    return out


def table(folder, name):
    # An id such as 12345e678 must not become a number.
    return pd.read_csv(folder / f"{name}.csv", dtype={"recording_id": str})


def digests(folder, names="*"):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(names))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of `TINY`; tests leave it as it is."""
    out = tmp_path_factory.mktemp("tiny") / "data"
    assert make_rainforest(out, **TINY)
    return out


def test_same_seed_gives_the_same_bytes(tiny, tmp_path):
    make_rainforest(tmp_path / "again", **TINY)
    assert len(digests(tiny)) == 11
    assert digests(tiny) == digests(tmp_path / "again")


def test_other_seed_gives_other_sound_and_other_ids(tiny, tmp_path):
    make_rainforest(tmp_path / "other", seed=6, **TINY)
    one, other = (digests(folder, "*.flac") for folder in (tiny, tmp_path / "other"))
    assert not one.keys() & other.keys()
    assert not set(one.values()) & set(other.values())


def test_training_set_does_not_depend_on_the_size_of_the_test_set(tiny, tmp_path):
    make_rainforest(tmp_path / "more", **{**TINY, "test_recordings": 2})
    training = [
        {name: digest for name, digest in digests(folder).items() if name.startswith("train")}
        for folder in (tiny, tmp_path / "more")
    ]
    assert training[0] == training[1]


def test_layout_is_kaggles(folder):
    scores = ["recording_id"] + [f"s{k}" for k in range(len(SPECIES))]
    assert list(table(folder, "train_tp").columns) == BOX
    assert list(table(folder, "train_fp").columns) == BOX
    assert list(table(folder, "species").columns) == ["species_id", "name"]
    assert list(table(folder, "species")["species_id"]) == list(range(len(SPECIES)))
    assert table(folder, "species")["name"].is_unique
    for split, count in (("train", 20), ("test", 12)):
        truth = table(folder, f"{split}_truth")
        files = sorted(path.stem for path in (folder / split).iterdir())
        assert list(truth.columns) == scores
        assert sorted(truth["recording_id"]) == files
        assert len(files) == count
    submission = table(folder, "sample_submission")
    assert list(submission.columns) == scores
    assert list(submission["recording_id"]) == list(table(folder, "test_truth")["recording_id"])
    for path in folder.rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (24000, 1, "PCM_16")
        assert info.frames == DURATION_S * 24000


def test_recordings_are_neither_clipped_nor_silent(folder):
    for path in folder.rglob("*.flac"):
        waveform, _ = soundfile.read(path)
        assert np.abs(waveform).max() < 0.95
        assert np.std(waveform) > 0.003


@pytest.mark.parametrize("name", ["train_tp", "train_fp", "truth_events"])
def test_boxes_lie_inside_the_recording(folder, name):
    boxes = table(folder, name)
    assert (boxes["t_min"] >= 0).all() and (boxes["t_max"] <= DURATION_S).all()
    assert (boxes["t_max"] - boxes["t_min"] > 0.4).all()
    assert (boxes["f_min"] > 0).all() and (boxes["f_max"] < 12000).all()
    assert (boxes["f_max"] - boxes["f_min"] > 300).all()


def test_false_positive_boxes_are_free_of_their_species(folder):
    events = table(folder, "truth_events")
    rows = table(folder, "train_fp").merge(
        events, on=["recording_id", "species_id"], suffixes=("", "_event")
    )
    assert len(rows) > 20  # the species does call elsewhere in some of these recordings
    before = rows["t_max_event"] < rows["t_min"] - 0.99
    after = rows["t_min_event"] > rows["t_max"] + 0.99
    assert (before | after).all()


def test_false_positive_boxes_hold_the_look_alike_species(folder):
    events = table(folder, "truth_events")
    rows = table(folder, "train_fp")
    for ours, other in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)):
        pairs = rows[rows["species_id"] == ours].merge(
            events[events["species_id"] == other], on="recording_id", suffixes=("", "_event")
        )
        centre = (pairs["t_min_event"] + pairs["t_max_event"]) / 2
        assert ((pairs["t_min"] < centre) & (centre < pairs["t_max"])).sum() >= 3


def test_true_positive_rows_are_some_of_the_events(folder):
    events = table(folder, "truth_events").query("split == 'train'")
    rows = table(folder, "train_tp")
    found = rows.merge(events, on=BOX, how="left", validate="one_to_one")
    assert (found["labelled"] == 1).all()
    assert len(rows) == events["labelled"].sum()
    assert 0.4 < len(rows) / len(events) < 0.8
    assert rows.groupby(["recording_id", "species_id"]).size().max() == 2
    assert set(rows["species_id"]) == set(range(len(SPECIES)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_truth_tables_agree_with_the_events(folder, split):
    events = table(folder, "truth_events").query("split == @split")
    truth = table(folder, f"{split}_truth").set_index("recording_id")
    expected = pd.crosstab(events["recording_id"], events["species_id"]).gt(0).astype(int)
    expected = expected.reindex(columns=range(len(SPECIES)), fill_value=0).loc[truth.index]
    np.testing.assert_array_equal(truth.to_numpy(), expected.to_numpy())
    assert truth.sum(axis=1).between(2, 4).all()


def test_training_is_balanced_and_the_test_is_not(folder):
    training = table(folder, "train_truth").drop(columns="recording_id").sum()
    test = table(folder, "test_truth").drop(columns="recording_id").sum()
    assert training.max() - training.min() <= 1
    assert test.max() >= 2 * max(test.min(), 1)


@functools.cache
def spectrogram(path):
    """Frequencies [bins], frame times [frames], power [bins, frames] of a recording."""
    return scipy.signal.spectrogram(*soundfile.read(path), nperseg=1024, noverlap=768)


def band_power(folder, event):
    """Power in the event's band: frame times [frames], frequencies [bins], [bins, frames]."""
    hz, time_s, power = spectrogram(folder / event.split / f"{event.recording_id}.flac")
    inside = (hz >= event.f_min) & (hz <= event.f_max)
    return time_s, hz[inside], power[inside]


def loud_events(folder):
    return table(folder, "truth_events").query("snr_db > 12")


def test_loud_calls_stand_out_of_their_band(folder):
    events = loud_events(folder)
    assert set(events["species_id"]) == set(range(len(SPECIES)))
    for event in events.itertuples():
        time_s, _, power = band_power(folder, event)
        inside = (time_s > event.t_min) & (time_s < event.t_max)
        background = np.median(power.sum(axis=0)[~inside])
        assert power[:, inside].sum(axis=0).mean() > 2 * background, event


@pytest.mark.parametrize(("species_id", "direction"), [(0, 1), (1, -1), (2, 1), (3, -1)])
def test_pairs_differ_in_the_direction_of_pitch(folder, species_id, direction):
    changes_hz = []
    for event in loud_events(folder).query("species_id == @species_id").itertuples():
        time_s, hz, power = band_power(folder, event)
        third = (event.t_max - event.t_min) / 3
        first = power[:, (time_s > event.t_min) & (time_s < event.t_min + third)].sum(axis=1)
        last = power[:, (time_s > event.t_max - third) & (time_s < event.t_max)].sum(axis=1)
        changes_hz.append(hz[last.argmax()] - hz[first.argmax()])
    assert direction * np.median(changes_hz) > 400


def test_same_parameters_reuse_the_folder(tiny, monkeypatch):
    monkeypatch.setattr(synthetic, "perform", None)  # making it again would fail
    assert not make_rainforest(tiny, **TINY)


def test_what_a_process_left_that_was_killed_when_all_was_there_goes_too(tiny, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 2**31 - 1)  # No process has this number.
        with temporary_folder(tiny.parent) as left:
            pass
    left.mkdir()
    assert not make_rainforest(tiny, **TINY)
    assert not left.exists()


def test_counts_of_species(folder):
    counts = species_counts(folder)
    assert counts["events"].sum() == len(table(folder, "truth_events"))
    assert counts["tp_rows"].sum() == len(table(folder, "train_tp"))
    owls = table(folder, "train_fp").query("species_id == 9")
    assert counts.loc[9, ["name", "fp_rows"]].tolist() == ["low hoot", len(owls)]
    assert counts.loc[9, "test_recordings"] == table(folder, "test_truth")["s9"].sum()


def test_folder_with_other_parameters_is_refused(tiny):
    before = digests(tiny.parent)
    with pytest.raises(UserError, match=r"was made with seed=0\."):
        make_rainforest(tiny, seed=1, **TINY)
    assert digests(tiny.parent) == before


def test_folder_of_someone_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("draft")
    with pytest.raises(UserError, match="Found something else"):
        make_rainforest(tmp_path, **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_interrupted_work_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_rainforest(tmp_path / "data", **TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("train_recordings", 0),
        ("test_recordings", 0),
        ("duration_s", 9.0),
        ("duration_s", float("nan")),
        ("sample_rate_hz", 16000),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(UserError, match=f"^{name} must be at least .* Received: {value}"):
        make_rainforest(tmp_path / "data", **{name: value})
    assert not list(tmp_path.iterdir())


def test_the_verb_prints_what_it_wrote(tmp_path, run_script):
    size = ("--train-recordings", "1", "--test-recordings", "1", "--duration-s", "10")
    done = run_script("make-demo-data", "--out", tmp_path / "data", *size)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "data").iterdir():
        assert str(path) in done.stdout
