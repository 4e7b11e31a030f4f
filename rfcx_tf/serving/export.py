"""A trained run as a SavedModel that takes waveforms: for TensorFlow Serving and for anyone.

exported/NAME/1/
  serving_default   waveform float32 [batch, samples] -> scores [batch, classes],
                    window_scores [batch, windows, classes], window_start_s [windows]
  spectrogram       spectrogram float32 [batch, frames, bands] -> the same
  assets/           classes.csv (column, species_id, name), config.yaml
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from rfcx_tf.config import save_config
from rfcx_tf.errors import InputError
from rfcx_tf.inference.recording_model import RecordingModel


class ServableModel(tf.Module):
    """A recording model with its signatures and the files that explain its outputs."""

    def __init__(self, model: RecordingModel, assets_dir: Path):
        """Writes the assets into a folder; saving copies them from there."""
        super().__init__()
        self._model = model
        save_config(model.config, assets_dir / "config.yaml")
        with (assets_dir / "classes.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["column", "species_id", "name"])
            writer.writerows((f"s{c.species_id}", c.species_id, c.name) for c in model.classes)
        self._assets = [
            tf.saved_model.Asset(str(assets_dir / name)) for name in ("config.yaml", "classes.csv")
        ]
        waveform = tf.TensorSpec([None, None], tf.float32, "waveform")
        bands = model.config.frontend.bands
        spectrogram = tf.TensorSpec([None, None, bands], tf.float32, "spectrogram")
        self.score_waveform = tf.function(model.score_waveform, [waveform])
        self.score_spectrogram = tf.function(model.scores, [spectrogram])


def export_saved_model(model: RecordingModel, out_dir: str | Path) -> Path:
    """Writes the next version of a servable model.

    Args:
        model: the trained detectors with their front end.
        out_dir: folder of the model; versions are the numbered folders in it.

    Returns:
        The new version's folder. It appears whole: a server never sees a part of it.

    Raises:
        InputError: if the folder cannot be written.
    """
    out_dir = Path(out_dir)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        versions = [int(p.name) for p in out_dir.iterdir() if p.name.isdigit()]
        # Servers look at numbered folders only.
        workspace = Path(tempfile.mkdtemp(prefix=".writing-", dir=out_dir))
    except OSError as error:
        raise InputError(
            f"{out_dir} cannot be written: {error.strerror}. Name another --out."
        ) from None
    try:
        assets_dir = workspace / "source"
        assets_dir.mkdir()
        servable = ServableModel(model, assets_dir)
        signatures = {
            "serving_default": servable.score_waveform,
            "spectrogram": servable.score_spectrogram,
        }
        tf.saved_model.save(servable, str(workspace / "model"), signatures)
        version_dir = out_dir / str(max(versions, default=0) + 1)
        (workspace / "model").rename(version_dir)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return version_dir
