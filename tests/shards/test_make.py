"""Making shards: what is cut where, what is left out, and what an interruption costs."""

import csv
import functools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from refused import refused

from rfcx_tf.audio.decode import read_audio
from rfcx_tf.cli.main import main
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend import recording as recording_transform
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.labels.folds import assign_folds
from rfcx_tf.shards import make as shards
from rfcx_tf.shards import plans as shard_plans
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import ShardReader, parse_crop
from rfcx_tf.training.checks import check_shards_fit

ROOT = Path(__file__).resolve().parents[2]
HOP_S = 128 / 8000
STORED_FRAMES = 64 + 2 * 32


@pytest.fixture(scope="module", autouse=True)
def one_trace():
    """The front end is traced once for all tests of this module; it stays the real one."""
    with pytest.MonkeyPatch.context() as patch:
        original = shards.RecordingTransform
        by_front_end = functools.lru_cache(lambda front_end, config: original(config))
        patch.setattr(
            shards, "RecordingTransform", lambda c: by_front_end(c.frontend.fingerprint, c)
        )
        yield


def changed(config, **sections):
    """The recipe with some values of some sections replaced."""
    values = config.model_dump()
    for section, updates in sections.items():
        values[section] |= updates
    return Config.model_validate(values)


def make_data(folder, rows, durations_s=(6.0,)):
    """Noise recordings r0, r1, ... and rows (recording, species, t_min, t_max, present)."""
    (folder / "train").mkdir(parents=True)
    random = np.random.default_rng(5)
    for number, duration_s in enumerate(durations_s):
        noise = random.normal(0, 0.1, round(duration_s * 8000))
        soundfile.write(folder / "train" / f"r{number}.flac", noise, 8000)
    header = ["recording_id", "species_id", "t_min", "t_max", "f_min", "f_max"]
    for present, name in ((True, "train_tp.csv"), (False, "train_fp.csv")):
        own = [[*row[:4], 100, 200] for row in rows if row[4] == present]
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *own])
    return folder


def make(data, config, out, **options):
    return make_shards(read_kaggle_folder(data), config, data, out, progress=False, **options)


def crops_of(folder):
    reader = ShardReader(folder)
    crops = [parse_crop(reader[row]) for row in range(len(reader.index))]
    return [{name: value.numpy() for name, value in crop.items()} for crop in crops]


def whole_spectrogram(path, config):
    waveform, _ = soundfile.read(path, dtype="float32")
    return FrontEnd(config.frontend)(waveform[None])[0].numpy()


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_row_becomes_one_crop_of_the_whole_recordings_spectrogram(
    tiny_data, tiny_config, tiny_shards
):
    crops = crops_of(tiny_shards)
    whole = {
        path.stem: whole_spectrogram(path, tiny_config) for path in (tiny_data / "train").iterdir()
    }
    found = []
    for crop in crops:
        name = crop["recording_id"].decode()
        begin = crop["start_frame"]
        expected = whole[name][begin : begin + STORED_FRAMES]
        assert crop["spectrogram"].shape == (STORED_FRAMES, 32)
        # float16 keeps 11 bits.
        np.testing.assert_allclose(crop["spectrogram"], expected, rtol=2**-11, atol=1e-4)
        # Centred on its box, but for the recording's borders.
        centre = (crop["box"][0] + crop["box"][1]) / 2 / HOP_S
        last = len(whole[name]) - STORED_FRAMES
        assert abs(begin - np.clip(centre - STORED_FRAMES / 2, 0, last)) <= 0.5
        found.append(
            (name, crop["species_id"], crop["kind"].decode(), *np.round(crop["box"], 3).tolist())
        )
    expected = []
    for kind in ("tp", "fp"):
        with (tiny_data / f"train_{kind}.csv").open() as file:
            for row in csv.DictReader(file):
                box = [round(float(row[c]), 3) for c in ("t_min", "t_max", "f_min", "f_max")]
                expected.append((row["recording_id"], int(row["species_id"]), kind, *box))
    key = [entry[:3] for entry in found]
    assert sorted(key) == sorted(entry[:3] for entry in expected)
    np.testing.assert_allclose(
        [entry[3:] for entry in sorted(found)],
        [entry[3:] for entry in sorted(expected)],
        atol=0.0015,
    )


def test_shards_are_ordinary_tfrecord_files_in_the_order_of_the_index(tiny_shards):
    reader = ShardReader(tiny_shards)
    for name, own in reader.index.groupby("shard"):
        records = tf.data.TFRecordDataset(str(tiny_shards / name))
        assert [record.numpy() for record in records] == [reader[row] for row in own.index]
    for row, entry in enumerate(reader.index.itertuples()):
        crop = parse_crop(reader[row])
        assert crop["recording_id"].numpy().decode() == entry.recording_id
        assert crop["kind"].numpy().decode() == entry.kind
        assert crop["species_id"].numpy() == entry.species_id
        assert crop["fold"].numpy() == entry.fold
        np.testing.assert_allclose(crop["box"][:2], [entry.t_min, entry.t_max], rtol=1e-6)


def test_a_shard_holds_recordings_of_one_fold_and_a_recording_lies_in_one_shard(
    tiny_data, tiny_config, tiny_shards
):
    reader = ShardReader(tiny_shards)
    assert (reader.index.groupby("shard")["fold"].nunique() == 1).all()
    assert (reader.index.groupby("recording_id")["shard"].nunique() == 1).all()
    assert reader.index.groupby("shard")["recording_id"].nunique().max() == 2
    annotations = read_kaggle_folder(tiny_data)
    fold_of = assign_folds(
        annotations.rows, list(annotations.recordings), 2, tiny_config.training.fold_seed
    )
    assert dict(zip(reader.index["recording_id"], reader.index["fold"], strict=True)) == fold_of
    listed = {name: entry["fold"] for name, entry in reader.manifest.recordings.items()}
    assert listed == fold_of


def test_the_manifest_says_how_the_shards_were_made(tiny_data, tiny_config, tiny_shards):
    manifest = ShardReader(tiny_shards).manifest
    assert [(c.species_id, c.name) for c in manifest.classes] == [
        (2, "low"),
        (5, "middle"),
        (9, "high"),
    ]
    # By the fixture's bursts: first calls last 0.3 s, second ones 0.4 s. Species 2 is never
    # second and 9 never first; of 5's calls, 4 are first and 3 second.
    assert manifest.mean_box_s == pytest.approx({2: 0.3, 5: (4 * 0.3 + 3 * 0.4) / 7, 9: 0.4})
    assert manifest.box_hz == {2: (600, 800), 5: (1400, 1700), 9: (2600, 3000)}
    assert manifest.counts == {"tp": 20, "fp": 20, "unlabelled": 0}
    assert manifest.skipped == []
    assert manifest.frontend_fingerprint == tiny_config.frontend.fingerprint
    assert (manifest.crop_frames, manifest.margin_frames, manifest.folds) == (64, 32, 2)
    for entry in manifest.recordings.values():
        assert (Path(manifest.data_dir) / entry["path"]).is_file()
    assert Path(manifest.data_dir) == tiny_data.resolve()
    assert {path.name for path in tiny_shards.iterdir()} == {
        *manifest.shards,
        *(name.replace(".tfrecord", ".json") for name in manifest.shards),
        *("manifest.json", "index.csv", "plan.txt"),
    }


def test_a_crop_carries_every_row_of_its_recording_that_touches_it(tmp_path, tiny_config):
    # Pieces of 2.048 s. That of the first row, centred on 3.0 s, is 1.976 to 4.024 s.
    rows = [
        ("r0", 4, 2.9, 3.1, True),
        ("r0", 6, 1.0, 1.9, True),  # ends before it
        ("r0", 6, 1.5, 2.0, False),  # reaches into it
        ("r0", 1, 0.5, 5.5, False),  # covers it
        ("r0", 4, 4.0, 4.1, True),
        ("r0", 6, 4.1, 4.2, False),  # begins behind it
        ("r1", 1, 2.9, 3.1, True),
    ]
    data = make_data(tmp_path / "data", rows, (6.0, 6.0))
    make(data, tiny_config, tmp_path / "out")
    [crop] = [
        crop
        for crop in crops_of(tmp_path / "out")
        if crop["recording_id"] == b"r0" and abs(crop["box"][0] - 2.9) < 1e-6
    ]
    assert crop["start_frame"] == round(3.0 / HOP_S - 64)
    touching = zip(
        np.round(crop["box_times_s"], 3).tolist(),
        crop["box_classes"].tolist(),  # species 1, 4, 6 are classes 0, 1, 2
        crop["box_present"].tolist(),
        strict=True,
    )
    found = sorted(([round(t, 3) for t in times], c, p) for times, c, p in touching)
    assert found == [
        ([0.5, 5.5], 0, 0),
        ([1.5, 2.0], 2, 0),
        ([2.9, 3.1], 1, 1),
        ([4.0, 4.1], 1, 1),
    ]


def test_borders_and_recordings_shorter_than_a_crop(tmp_path, tiny_config):
    rows = [
        ("r0", 0, 0.0, 0.1, True),
        ("r0", 0, 5.9, 6.0, True),
        ("r0", 0, 5.95, 6.05, False),  # rounded by the annotation tool
        ("r1", 0, 0.2, 0.6, True),
    ]
    data = make_data(tmp_path / "data", rows, (6.0, 0.7))
    manifest = make(data, tiny_config, tmp_path / "out")
    assert manifest.skipped == []
    crops = crops_of(tmp_path / "out")
    starts = [
        (crop["recording_id"], round(float(crop["box"][0]), 2), int(crop["start_frame"]))
        for crop in crops
    ]
    # 6 s are 376 frames.
    assert sorted(starts) == [
        (b"r0", 0.0, 0),
        (b"r0", 5.9, 376 - STORED_FRAMES),
        (b"r0", 5.95, 376 - STORED_FRAMES),
        (b"r1", 0.2, 0),
    ]
    [short] = [crop for crop in crops if crop["recording_id"] == b"r1"]
    assert short["spectrogram"].shape == (STORED_FRAMES, 32)
    own = whole_spectrogram(data / "train" / "r1.flac", tiny_config)
    # The last frames of the recording alone look behind its end, where silence now is.
    np.testing.assert_allclose(short["spectrogram"][:40], own[:40], rtol=2**-11, atol=1e-4)
    assert np.abs(short["spectrogram"][60:]).max() < 0.01 * own[:40].mean()


@pytest.fixture
def damaged_data(tmp_path):
    """r0 is good, but one of its rows lies outside; r1 is cut short, and one of its rows lies
    behind its end; r2 and r3 are good.
    """
    rows = [
        ("r0", 0, 1.0, 1.5, True),
        ("r0", 0, 5.0, 6.2, True),
        ("r1", 0, 1.0, 1.5, True),
        ("r1", 0, 5.0, 5.5, True),
        ("r2", 1, 1.0, 1.5, True),
        ("r3", 1, 1.0, 1.5, False),
    ]
    data = make_data(tmp_path / "data", rows, (6.0,) * 4)
    path = data / "train" / "r1.flac"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return data


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(damaged_data, tmp_path, tiny_config):
    manifest = make(damaged_data, tiny_config, tmp_path / "out")
    assert len(manifest.skipped) == 3
    by_line = {line: text for text in manifest.skipped for line in (3, 5) if f"csv:{line}" in text}
    assert "t_max=6.2" in by_line[3] and "6.00 s long" in by_line[3]
    assert "t_max=5.5" in by_line[5]
    assert sum("r1.flac is cut short at" in text for text in manifest.skipped) == 1
    assert manifest.counts == {"tp": 3, "fp": 1, "unlabelled": 0}
    # What is there of r1 is as good as that of a whole recording.
    index = ShardReader(tmp_path / "out").index
    assert index["recording_id"].value_counts().to_dict() == {f"r{i}": 1 for i in range(4)}
    assert all("\n" not in text for text in manifest.skipped)


def run_script(monkeypatch, *arguments):
    # It is for a process of its own, before TensorFlow begins.
    monkeypatch.setattr(recording_transform, "use_one_thread_an_operation", lambda: None)
    return main(["make-tfrecords", *map(str, arguments)])


@pytest.fixture
def recipe(tmp_path, tiny_config):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(tiny_config.model_dump(mode="json")))
    return path


def test_the_script_ends_with_1_when_something_was_left_out(
    damaged_data, tmp_path, recipe, monkeypatch, capsys
):
    out = tmp_path / "out"
    arguments = ("--config", recipe, "--data", damaged_data, "--out", out)
    assert run_script(monkeypatch, *arguments) == 1
    printed = capsys.readouterr()
    assert "r1.flac" in printed.err
    assert "train_tp.csv:3" in printed.err
    assert str(out) in printed.out
    assert run_script(monkeypatch, *arguments) == 1, "the second run forgets what was left out"


def test_the_script_ends_with_1_where_recordings_of_rows_are_missing(
    tiny_data, tmp_path, recipe, monkeypatch, capsys
):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    (data / "train" / "tiny03.flac").unlink()
    arguments = ("--config", recipe, "--data", data, "--out", tmp_path / "out")
    assert run_script(monkeypatch, *arguments) == 1
    assert "not in" in (printed := capsys.readouterr()).err and "1 (tiny03)" in printed.err
    assert "18 tp, 18 fp" in printed.out


def test_what_failed_is_tried_again_by_the_same_command(damaged_data, tmp_path, tiny_config):
    """And gives the folder that it would have been; shards without a fault are left alone."""
    out, damaged = tmp_path / "out", damaged_data / "train" / "r1.flac"
    rows = damaged_data / "train_tp.csv"
    rows.write_text("".join(line for line in rows.open() if ",6.2," not in line))
    before = make(damaged_data, tiny_config, out)
    assert any("r1.flac" in text for text in before.skipped)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tfrecord")}
    damaged.write_bytes((damaged_data / "train" / "r0.flac").read_bytes())
    manifest = make(damaged_data, tiny_config, out)
    assert manifest.skipped == [] and manifest.counts["tp"] > before.counts["tp"]
    assert sum((out / name).stat().st_mtime_ns == time for name, time in times.items()) == 1
    assert len(times) == 2
    make(damaged_data, tiny_config, tmp_path / "whole")
    assert files_of(out) == files_of(tmp_path / "whole")


def test_the_script_ends_with_0_when_all_was_done_and_2_on_bad_input(
    tiny_data, tmp_path, recipe, monkeypatch, capsys
):
    arguments = ("--config", recipe, "--data", tiny_data, "--out", tmp_path / "out")
    assert run_script(monkeypatch, *arguments) == 0
    assert "20 tp, 20 fp" in capsys.readouterr().out
    assert run_script(monkeypatch, *arguments, "--set", "frontend.n_mels=64") == 2
    [message] = capsys.readouterr().err.strip().splitlines()
    assert str(tmp_path / "out") in message


@pytest.mark.parametrize("stop_at", ["write", "receipt", "finish"])
def test_an_interrupted_run_goes_on_and_gives_the_same_files(
    tiny_data, tiny_config, tiny_shards, tmp_path, stop_at
):
    out = tmp_path / "out"
    names = {"write": "write_shard", "receipt": "atomic_write_text", "finish": "write_manifest"}
    # plan.txt is the first text written, the receipts follow.
    first_good = {"write": 1, "receipt": 2, "finish": 0}[stop_at]
    module = shards if stop_at == "finish" else shard_plans
    original, calls = getattr(module, names[stop_at]), []

    def stopped(*arguments):
        if len(calls) == first_good:
            raise KeyboardInterrupt
        calls.append(arguments)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, names[stop_at], stopped)
        with pytest.raises(KeyboardInterrupt):
            make(tiny_data, tiny_config, out)
    with pytest.raises(UserError, match="let it finish"):
        ShardReader(out)
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tfrecord")}
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        read = shards.read_audio_parts
        patch.setattr(
            shards, "read_audio_parts", lambda *given: decoded.append(given[0]) or read(*given)
        )
        make(tiny_data, tiny_config, out, workers=1)
    # Shards of 2, 2, 1, 2, 2, 1 recordings; the first, or all, were finished.
    assert len(decoded) == {"write": 8, "receipt": 8, "finish": 0}[stop_at]
    finished = sorted(kept)[: {"write": 1, "receipt": 1, "finish": 6}[stop_at]]
    assert finished
    assert all((out / name).stat().st_mtime_ns == kept[name] for name in finished)
    assert files_of(out) == files_of(tiny_shards)


def test_the_number_of_workers_changes_nothing(tiny_data, tiny_config, tiny_shards, tmp_path):
    make(tiny_data, tiny_config, tmp_path / "out", workers=1)
    assert files_of(tmp_path / "out") == files_of(tiny_shards)


def test_a_second_run_of_a_complete_folder_does_nothing(tiny_data, tiny_config, tiny_shards):
    before = {path.name: path.stat().st_mtime_ns for path in tiny_shards.iterdir()}
    manifest = make(tiny_data, tiny_config, tiny_shards)
    assert {path.name: path.stat().st_mtime_ns for path in tiny_shards.iterdir()} == before
    assert manifest == ShardReader(tiny_shards).manifest


def refusal(*arguments):
    with pytest.raises(UserError) as caught:
        make(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"frontend": {"f_min_hz": 50.0}},
        {"crops": {"margin_s": 0.4}},
        {"training": {"folds": 3}},
        {"training": {"fold_seed": 1}},
    ],
    ids=str,
)
def test_another_recipe_does_not_go_into_the_same_folder(
    tiny_data, tiny_config, tiny_shards, sections
):
    before = files_of(tiny_shards)
    message = refusal(tiny_data, changed(tiny_config, **sections), tiny_shards)
    assert str(tiny_shards) in message
    assert files_of(tiny_shards) == before


@pytest.mark.parametrize("name", ["train_tp.csv", "species.csv"])
def test_other_data_do_not_go_into_the_same_folder(
    tiny_data, tiny_config, tiny_shards, tmp_path, name
):
    for path in tiny_data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    text = (tmp_path / name).read_text()
    (tmp_path / name).unlink()
    # One row less, or one species more.
    lines = text.splitlines()
    lines = lines[:-1] if name == "train_tp.csv" else [*lines, "11,none"]
    (tmp_path / name).write_text("\n".join(lines))
    assert str(tiny_shards) in refusal(tmp_path, tiny_config, tiny_shards)


def test_what_does_not_shape_the_shards_does_not_matter(tiny_data, tiny_config, tiny_shards):
    other = changed(tiny_config, training={"epochs": 9}, augment={"fp_flip": 0.0})
    other = other.model_copy(update={"seed": 7})
    assert make(tiny_data, other, tiny_shards) == ShardReader(tiny_shards).manifest


@pytest.fixture
def out(tiny_shards, tmp_path):
    """A copy of finished shards, with the times of its files."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "out"))


def flip(path, place):
    """Flips the lowest bit of a file's byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# Of a record: 8 bytes of length, 4 of their checksum, the payload, 4 of its checksum.
@pytest.mark.parametrize(
    "name, place",
    [
        *(("fold0-0001.tfrecord", place) for place in (0, 8, 12, 5000, -1)),
        ("index.csv", 200),
        ("manifest.json", 200),
        ("fold1-0000.json", 200),
    ],
)
def test_what_is_damaged_is_made_again_and_the_rest_is_kept(
    tiny_data, tiny_config, tiny_shards, out, capsys, name, place
):
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tfrecord")}
    flip(out / name, place)
    make(tiny_data, tiny_config, out)
    assert files_of(out) == files_of(tiny_shards)
    again = {
        path.name for path in out.glob("*.tfrecord") if path.stat().st_mtime_ns != times[path.name]
    }
    expected = {"fold0-0001.tfrecord": {name}, "fold1-0000.json": {"fold1-0000.tfrecord"}}
    assert again == expected.get(name, set())
    assert [
        line for line in capsys.readouterr().out.splitlines() if "again" in line and name in line
    ]


def test_a_shard_that_was_cut_short_is_made_again(tiny_data, tiny_config, tiny_shards, out):
    shard = out / "fold1-0001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    make(tiny_data, tiny_config, out)
    assert files_of(out) == files_of(tiny_shards)


def test_shards_of_a_recording_that_was_replaced_are_made_again(
    tiny_data, tiny_config, tmp_path, capsys
):
    """Also if it is as long as before; those of other recordings are kept."""
    data, out = Path(shutil.copytree(tiny_data, tmp_path / "data")), tmp_path / "out"
    make(data, tiny_config, out)
    capsys.readouterr()
    make(data, tiny_config, out)
    assert "Nothing had to be done" in capsys.readouterr().out
    before = files_of(out)
    replaced = data / "train" / "tiny03.flac"
    was = replaced.stat()
    shutil.copyfile(data / "train" / "tiny06.flac", replaced)
    os.utime(replaced, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    make(data, tiny_config, out)
    printed = capsys.readouterr().out
    assert "tiny03" in printed and "Wrote" in printed
    after = files_of(out)
    changed = {name for name in after if after[name] != before[name]}
    [shard] = {name for name in changed if name.endswith(".tfrecord")}
    assert "tiny03" in before[shard.replace(".tfrecord", ".json")].decode()
    make(data, tiny_config, tmp_path / "new")
    assert after == files_of(tmp_path / "new")


def test_finished_shards_of_an_earlier_version_are_current(
    tiny_data, tiny_config, out, tmp_path, capsys
):
    """Without receipts, checksum of the index and seal; what is damaged in them is made again."""
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    os.utime(data / "train" / "tiny03.flac")
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["index_sha256"], manifest["seal"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    for path in out.glob("fold*.json"):
        path.unlink()
    before = files_of(out)
    make(data, tiny_config, out)
    assert "Nothing had to be done" in capsys.readouterr().out
    assert files_of(out) == before
    flip(out / "fold0-0001.tfrecord", 5000)
    make(data, tiny_config, out)
    after = files_of(out)
    assert all(after[name] == before[name] for name in before if name.endswith(".tfrecord"))


def test_a_place_that_cannot_take_shards_is_refused(tiny_data, tiny_config, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    # Nobody can make a folder in /proc, not even root.
    for place in ("file", "full", "file/below", "/proc/rfcx_tf_shards"):
        message = refusal(tiny_data, tiny_config, tmp_path / place)
        assert str(tmp_path / place) in message
    assert (tmp_path / "file").read_text() == "mine"
    assert files_of(tmp_path / "full") == {"notes.txt": b"mine"}


@pytest.mark.parametrize("unlabelled", [0, 1])
def test_decoding_only_what_crops_need_changes_no_shard(
    tmp_path, tiny_config, monkeypatch, unlabelled
):
    rows = [
        ("r0", 0, 30.0, 30.5, True),
        ("r0", 1, 39.8, 40.05, False),
        ("r1", 1, 20.0, 20.5, True),
        ("r1", 0, 38.0, 41.0, True),  # outside
        ("r2", 0, 0.2, 0.6, False),
        ("r3", 0, 3.0, 3.4, True),
    ]
    data = make_data(tmp_path / "data", rows, (40.0, 40.0, 0.7, 40.0, 40.0))
    cut = data / "train" / "r3.flac"
    cut.write_bytes(cut.read_bytes()[:-100])
    config = changed(tiny_config, crops={"unlabelled_per_recording": unlabelled})
    decoded = {}
    read = shards.read_audio_parts

    def recorded(source, *wanted):
        waveform = read(source, *wanted)
        decoded[source.path.stem] = np.mean(waveform != 0)
        return waveform

    monkeypatch.setattr(shards, "read_audio_parts", recorded)
    by_parts = make(data, config, tmp_path / "parts")
    monkeypatch.setattr(
        shards,
        "read_audio_parts",
        lambda source, rate_hz, parts_of, remarks: read_audio(source, rate_hz, remarks),
    )
    assert make(data, config, tmp_path / "whole") == by_parts
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    # Crops of 2 s after a warm-up of 5.5 s, of 40 s.
    without_rows = {"r4"} if unlabelled else set()
    assert {name for name, share in decoded.items() if share < 0.7} == {
        "r0",
        "r1",
        "r3",
    } | without_rows
    assert decoded["r2"] == 1
    assert len(by_parts.skipped) == 2
    assert sum("r3.flac is cut short" in text for text in by_parts.skipped) == 1


def test_unlabelled_crops_touch_no_row(tmp_path, tiny_config):
    rows = [("r0", 0, 2.2, 2.6, True), ("r0", 1, 4.0, 4.5, False), ("r1", 0, 0.1, 5.8, True)]
    # r1 is covered by its row, r2 has no row, r3 is shorter than a crop.
    data = make_data(tmp_path / "data", rows, (6.0, 6.0, 6.0, 0.5))
    config = changed(tiny_config, crops={"unlabelled_per_recording": 3})
    manifest = make(data, config, tmp_path / "out")
    index = ShardReader(tmp_path / "out").index
    unlabelled = index[index["kind"] == "unlabelled"]
    assert manifest.counts == {"tp": 2, "fp": 1, "unlabelled": len(unlabelled)}
    assert unlabelled["recording_id"].value_counts().to_dict() == {"r0": 3, "r2": 3}
    assert (unlabelled["species_id"] == -1).all()
    for crop in unlabelled.itertuples():
        assert crop.t_max - crop.t_min == pytest.approx(1.024)
        assert crop.t_min >= 0
        assert crop.t_max <= 6
        for name, _, begin_s, end_s, _ in rows:
            apart = crop.t_max <= begin_s or crop.t_min >= end_s
            assert crop.recording_id != name or apart
    for number in unlabelled.index:
        crop = parse_crop(ShardReader(tmp_path / "out")[number])
        assert crop["box"].numpy()[2:].tolist() == [0, 0]


def test_no_crop_at_all_is_an_error(tmp_path, tiny_config):
    rows = [("r0", 0, 7.0, 8.0, True), ("r1", 0, 7.0, 8.0, True)]
    data = make_data(tmp_path / "data", rows, (6.0, 6.0))
    message = refusal(data, tiny_config, tmp_path / "out")
    assert "No crop" in message
    assert "train_tp.csv:2" in message or "train_tp.csv:3" in message


def test_recordings_without_their_file_are_left_out_and_ids_stay_text(tmp_path, tiny_config):
    rows = [("r0", 0, 1.0, 1.5, True), ("r1", 0, 1.0, 1.5, True), ("lost", 0, 1.0, 1.5, True)]
    data = make_data(tmp_path / "data", rows, (6.0, 6.0))
    manifest = make(data, tiny_config, tmp_path / "out")
    assert manifest.counts["tp"] == 2
    assert manifest.recordings.keys() == {"r0", "r1"}
    assert manifest.skipped == []


def test_shards_are_of_a_channel_and_remember_it(tmp_path, tiny_config):
    rows = [("r0", 0, 1.0, 1.5, True), ("r1", 1, 1.0, 1.5, True)]
    data = make_data(tmp_path / "data", rows, (6.0, 6.0))
    stereo = tmp_path / "stereo"
    shutil.copytree(data, stereo)
    for path in (stereo / "train").iterdir():
        sound, rate_hz = soundfile.read(path)
        soundfile.write(path, np.stack([0.1 * np.sin(np.arange(len(sound))), sound], 1), rate_hz)
    make(data, tiny_config, tmp_path / "mono")
    config = changed(tiny_config, audio={"channel": "1"})
    manifest = make(stereo, config, tmp_path / "one")
    read = {name: ShardReader(tmp_path / name) for name in ("mono", "one")}
    crops = {name: [reader[row] for row in range(2)] for name, reader in read.items()}
    assert crops["one"] == crops["mono"]
    assert {s.channel for k in range(2) for s in manifest.audio_sources(k).values()} == {"1"}
    assert "audio.channel = 1" in refused(check_shards_fit, read["one"], tiny_config)
    # Shards of before say nothing, and are of the mean.
    path = tmp_path / "mono" / "manifest.json"
    values = json.loads(path.read_text())
    del values["channel"], values["remarks"], values["seal"]
    path.write_text(json.dumps(values))
    check_shards_fit(ShardReader(tmp_path / "mono"), tiny_config)


def test_a_header_that_lies_is_told_and_its_sound_used(tmp_path, tiny_config):
    rows = [(f"r{number}", 0, 4.0, 4.5, True) for number in range(3)]
    data = make_data(tmp_path / "data", rows, (6.0,) * 3)
    expected = make(data, tiny_config, tmp_path / "true")
    for name in ("r0", "r1"):
        path = data / "train" / f"{name}.flac"
        flac = bytearray(path.read_bytes())
        flac[22:26] = (7).to_bytes(4, "big")  # Of samples.
        path.write_bytes(flac)
    manifest = make(data, tiny_config, tmp_path / "out")
    assert manifest.skipped == [] and manifest.counts == expected.counts
    assert sorted(manifest.remarks) == manifest.remarks and len(manifest.remarks) == 2
    assert "r0.flac has another length" in manifest.remarks[0]
    for shard in manifest.shards:
        assert (tmp_path / "out" / shard).read_bytes() == (tmp_path / "true" / shard).read_bytes()
