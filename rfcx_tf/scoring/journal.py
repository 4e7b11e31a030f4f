"""Results of single recordings, kept until all are there, so that a stopped prediction goes on.

scores.csv.parts/
  about.json       identifies models, weights and options (`fingerprint_runs`)
  HASH.npz         one recording: its key, scores and, where wanted, scores and boxes of windows

A part counts only for the recording that it was made of: id, path, size and time of the last
change. What is damaged is told, and made again. What is done with scores afterwards (a prior, a
calibration, events) is not in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

import rfcx_tf
from rfcx_tf.audio.channels import MEAN
from rfcx_tf.audio.decode import AudioSource, SoundRemark
from rfcx_tf.core.arrays import DamagedArrays, read_arrays
from rfcx_tf.core.documents import read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.storage import as_path
from rfcx_tf.runs.open import Run
from rfcx_tf.scoring.scorer import RecordingResult

_PART = re.compile(r"[0-9a-f]{32}\.npz")


class Journal:
    """The folder of what is done.

    Attributes:
        folder: its path.
        fingerprint: of all that decides results.
        started_over: whether there were parts of other models or options, or of which that is no
            longer known; now removed.
    """

    def __init__(self, folder: str | Path, fingerprint: str):
        """Opens the folder, or makes it.

        Args:
            folder: nothing but parts may be in it.
            fingerprint: of all that decides results.

        Raises:
            UserError: if something else is there, or nothing can be written.
        """
        self.folder, self.fingerprint = Path(folder), fingerprint
        about = self.folder / "about.json"
        found = _read_fingerprint(about)
        if found is None and self.folder.exists() and _holds_something(self.folder):
            raise UserError(
                f"Results of single recordings are kept in {self.folder} meanwhile. Something else "
                "is there; move it away or name another --out."
            )
        self.started_over = found is not None and found != fingerprint
        if self.started_over:
            self.remove()
        if found != fingerprint:
            atomic_write_text(about, sealed_json({"fingerprint": fingerprint}))

    def read(self, recording_id: str, key: str | None = None) -> RecordingResult | None:
        """The result of a recording, see `read_result`."""
        return read_result(self.folder, recording_id, key)

    def write(self, result: RecordingResult, key: str) -> None:
        """Keeps the result of a recording, in one step."""
        arrays = {
            "key": np.array(key),
            "path": np.array(str(result.path)),
            "duration_s": np.array(result.duration_s),
            "scores": result.scores,
            "remarks": np.array(json.dumps([asdict(remark) for remark in result.remarks])),
        }
        if result.window_scores is not None:
            arrays["window_scores"] = result.window_scores
        if result.window_boxes is not None:
            arrays["window_boxes"] = result.window_boxes
        with atomic_file(_path(self.folder, result.recording_id)) as temporary:
            np.savez(temporary, **arrays)

    def remove(self) -> None:
        """Removes the folder, when all is done."""
        # about.json last: without it a folder with parts is not known for one.
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "about.json":
                path.unlink()
        shutil.rmtree(self.folder)


def read_result(folder: Path, recording_id: str, key: str | None = None) -> RecordingResult | None:
    """The result of a recording in a journal's folder, None if there is none.

    Args:
        folder: of the journal, which stays as it is.
        recording_id: its name.
        key: that it must have (`recording_key`); None: whichever it has.
    """
    path = _path(folder, recording_id)
    try:
        part = read_arrays(path)
        if key is not None and str(part["key"]) != key:
            return None
        return RecordingResult(
            recording_id,
            as_path(str(part["path"])),
            float(part["duration_s"]),
            part["scores"],
            part.get("window_scores"),
            part.get("window_boxes"),
            _read_remarks(part),
        )
    except DamagedArrays as error:
        tqdm.write(f"{path} is damaged ({error}): {recording_id} is scored again.", sys.stderr)
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint_runs(
    runs: Sequence[Run], weights: Sequence[float], rule: str, windows: bool
) -> str:
    """Differs between predictions whose results differ.

    Args:
        runs: opened with the overrides that they predict with.
        weights, rule: how they are combined.
        windows: whether window scores are kept.
    """
    total = hashlib.sha256()
    total.update(json.dumps([rfcx_tf.__version__, list(weights), rule, windows]).encode())
    for run in runs:
        folds = run.finished_folds
        total.update(run.config.model_dump_json().encode())
        total.update(json.dumps([[c.species_id for c in run.info.classes], folds]).encode())
        total.update(run.model_hash.encode())
        for fold in folds:
            if run.weights(fold).exists():
                with run.weights(fold).open("rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def recording_key(recording_id: str, source: AudioSource | Path) -> str | None:
    """Identifies a recording as it is now; None where it cannot be looked at."""
    if isinstance(source, os.PathLike):
        source = AudioSource(source)
    try:
        status = source.path.stat()
    except OSError:
        return None
    place = [str(source.path.resolve()), source.offset, source.length]
    place += [source.channel] * (source.channel != MEAN)
    return json.dumps([recording_id, *place, status.st_size, status.st_mtime_ns])


def _path(folder: Path, recording_id: str) -> Path:
    # A name may be as long as a file's name can be, and hold anything.
    return folder / f"{hashlib.sha256(recording_id.encode()).hexdigest()[:32]}.npz"


def _read_remarks(part: Mapping[str, np.ndarray]) -> tuple[SoundRemark, ...]:
    """Of a part; one of an earlier version has none."""
    return tuple(SoundRemark(**remark) for remark in json.loads(str(part.get("remarks", "[]"))))


def _read_fingerprint(about: Path) -> str | None:
    """What the parts are of; None where they are no journal's, "" where that is damaged."""
    try:
        return str(read_json(about, "The record of results")["fingerprint"])
    except OSError:
        return None
    except (ValueError, KeyError):
        names = [path.name for path in about.parent.iterdir() if not path.name.startswith(".")]
        is_ours = all(name == about.name or _PART.fullmatch(name) for name in names)
        return "" if is_ours and len(names) > 1 else None


def _holds_something(folder: Path) -> bool:
    return not folder.is_dir() or any(not p.name.startswith(".") for p in folder.iterdir())
