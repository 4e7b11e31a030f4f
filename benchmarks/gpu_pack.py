"""What a machine without TensorFlow and internet lacks -> one folder: packages, and sound to learn.

`packages/` holds Keras and what it and the configuration need, for Python 3.12 on x86-64 Linux.
`sound.npz` holds the log-mel spectrograms of a data set as bytes, its rows, folds and truth.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "configs" / "fieldmix.yaml"
# What JAX and PyTorch do not bring along; versions are those of this environment.
_PACKAGES = (
    "keras",
    "namex",
    "optree",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "tqdm",
)
# Levels below are as silent as those: a part of all values.
_SILENT = 5e-4


def pack(folder: Path, data_dir: Path | None) -> None:
    """Makes the folder, or the part of it that is missing.

    Args:
        folder: where to.
        data_dir: a folder in the Kaggle layout with train_truth.csv; None: no trials.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "packages").exists():
        _packages(folder / "packages")
    if data_dir is not None and not (folder / "sound.npz").exists():
        _sound(data_dir, folder / "sound.npz")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB.")


def _packages(folder: Path) -> None:
    from importlib import metadata

    temporary = folder.with_name("packages-new")
    shutil.rmtree(temporary, ignore_errors=True)
    wanted = [f"{name}=={metadata.version(name)}" for name in _PACKAGES]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    for platform in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
        command += ["--platform", platform]
    subprocess.run([*command, "--target", str(temporary), *wanted], check=True)
    temporary.rename(folder)


def _sound(data_dir: Path, path: Path) -> None:
    from rfcx_tf.audio.decode import read_audio
    from rfcx_tf.core.config import load_config
    from rfcx_tf.core.files import atomic_file
    from rfcx_tf.frontend.recording import RecordingTransform
    from rfcx_tf.labels.annotations import mean_box_s, read_kaggle_folder
    from rfcx_tf.labels.folds import assign_folds
    from rfcx_tf.scoring.score_table import read_truth

    config, annotations = load_config(RECIPE), read_kaggle_folder(data_dir)
    rows, names = annotations.used_rows, sorted(annotations.recordings)
    training = config.training
    fold_of = assign_folds(rows, list(annotations.recordings), training.folds, training.fold_seed)
    transform = RecordingTransform(config)
    spectrograms = []
    for name in names:
        sound = read_audio(annotations.recordings[name], config.frontend.sample_rate_hz)
        spectrograms.append(transform(sound).astype(np.float16))
    values = np.concatenate(spectrograms).astype(np.float32)
    low, high = np.quantile(values[::7], _SILENT), values.max()
    step = (high - low) / 255
    truth = read_truth(data_dir / "train_truth.csv").set_index("recording_id").loc[names]
    means = mean_box_s(annotations.rows)
    class_of = {c.species_id: number for number, c in enumerate(annotations.classes)}
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            spectrograms=np.clip(np.round((values - low) / step), 0, 255).astype(np.uint8),
            low=low,
            step=step,
            frames=np.array([len(s) for s in spectrograms]),
            recordings=np.array(names),
            folds=np.array([fold_of[name] for name in names]),
            truth=truth[[c.column for c in annotations.classes]].to_numpy(np.uint8),
            species_ids=np.array([c.species_id for c in annotations.classes]),
            species=np.array([c.name for c in annotations.classes]),
            mean_box_s=np.array([means[c.species_id] for c in annotations.classes]),
            row_recordings=rows["recording_id"].map({n: i for i, n in enumerate(names)}).to_numpy(),
            row_classes=rows["species_id"].map(class_of).to_numpy(),
            row_present=rows["present"].to_numpy(),
            row_boxes=rows[["t_min", "t_max", "f_min", "f_max"]].to_numpy(np.float64),
        )
