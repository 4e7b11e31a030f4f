"""A trained run as a SavedModel that takes waveforms: for TensorFlow Serving and for anyone.

exported/NAME/1/
  serving_default   waveform float32 [batch, samples] -> scores [batch, classes],
                    window_scores [batch, windows, classes], window_start_s [windows]
  spectrogram       spectrogram float32 [batch, frames, bands] -> the same
  assets/           classes.csv (column, species_id, name), config.yaml

Of an ensemble: the signature `spectrogram` only where all members have one front end; in assets/
ensemble.yaml (rule; run, weight and config of every member) and config0.yaml, config1.yaml, ...
in the place of config.yaml.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import tensorflow as tf
import yaml

from rfcx_tf.config import save_config
from rfcx_tf.errors import InputError
from rfcx_tf.inference.recording_model import EnsembleModel, RecordingModel
from rfcx_tf.listener.run_folder import is_listener


class ServableModel(tf.Module):
    """A recording model with its signatures and the files that explain its outputs."""

    def __init__(self, model: RecordingModel | EnsembleModel, assets_dir: Path):
        """Writes the assets into a folder; saving copies them from there."""
        super().__init__()
        self._model = model
        if isinstance(model, EnsembleModel):
            first = model.members[0].config
            has_one_front_end = model.one_front_end
            _save_ensemble(model, assets_dir)
        else:
            first = model.config
            has_one_front_end = True
            save_config(model.config, assets_dir / "config.yaml")
        with (assets_dir / "classes.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["column", "species_id", "name"])
            writer.writerows((f"s{c.species_id}", c.species_id, c.name) for c in model.classes)
        self._assets = [tf.saved_model.Asset(str(path)) for path in sorted(assets_dir.iterdir())]
        waveform = tf.TensorSpec([None, None], tf.float32, "waveform")
        self.score_waveform = tf.function(model.score_waveform, [waveform])
        self.score_spectrogram = None
        if has_one_front_end:
            bands = first.frontend.bands
            spectrogram = tf.TensorSpec([None, None, bands], tf.float32, "spectrogram")
            self.score_spectrogram = tf.function(model.scores, [spectrogram])

    def functions(self) -> dict[str, Callable]:
        """What is served, by the name of the signature."""
        functions = {"serving_default": self.score_waveform}
        if self.score_spectrogram is not None:
            functions["spectrogram"] = self.score_spectrogram
        return functions


def _save_ensemble(model: EnsembleModel, assets_dir: Path) -> None:
    members = []
    for number, member in enumerate(model.members):
        config = f"config{number}.yaml"
        save_config(member.config, assets_dir / config)
        members.append(
            {"run": model.names[number], "weight": model.weights[number], "config": config}
        )
    text = yaml.safe_dump({"rule": model.rule, "members": members}, sort_keys=False)
    (assets_dir / "ensemble.yaml").write_text(text, encoding="utf-8")


def check_exportable(paths: Iterable[Path]) -> None:
    """Refuses listeners among run folders, before any model is loaded.

    Raises:
        InputError: with the first listener.
    """
    for path in paths:
        if is_listener(path):
            raise InputError(
                f"Only a run of train.py can be exported. {path} is a listener's: distil it into "
                "one with pseudo_label.py, or score with predict.py."
            )


def export_saved_model(model: RecordingModel | EnsembleModel, out_dir: str | Path) -> Path:
    """Writes the next version of a servable model.

    Args:
        model: the trained detectors with their front end, or several runs.
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
        tf.saved_model.save(servable, str(workspace / "model"), servable.functions())
        version_dir = out_dir / str(max(versions, default=0) + 1)
        (workspace / "model").rename(version_dir)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return version_dir
