"""One crop <-> one tf.train.Example, and random access to the crops of many shards.

The features are documented in tfrecords/README.md. Shards are ordinary TFRecord files, which
`tf.data.TFRecordDataset` reads too. Beside them lie `index.csv`, a row for every crop with
its place in its shard, and `manifest.json`, which says how the shards were made. The index
makes a draw of any crop a single read, so balanced and exactly repeatable sampling needs
neither a shuffle buffer nor the crops in memory.

TFRecord has a checksum for every record, which TensorFlow compares as it reads a shard through.
Random access does not, so a shard is read through once before the first of its crops is given out.
The manifest has the checksum of the index, and its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.channels import MEAN
from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.checksums import sha256_of
from rfcx_tf.core.documents import DocumentError, read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.species import SpeciesClass

SCHEMA_VERSION = 1
KINDS = ("tp", "fp", "absent", "unlabelled", "pseudo")
# What people say something about.
LABELLED = ("tp", "fp", "absent")
# The fold of pseudo-labelled recordings that are in none.
NO_FOLD = -1
# TFRecord framing: 8 bytes of length and 4 of checksum before the payload, 4 after it.
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
# Of a shard, at a time.
_READ_BYTES = 8 << 20
_LENGTHS_AT_ONCE = 4096
_INDEX_COLUMNS = [
    "shard",
    "offset",
    "length",
    "recording_id",
    "fold",
    "kind",
    "species_id",
    "songtype_id",
    "t_min",
    "t_max",
]


class DamagedShards(UserError):
    """A folder of shards that is not as it was written.

    Attributes:
        what: is damaged and where, a sentence.
    """

    def __init__(self, what: str):
        super().__init__(
            f"{what} Run the command that made the folder (rfcx-tf make-tfrecords or "
            "pseudo-label) again as it was: it makes again what is damaged and keeps the rest."
        )
        self.what = what


@dataclass(frozen=True)
class Crop:
    """A stored piece of a recording's spectrogram: a training crop with its margins.

    Attributes:
        spectrogram: float16 [frames, bands].
        recording_id: the recording it was cut from.
        fold: cross-validation fold of that recording; `NO_FOLD` if it is in none.
        kind: `tp` or `fp`: the kind of row it was cut for; `absent`: no row lies in it, and its
            recording is annotated completely; `unlabelled`: no row lies in it; `pseudo`: a window
            that models labelled.
        species_id, songtype_id: what that row says; -1 where there is none. The species of a
            pseudo crop is the most probable one, if that is probable enough to count as present;
            otherwise -1.
        box: t_min, t_max in seconds and f_min, f_max in Hz of that row, in the recording; begin
            and end of the window, 0 and 0 where there is none.
        start_frame: frame of the recording at which the piece begins.
        box_times_s: float32 [boxes, 2], begin and end in the recording of every row of the
            recording that touches the piece.
        box_classes: int64 [boxes], class index of those rows.
        box_present: int64 [boxes], 1 for TP and 0 for FP.
        soft_target: float32 [classes], probability of every class in the window of a pseudo
            crop; None for others.
        soft_known: int64 [classes], 1 where that counts, 0 where the class is unknown.
        complete: int64 [classes], 1 where all calls of the class in the recording are marked; None
            where there is no such class.
    """

    spectrogram: np.ndarray
    recording_id: str
    fold: int
    kind: str
    species_id: int
    songtype_id: int
    box: tuple[float, float, float, float]
    start_frame: int
    box_times_s: np.ndarray
    box_classes: np.ndarray
    box_present: np.ndarray
    soft_target: np.ndarray | None = None
    soft_known: np.ndarray | None = None
    complete: np.ndarray | None = None


@dataclass(frozen=True)
class Manifest:
    """How a folder of shards was made.

    Attributes:
        classes: the species, in the order of the model's outputs.
        mean_box_s: mean TP box length by species id.
        box_hz: median f_min and f_max of the TP boxes by species id; empty in older shards.
        frontend: the front end's configuration; `frontend_fingerprint` identifies it.
        crop_frames, margin_frames: length of a training crop, and of what is kept each side.
        folds, fold_seed: number of folds, and the seed of their assignment.
        shards_id: identifies data and recipe of the shards.
        shards: bytes of every shard file by name.
        index_sha256: of index.csv; empty in older shards.
        counts: crops by kind.
        rows: TP and FP rows used, and skipped since their recording is not there.
        data_dir: where the recordings were.
        recordings: path, relative to data_dir, and fold by recording id.
        skipped: sentences on what was left out.
        remarks: what is to be said of recordings that were used whole.
        channel: what was listened to in recordings of several channels (`AudioSource`).
        complete: species of which all calls are marked, by recording id (`labels.complete`).
        code_version, schema_version: versions that wrote the shards.
    """

    classes: list[SpeciesClass]
    mean_box_s: dict[int, float]
    frontend: dict
    frontend_fingerprint: str
    crop_frames: int
    margin_frames: int
    folds: int
    fold_seed: int
    shards_id: str
    shards: dict[str, int]
    counts: dict[str, int]
    rows: dict[str, int]
    data_dir: str
    recordings: dict[str, dict]
    skipped: list[str] = field(default_factory=list)
    box_hz: dict[int, tuple[float, float]] = field(default_factory=dict)
    channel: str = MEAN
    remarks: list[str] = field(default_factory=list)
    complete: dict[str, list[int]] = field(default_factory=dict)
    code_version: str = ""
    schema_version: int = SCHEMA_VERSION
    index_sha256: str = ""

    def audio_sources(self, fold: int, data_dir: Path | None = None) -> dict[str, AudioSource]:
        """The recordings of a fold by id, in data_dir if they are not where they were."""
        base = Path(data_dir or self.data_dir)
        return {
            name: AudioSource(base / entry["path"], entry["offset"], entry["length"], self.channel)
            for name, entry in self.recordings.items()
            if entry["fold"] == fold
        }


def serialize_crop(crop: Crop) -> bytes:
    """A crop as the bytes of a tf.train.Example."""
    import tensorflow as tf

    def of_bytes(value: bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def of_ints(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def of_floats(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    features = {
        "spectrogram": of_bytes(crop.spectrogram.astype("<f2").tobytes()),
        "shape": of_ints(crop.spectrogram.shape),
        "recording_id": of_bytes(crop.recording_id.encode()),
        "fold": of_ints([crop.fold]),
        "kind": of_bytes(crop.kind.encode()),
        "species_id": of_ints([crop.species_id]),
        "songtype_id": of_ints([crop.songtype_id]),
        "box": of_floats(crop.box),
        "start_frame": of_ints([crop.start_frame]),
        "box_times_s": of_floats(np.ravel(crop.box_times_s)),
        "box_classes": of_ints(crop.box_classes),
        "box_present": of_ints(crop.box_present),
    }
    if crop.soft_target is not None:
        features["soft_target"] = of_floats(crop.soft_target)
    if crop.soft_known is not None:
        features["soft_known"] = of_ints(crop.soft_known)
    if crop.complete is not None:
        features["complete"] = of_ints(crop.complete)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # Protocol buffers promise no order of the features otherwise; shards made twice are equal.
    return example.SerializeToString(deterministic=True)


def parse_crop(serialized, as_stored: bool = False) -> dict:
    """The bytes of one example as a dict of tensors, inside or outside a tf.data graph.

    Args:
        serialized: string scalar.
        as_stored: leave the spectrogram in float16, for those who take only a part of it.

    Returns:
        spectrogram float32 [frames, bands]; kind, recording_id string; species_id, songtype_id,
        fold, start_frame int64; box float32 [4] (t_min, t_max, f_min, f_max); box_times_s
        float32 [boxes, 2]; box_classes, box_present int64 [boxes]; soft_target float32,
        soft_known and complete int64 [classes], each [0] where the crop has none.
    """
    import tensorflow as tf

    one_int = tf.io.FixedLenFeature([], tf.int64)
    one_string = tf.io.FixedLenFeature([], tf.string)
    many_ints = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    many_floats = tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)
    example = tf.io.parse_single_example(
        serialized,
        {
            "spectrogram": one_string,
            "shape": tf.io.FixedLenFeature([2], tf.int64),
            "recording_id": one_string,
            "fold": one_int,
            "kind": one_string,
            "species_id": one_int,
            "songtype_id": one_int,
            "box": tf.io.FixedLenFeature([4], tf.float32),
            "start_frame": one_int,
            "box_times_s": many_floats,
            "box_classes": many_ints,
            "box_present": many_ints,
            "soft_target": many_floats,
            "soft_known": many_ints,
            "complete": many_ints,
        },
    )
    values = tf.io.decode_raw(example["spectrogram"], tf.float16)
    spectrogram = tf.reshape(values, example.pop("shape"))
    example["spectrogram"] = spectrogram if as_stored else tf.cast(spectrogram, tf.float32)
    example["box_times_s"] = tf.reshape(example["box_times_s"], [-1, 2])
    return example


def write_shard(path: Path, crops: Iterable[Crop]) -> pd.DataFrame:
    """Writes one shard atomically.

    Returns:
        Its rows of the index.
    """
    import tensorflow as tf

    rows, offset = [], 0
    with atomic_file(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
        for crop in crops:
            payload = serialize_crop(crop)
            writer.write(payload)
            place = (path.name, offset + _HEADER_BYTES, len(payload))
            row = (crop.recording_id, crop.fold, crop.kind, crop.species_id, crop.songtype_id)
            rows.append((*place, *row, *crop.box[:2]))
            offset += _HEADER_BYTES + len(payload) + _FOOTER_BYTES
    return pd.DataFrame(rows, columns=_INDEX_COLUMNS)


class DamagedShard(ValueError):
    """A shard that is not as it was written.

    Attributes:
        record: number of the first record that is damaged, from 0.
    """

    def __init__(self, path: Path, record: int):
        super().__init__(f"{path}: record {record + 1} is damaged")
        self.record = record


def check_shard(path: Path, offsets: np.ndarray, lengths: np.ndarray) -> None:
    """Reads a shard through and compares all records with their checksums and the index.

    Args:
        path: the shard.
        offsets, lengths: int64 [records], where their payloads lie, in bytes.

    Raises:
        DamagedShard: if a record does not match, or there are more or fewer.
    """
    import tensorflow as tf

    records = tf.data.TFRecordDataset(str(path), buffer_size=_READ_BYTES).map(tf.strings.length)
    try:
        # All lengths at once, since every call from Python takes longer than reading a crop.
        found = np.concatenate([[], *records.batch(_LENGTHS_AT_ONCE).as_numpy_iterator()])
    except tf.errors.OpError:
        raise DamagedShard(path, len(_readable(records))) from None
    ends = np.cumsum(found + _HEADER_BYTES + _FOOTER_BYTES)
    places = ends - found - _FOOTER_BYTES
    both = min(len(found), len(lengths))
    wrong = np.flatnonzero((places[:both] != offsets[:both]) | (found[:both] != lengths[:both]))
    if len(wrong):
        raise DamagedShard(path, int(wrong[0]))
    if len(found) != len(lengths) or path.stat().st_size != (ends[-1] if len(ends) else 0):
        raise DamagedShard(path, both)


def _readable(records) -> list[int]:
    """Lengths of the records of a damaged shard before the first that cannot be read."""
    import tensorflow as tf

    found = []
    with suppress(tf.errors.OpError):
        found.extend(records.as_numpy_iterator())
    return found


class ShardReader:
    """Random access to the crops of a folder of shards.

    Attributes:
        manifest: how the shards were made.
        index: DataFrame, one row a crop, numbered from 0: shard, offset and length in bytes,
            recording_id, fold, kind, species_id, songtype_id, t_min and t_max in seconds.
    """

    def __init__(self, folder: str | Path):
        """Opens the shards without reading them.

        Raises:
            UserError: if the manifest, the index or a shard is missing, the index is not that of
                the manifest, or a shard does not have the size that the manifest says.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        path = self.folder / "index.csv"
        try:
            # A recording may be called NA.
            self.index = pd.read_csv(
                path, dtype={"recording_id": str, "shard": str}, keep_default_na=False
            )
            is_whole = self.manifest.index_sha256 in ("", sha256_of(path))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DamagedShards(
                f"A folder of shards needs a readable index.csv. {path}: {reason}."
            ) from None
        if not is_whole or not set(self.index["shard"]) <= set(self.manifest.shards):
            raise DamagedShards(f"The index of shards must match manifest.json. {path} does not.")
        for name, size in self.manifest.shards.items():
            shard = self.folder / name
            found = shard.stat().st_size if shard.exists() else None
            if found != size:
                state = "missing" if found is None else f"{found} bytes"
                raise DamagedShards(
                    f"A shard must be as the manifest describes it ({size} bytes). {shard}: "
                    f"{state}."
                )
        names = list(self.manifest.shards)
        # An empty file cannot be mapped; a shard without crops is never read.
        self._bytes = [
            np.memmap(self.folder / name, np.uint8, "r") if self.manifest.shards[name] else None
            for name in names
        ]
        self._shard = self.index["shard"].map({n: i for i, n in enumerate(names)}).to_numpy()
        self._offset = self.index["offset"].to_numpy()
        self._length = self.index["length"].to_numpy()
        self._is_checked = np.zeros(len(names), bool)

    def __getitem__(self, row: int) -> bytes:
        """The serialised example at a row of the index.

        Raises:
            DamagedShards: as `check`, for its shard.
        """
        shard = self._shard[row]
        if not self._is_checked[shard]:
            self.check([row])
        start = self._offset[row]
        return self._bytes[shard][start : start + self._length[row]].tobytes()

    def check(self, rows: np.ndarray | list[int]) -> None:
        """Compares the shards of some rows with their checksums, each once.

        What reads rows within `tf.data` calls it first: an error in there is not one line.

        Raises:
            DamagedShards: naming the shard and the record.
        """
        for shard in np.unique(self._shard[rows]):
            if not self._is_checked[shard]:
                own = np.flatnonzero(self._shard == shard)
                path = self.folder / list(self.manifest.shards)[shard]
                try:
                    check_shard(path, self._offset[own], self._length[own])
                except DamagedShard as error:
                    name = ""
                    if error.record < len(own):
                        name = f" ({self.index['recording_id'].iloc[own[error.record]]})"
                    raise DamagedShards(
                        f"The records of a shard must match their checksums. {path}: record "
                        f"{error.record + 1} of {len(own)}{name} is damaged."
                    ) from None
                self._is_checked[shard] = True

    def rows(self, folds: list[int], *kinds: str) -> np.ndarray:
        """Row numbers of the crops in these folds, of the given kinds or of all."""
        keep = self.index["fold"].isin(folds)
        if kinds:
            keep &= self.index["kind"].isin(kinds)
        return np.flatnonzero(keep)


def write_manifest(manifest: Manifest, folder: Path) -> Manifest:
    """Writes manifest.json atomically, with the checksum of the index; returns what it says."""
    index = folder / "index.csv"
    manifest = replace(manifest, index_sha256=sha256_of(index) if index.exists() else "")
    atomic_write_text(folder / "manifest.json", sealed_json(asdict(manifest), indent=1))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Reads manifest.json.

    Raises:
        UserError: if there is none, it is not readable, or another schema version wrote it.
    """
    path = Path(folder) / "manifest.json"
    try:
        values = read_json(path, "The manifest")
        version = values.get("schema_version")
        if version == SCHEMA_VERSION:
            values["classes"] = [SpeciesClass(**c) for c in values["classes"]]
            values["mean_box_s"] = {int(k): v for k, v in values["mean_box_s"].items()}
            values["box_hz"] = {int(k): tuple(v) for k, v in values.get("box_hz", {}).items()}
            return Manifest(**values)
    except FileNotFoundError:
        raise UserError(
            f"A folder of shards holds a manifest.json. Not found: {path}. Make the shards with "
            "rfcx-tf make-tfrecords, or rfcx-tf pseudo-label, and let it finish."
        ) from None
    except DocumentError as error:
        raise DamagedShards(str(error)) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedShards(f"{path} is not a readable manifest: {error!r:.120}.") from None
    raise UserError(
        f"Shards must have schema version {SCHEMA_VERSION}. {path}: {version}. "
        "Make them again with rfcx-tf make-tfrecords."
    )
