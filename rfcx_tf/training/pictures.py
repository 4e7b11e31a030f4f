"""Pictures of validation crops: spectrogram, boxes, and the score of every window."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from scipy.special import expit

from rfcx_tf.core.config import Config
from rfcx_tf.core.files import atomic_file
from rfcx_tf.frontend.picture import draw_spectrogram, figure_png
from rfcx_tf.shards.records import ShardReader, parse_crop

# Crops of each kind.
_PICTURED = 4
# Okabe and Ito's colours, which people with any colour vision tell apart.
_PRESENT, _ABSENT, _SCORE = "#009E73", "#D55E00", "#56B4E9"


class ValidationPictures(keras.callbacks.Callback):
    """Every few epochs, a picture of some validation crops: to TensorBoard and as a PNG.

    The crops are shown with their margins, so the windows slide over a box and past it.
    """

    def __init__(self, reader: ShardReader, config: Config, fold: int, folder: Path, every: int):
        super().__init__()
        self._config = config
        self._every = every
        self._path = folder / "validation.png"
        self._log_folder = folder / "logs" / "validation"
        spread = [
            rows[np.linspace(0, len(rows) - 1, min(_PICTURED, len(rows))).astype(int)]
            for rows in (reader.rows([fold], kind) for kind in ("tp", "fp"))
            if len(rows)
        ]
        self._crops = [parse_crop(reader[row]) for row in np.concatenate(spread)]
        self._classes = reader.manifest.classes

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if (epoch + 1) % self._every == 0 or last:
            self.draw(epoch + 1)

    def draw(self, epoch: int):
        """Draws the picture with the model as it is."""
        detect = functools.partial(self.model.detector, training=False)
        png = draw_crops(self._crops, detect, self._config, self._classes)
        with atomic_file(self._path) as temporary:
            temporary.write_bytes(png)
        log_picture(self._log_folder, "validation crops", png, epoch)


def log_picture(log_folder: Path, name: str, png: bytes, step: int) -> None:
    """Adds a PNG to TensorBoard's logs."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(log_folder))
    with writer.as_default():
        tf.summary.image(name, tf.image.decode_png(png)[None], step=step)
    writer.close()


def draw_crops(crops: list[dict], detect: Callable, config: Config, classes: list) -> bytes:
    """Draws parsed crops with the window scores of the species that each was cut for.

    Args:
        crops: from `parse_crop`.
        detect: spectrograms [batch, frames, bands] -> a dict with `logits` [batch, windows,
            classes].
        config: the recipe.
        classes: the species, in the order of the logits.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    from rfcx_tf.frontend.frontend import mel_band_centres_hz

    columns = 4
    rows = -(-len(crops) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    species = [c.species_id for c in classes]
    outputs = detect(np.stack([c["spectrogram"] for c in crops]))
    logits = np.asarray(outputs["logits"])
    scores = expit(logits.astype(np.float64))
    band_hz = mel_band_centres_hz(config.frontend)
    frame_s, half_window_s = config.frontend.frame_s, config.window_cells * config.cell_s / 2
    for axis, crop, window_scores in zip(axes, crops, scores, strict=False):
        # The last channel: with `pcen_log`, log-mel, which shows what PCEN would hide.
        image = crop["spectrogram"].numpy().reshape(-1, len(band_hz), config.frontend.channels)
        spectrogram = image[:, :, -1]
        begin_s = float(crop["start_frame"]) * frame_s
        end_s = begin_s + len(spectrogram) * frame_s
        bands = len(band_hz)
        if config.frontend.compression == "pcen":
            spectrogram = np.log1p(spectrogram)
        present = crop["kind"].numpy() == b"tp"
        t_min, t_max, f_min, f_max = crop["box"].numpy()
        low, high = np.interp([f_min, f_max], band_hz, np.arange(bands))
        draw_spectrogram(
            axis,
            spectrogram.T,
            (begin_s, end_s, -0.5, bands - 0.5),
            (t_min, t_max, low, high),
            _PRESENT if present else _ABSENT,
        )
        index = species.index(int(crop["species_id"]))
        centres_s = begin_s + half_window_s + np.arange(len(window_scores)) * config.cell_s
        twin = axis.twinx()
        twin.plot(centres_s, window_scores[:, index], color=_SCORE, linewidth=2)
        twin.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        ticks = np.linspace(0, bands - 1, 5).astype(int)
        axis.set_yticks(ticks, [f"{hz / 1000:.1f}" for hz in band_hz[ticks]])
        axis.set_xlim(begin_s, end_s)
        verdict = "present" if present else "absent"
        axis.set_title(f"{classes[index].name}: {verdict}", fontsize=9)
    for axis in axes[len(crops) :]:
        axis.set_axis_off()
    figure.supxlabel("seconds in the recording; line: window score of the named species")
    figure.supylabel("kHz")
    return figure_png(figure)
