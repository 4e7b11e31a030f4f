"""A folder of pseudo-labels: shards for all folds alike, or a folder of shards for every fold.

labels/                     for all folds
  manifest.json, index.csv, *.tfrecord
  windows/RECORDING.npz     the probabilities of all windows, those without a crop included

labels/                     for every fold its own
  labels.json               what identifies all of it
  fold0/, fold1/, ...       each as above, without the recordings of its fold
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rfcx_tf.core.arrays import read_arrays
from rfcx_tf.core.documents import read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.shards.records import ShardReader

_INFO = "labels.json"


class PseudoLabels:
    """Pseudo-labels on disk.

    Attributes:
        folder: the folder that holds all of them.
        id: differs between labels of other teachers or bounds.
    """

    def __init__(self, folder: str | Path):
        """Opens a finished folder.

        Raises:
            UserError: if there is none.
        """
        self.folder = Path(folder)
        self._all_folds = None
        if (self.folder / _INFO).is_file():
            self.id = _read_id(self.folder)
        else:
            self._all_folds = ShardReader(self.folder)
            self.id = self._all_folds.manifest.shards_id

    def of_fold(self, fold: int) -> ShardReader:
        """The shards that the student of a fold, which holds that fold out, learns from.

        Raises:
            UserError: if that fold has no labels.
        """
        if self._all_folds is not None:
            return self._all_folds
        folder = fold_folder(self.folder, fold)
        if not (folder / "manifest.json").is_file():
            raise UserError(
                "A fold learns from labels by its own detectors. "
                f"{self.folder} has none for fold {fold}. Label that fold too."
            )
        return ShardReader(folder)


def begin_per_fold(folder: Path, labels_id: str) -> None:
    """Makes a folder whose folds get labels of their own, or goes on with it.

    Raises:
        UserError: if other labels are in it.
    """
    found = None
    if (folder / _INFO).is_file():
        found = _read_id(folder)
    elif folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
        found = "labels for all folds alike"
    if found not in (None, labels_id):
        raise UserError(
            f"A folder has labels of the same teachers, bounds and recordings. {folder} holds "
            f"{found}, these are {labels_id}. Name another --out."
        )
    atomic_write_text(folder / _INFO, sealed_json({"id": labels_id}))


def fold_folder(folder: Path, fold: int) -> Path:
    """Where the labels of one fold are."""
    return folder / f"fold{fold}"


def write_probability(
    folder: Path, recording_id: str, centres_s: np.ndarray, probability: np.ndarray
) -> None:
    """Keeps the probabilities [windows, classes] of a recording's windows around these times."""
    with atomic_file(_windows_path(folder, recording_id)) as temporary:
        np.savez(
            temporary,
            centre_s=centres_s.astype(np.float32),
            probability=probability.astype(np.float16),
        )


def read_probability(folder: Path, recording_id: str) -> tuple[np.ndarray, np.ndarray] | None:
    """What `write_probability` kept: centres float32 [windows], probabilities [windows, classes].

    Returns:
        None for a recording that is not there, such as one that could not be read.

    Raises:
        UserError: if the file is damaged.
    """
    path = _windows_path(folder, recording_id)
    try:
        arrays = read_arrays(path)
        return arrays["centre_s"], arrays["probability"].astype(np.float32)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"The labels {path} cannot be read. Move that folder of labels, {folder}, away and "
            "label again."
        ) from None


def names_with_windows(folder: Path) -> list[str]:
    """Recordings whose windows one folder of shards has."""
    root = folder / "windows"
    # What a killed process left behind of a file begins with a dot.
    paths = (path for path in sorted(root.rglob("*.npz")) if not path.name.startswith("."))
    return [str(path.relative_to(root))[: -len(".npz")] for path in paths]


def _windows_path(folder: Path, recording_id: str) -> Path:
    return folder / "windows" / f"{recording_id}.npz"


def _read_id(folder: Path) -> str:
    try:
        return str(read_json(folder / _INFO, "The record of labels")["id"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"Pseudo-labels are a folder made by rfcx-tf pseudo-label. {folder / _INFO} cannot be "
            "read. Label again."
        ) from None
