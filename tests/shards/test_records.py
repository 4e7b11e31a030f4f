"""Shards on disk: what is written is what is read, by our reader and by TensorFlow's."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from refused import refused

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.shards.records import (
    Crop,
    Manifest,
    ShardReader,
    parse_crop,
    read_manifest,
    serialize_crop,
    write_manifest,
    write_shard,
)

CROP = Crop(
    spectrogram=np.arange(12, dtype=np.float16).reshape(4, 3) / 7,
    recording_id="0a1e5",
    fold=3,
    kind="fp",
    species_id=17,
    songtype_id=4,
    box=(1.25, 2.5, 500.0, 4000.0),
    start_frame=77,
    box_times_s=np.array([[1.25, 2.5], [0.5, 1.5]], np.float32),
    box_classes=np.array([5, 0]),
    box_present=np.array([0, 1]),
)

finite_float16 = np_st.arrays(
    np.float16,
    np_st.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
)


@settings(max_examples=20)
@given(finite_float16, st.text(min_size=1, max_size=9), st.integers(0, 3))
def test_a_crop_survives_its_round_trip_exactly(spectrogram, name, boxes):
    crop = replace(
        CROP,
        spectrogram=spectrogram,
        recording_id=name,
        box_times_s=np.arange(2 * boxes, dtype=np.float32).reshape(boxes, 2) / 3,
        box_classes=np.arange(boxes),
        box_present=np.arange(boxes) % 2,
    )
    parsed = parse_crop(serialize_crop(crop))
    assert parsed["spectrogram"].dtype == tf.float32
    np.testing.assert_array_equal(parsed["spectrogram"], spectrogram.astype(np.float32))
    assert parsed["recording_id"].numpy().decode() == name
    for field in ("box_times_s", "box_classes", "box_present"):
        np.testing.assert_array_equal(parsed[field], getattr(crop, field))


def test_the_numbers_of_a_crop_survive():
    parsed = parse_crop(serialize_crop(CROP))
    assert parsed["kind"].numpy() == b"fp"
    numbers = [int(parsed[name]) for name in ("fold", "species_id", "songtype_id", "start_frame")]
    assert numbers == [3, 17, 4, 77]
    assert parsed["box"].numpy().tolist() == [1.25, 2.5, 500.0, 4000.0]


def test_soft_labels_survive_and_are_empty_where_there_are_none():
    plain = serialize_crop(CROP)
    assert b"soft" not in plain, "shards without soft labels are what they were"
    parsed = parse_crop(plain)
    for name, dtype in (("soft_target", tf.float32), ("soft_known", tf.int64)):
        assert parsed[name].shape == [0]
        assert parsed[name].dtype == dtype
    target, known = np.float32([0.9, 0.3, 0.01]), np.array([1, 0, 1])
    crop = replace(CROP, kind="pseudo", fold=-1, soft_target=target, soft_known=known)
    serialized = serialize_crop(crop)
    parsed = parse_crop(serialized)
    np.testing.assert_array_equal(parsed["soft_target"], target)
    np.testing.assert_array_equal(parsed["soft_known"], known)
    assert int(parsed["fold"]) == -1
    # Under the documented names, and beside what every crop has.
    features = tf.train.Example.FromString(serialized).features.feature
    np.testing.assert_array_equal(np.float32(features["soft_target"].float_list.value), target)
    assert list(features["soft_known"].int64_list.value) == [1, 0, 1]
    others = tf.train.Example.FromString(plain).features.feature
    assert features.keys() - others.keys() == {"soft_target", "soft_known"}


def test_a_piece_of_a_larger_array_is_stored_as_that_piece():
    whole = np.arange(60, dtype=np.float16).reshape(10, 6)
    parsed = parse_crop(serialize_crop(replace(CROP, spectrogram=whole[2:7, ::2])))
    np.testing.assert_array_equal(parsed["spectrogram"], whole[2:7, ::2])


def manifest_for(shards, **changes):
    values = dict(
        classes=[SpeciesClass(2, "Coquí"), SpeciesClass(5, "b")],
        mean_box_s={2: 0.25},
        box_hz={2: (500.0, 900.5)},
        frontend={"n_mels": 3},
        frontend_fingerprint="0",
        crop_frames=2,
        margin_frames=1,
        folds=2,
        fold_seed=0,
        shards_id="0a",
        rows={},
        shards=shards,
        counts={"tp": 1, "fp": 2, "unlabelled": 0},
        data_dir="/data",
        recordings={"0a1e5": {"path": "train/0a1e5.flac", "fold": 0}},
        skipped=["something"],
    )
    return Manifest(**values | changes)


@pytest.fixture
def folder(tmp_path):
    """Two shards of two and one crops; one recording is called NA, one like a number."""
    crops = [
        CROP,
        replace(CROP, recording_id="NA", kind="tp", fold=0, spectrogram=CROP.spectrogram[:2]),
        replace(CROP, recording_id="007", kind="tp", fold=3),
    ]
    first = write_shard(tmp_path / "a.tfrecord", crops[:2])
    second = write_shard(tmp_path / "b.tfrecord", crops[2:])
    index = first.to_csv(index=False) + second.to_csv(index=False, header=False)
    (tmp_path / "index.csv").write_text(index)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.tfrecord", "b.tfrecord")}
    write_manifest(manifest_for(sizes), tmp_path)
    return tmp_path


def test_the_reader_gives_what_tensorflow_reads(folder):
    reader = ShardReader(folder)
    paths = [str(folder / "a.tfrecord"), str(folder / "b.tfrecord")]
    records = [record.numpy() for record in tf.data.TFRecordDataset(paths)]
    assert [reader[row] for row in range(3)] == records
    assert reader.index["recording_id"].tolist() == ["0a1e5", "NA", "007"]


def test_rows_are_found_by_fold_and_kind(folder):
    reader = ShardReader(folder)
    assert reader.rows([3]).tolist() == [0, 2]
    assert reader.rows([0, 3], "tp").tolist() == [1, 2]
    assert reader.rows([1]).tolist() == []


def test_the_manifest_survives_its_round_trip(tmp_path):
    manifest = manifest_for({"a.tfrecord": 5})
    write_manifest(manifest, tmp_path)
    assert read_manifest(tmp_path) == manifest


def refusal(folder):
    with pytest.raises(UserError) as caught:
        ShardReader(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_shard_that_was_cut_short_is_refused_by_name(folder):
    shard = folder / "b.tfrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    message = refusal(folder)
    assert str(shard) in message
    assert f"({len(whole)} bytes)" in message
    assert f"{len(whole) - 1} bytes" in message
    shard.unlink()
    assert "b.tfrecord: missing" in refusal(folder)


@pytest.mark.parametrize("bit", range(0, 8 * 100, 41))
def test_no_flipped_bit_of_a_shard_is_read(folder, bit):
    """Of lengths, payloads and checksums: TensorFlow's own reader finds them all."""
    shard = folder / "a.tfrecord"
    content = bytearray(shard.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    shard.write_bytes(content)
    reader = ShardReader(folder)
    message = refused(reader.__getitem__, 1)
    assert f"{shard}: record 1 of 2 (0a1e5) is damaged" in message
    assert parse_crop(reader[2])["recording_id"].numpy() == b"007"


def test_an_index_that_is_not_that_of_the_shards_is_refused(folder):
    """Also where an older manifest has no checksum of it: places and names of shards."""
    path, manifest = folder / "index.csv", folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace(",fp,", ",tp,"))
    assert str(path) in refusal(folder)
    values = json.loads(manifest.read_text())
    del values["index_sha256"], values["seal"]
    manifest.write_text(json.dumps(values))
    assert ShardReader(folder).rows([3], "tp").tolist() == [0, 2]
    path.write_text(text.replace("b.tfrecord", "c.tfrecord"))
    assert str(path) in refusal(folder)
    path.write_text(text.replace("a.tfrecord,12,", "a.tfrecord,13,"))
    assert "record 1" in refused(ShardReader(folder).check, [0])
    path.write_text("".join(text.splitlines(keepends=True)[:2]))
    assert "record 2" in refused(ShardReader(folder).check, [0])


def test_a_folder_without_index_or_manifest_is_refused(folder):
    (folder / "index.csv").unlink()
    assert "index.csv" in refusal(folder)
    (folder / "manifest.json").unlink()
    assert "manifest.json" in refusal(folder)
    assert "manifest.json" in refusal(folder / "none")


def test_an_index_that_is_no_table_is_refused(folder):
    for text in ("", "a,b\n1,2\n1,2,3,4\n"):
        (folder / "index.csv").write_text(text)
        assert "readable index.csv" in refusal(folder)


def test_a_manifest_that_is_none_or_of_another_version_is_refused(folder):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"schema_version": 99}))
    assert "checksum" in refusal(folder)
    del values["seal"]
    path.write_text(json.dumps(values | {"schema_version": 99}))
    assert "99" in refusal(folder)
    path.write_text(json.dumps(values | {"colour": "red"}))
    assert "not a readable manifest" in refusal(folder)
    path.write_text("{")
    assert "no valid JSON" in refusal(folder)


def test_a_manifest_from_before_the_bands_of_boxes_were_kept_opens(folder):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    del values["box_hz"], values["seal"]
    path.write_text(json.dumps(values))
    assert ShardReader(folder).manifest.box_hz == {}


def test_a_shard_without_crops_can_be_there(folder):
    index = write_shard(folder / "c.tfrecord", [])
    assert len(index) == 0
    sizes = {name: (folder / name).stat().st_size for name in ("a.tfrecord", "c.tfrecord")}
    lines = (folder / "index.csv").read_text().splitlines()
    (folder / "index.csv").write_text("\n".join(lines[:3]))
    write_manifest(manifest_for(sizes), folder)
    assert parse_crop(ShardReader(folder)[1])["recording_id"].numpy() == b"NA"
