"""Where in time and frequency a call lies: a box of every class for every cell, then every window.

As detectors without anchors do (FCOS: Tian et al. 2019), every cell says of every class whether it
lies inside a call, and how far away the four sides of that call's box are. Boxes of TP rows teach
it, at the cells inside them; a cell in no box says nothing about sides. The backbone learns nothing
from this: its features are those that tell species apart, so scores are what they are without.

A *box* is begin, end, low, high. A network gives begin and end in cells from the beginning of the
sound, low and high as positions on the mel axis (`mel_position`); windows have boxes in seconds
from the beginning of the window, and in Hz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from rfcx_tf.core.config import Config, FrontEndConfig
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import lies_inside
from rfcx_tf.frontend.frontend import mel_frequency_hz, mel_position

# Of a network's layers for boxes: units of every band of a cell, then of a cell.
_BAND_UNITS, _CELL_UNITS = 32, 128
# Sides are at most exp(3) times as far away as those of the class's usual box.
_LARGEST_LOG = 3.0
# Mel bands that a box's middle moves by for an output of one.
_BANDS_PER_UNIT = 8.0
# For every second that a cell is away from a window's middle, it counts as so much less sure.
_LOGITS_PER_S = 1.0


def cell_boxes(
    features,
    config: Config,
    classes: Sequence[SpeciesClass],
    mean_box_s: Mapping[int, float],
    box_hz: Mapping[int, tuple[float, float]],
):
    """The layers that find boxes: features [batch, cells, bands, D] -> [batch, cells, classes, 5].

    Args:
        features: of the backbone.
        config: the recipe.
        classes: the species.
        mean_box_s, box_hz: by species id, what the boxes of a new network are: as long as the mean
            box, at its usual band; half a window, and all bands, where they are not known.
    """
    window_s = config.window_cells * config.cell_s
    all_hz = (config.frontend.f_min_hz, config.frontend.sample_rate_hz / 2)
    lengths = [mean_box_s.get(c.species_id, window_s / 2) / config.cell_s for c in classes]
    usual_hz = np.array([box_hz.get(c.species_id, all_hz) for c in classes], np.float32)
    bands = ops.convert_to_numpy(mel_position(config.frontend, usual_hz))
    x = StopGradient(name="box_features")(features)
    x = layers.Dense(_BAND_UNITS, activation="relu", name="box_bands")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="box_all_bands")(x)
    x = layers.Conv1D(_CELL_UNITS, 3, padding="same", activation="relu", name="box_cells")(x)
    x = layers.Dense(5 * len(classes), dtype="float32", name="box_sides")(x)
    return BoxSides(lengths, bands.tolist(), dtype="float32", name="boxes")(x)


@keras.saving.register_keras_serializable("rfcx_tf")
class StopGradient(layers.Layer):
    """Its input, which learns nothing from what comes after."""

    def call(self, inputs):
        return ops.stop_gradient(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("rfcx_tf")
class BoxSides(layers.Layer):
    """Numbers of cells -> boxes: [batch, cells, 5 * classes] -> [batch, cells, classes, 5].

    The five are the logit of lying inside a call, and the call's box. All numbers 0 give a box of
    the class's usual length and band, with the cell in its middle.

    Args:
        lengths: of the usual box of every class, in cells.
        bands: lowest and highest position of the usual box of every class on the mel axis.
    """

    def __init__(self, lengths: Sequence[float], bands: Sequence[Sequence[float]], **kwargs):
        super().__init__(**kwargs)
        self.lengths = [float(length) for length in lengths]
        self.bands = [[float(low), float(high)] for low, high in bands]

    def call(self, numbers):
        shape = ops.shape(numbers)
        numbers = ops.reshape(numbers, (shape[0], shape[1], len(self.lengths), 5))
        inside, before, after, shift, width = (numbers[..., n] for n in range(5))
        low, high = np.array(self.bands, np.float32).T
        # A call is not shorter than a cell tells, nor a band narrower than the mel axis.
        half = np.maximum(np.array(self.lengths, np.float32), 1.0) / 2.0
        reach = np.maximum(high - low, 1.0) / 2.0 * _scale(width)
        middle = (low + high) / 2.0 + _BANDS_PER_UNIT * shift
        cell = ops.reshape(ops.arange(shape[1], dtype="float32"), (1, -1, 1))
        box = (cell - half * _scale(before), cell + half * _scale(after))
        return ops.stack([inside, *box, middle - reach, middle + reach], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], len(self.lengths), 5)

    def get_config(self):
        return {**super().get_config(), "lengths": self.lengths, "bands": self.bands}


def _scale(number):
    return ops.exp(ops.clip(number, -_LARGEST_LOG, _LARGEST_LOG))


def window_boxes(boxes, window_cells: int, cell_s: float, frontend: FrontEndConfig):
    """For every window the box of the call that is nearest to its middle.

    It is that of the cell that lies most surely inside a call, where a cell further from the
    window's middle has to be surer. It says nothing about whether there is a call: scores do.

    Args:
        boxes: [batch, cells, classes, 5], of a network.
        window_cells: cells in a window.
        cell_s: seconds from one cell to the next.
        frontend: what made the spectrogram.

    Returns:
        float32 [batch, cells - window_cells + 1, classes, 4]: begin and end in seconds from the
        beginning of the window, low and high in Hz.
    """
    windows = ops.shape(boxes)[1] - window_cells + 1
    middle = (window_cells - 1) / 2
    surest = chosen = None
    for number in sorted(range(window_cells), key=lambda n: (abs(n - middle), n)):
        own = boxes[:, number : number + windows]
        sure = own[..., :1] - _LOGITS_PER_S * cell_s * abs(number - middle)
        if surest is None:
            surest, chosen = sure, own[..., 1:]
        else:
            chosen = ops.where(sure > surest, own[..., 1:], chosen)
            surest = ops.maximum(sure, surest)
    first = ops.reshape(ops.arange(windows, dtype="float32"), (1, -1, 1, 1))
    seconds = (chosen[..., :2] - first) * cell_s
    # A box beyond the bands is the outermost one, never without height.
    bands = float(frontend.n_mels)
    low = ops.clip(chosen[..., 2:3], -1.0, bands - 1.0)
    high = ops.clip(chosen[..., 3:], 0.0, bands)
    hz = mel_frequency_hz(frontend, ops.concatenate([low, high], axis=-1))
    return ops.concatenate([seconds, hz], axis=-1)


@keras.saving.register_keras_serializable("rfcx_tf")
class BoxLoss(keras.losses.Loss):
    """What a network's boxes are wrong by, averaged over the batch.

    The binary cross-entropy of lying inside a call, over the cells of the classes that have a call
    in the crop, plus 1 - GIoU (Rezatofighi et al. 2019) in time and in frequency, over the cells
    inside a box. Sides beyond the crop count too: where a call began says where it ends.

    The labels are a dict of `boxes` [batch, boxes, 5], class index (-1: no box), begin and end in
    frames, low and high on the mel axis; and `inside` [batch, cells, classes], 1 where the middle
    of a cell lies in a call. Predictions are boxes [batch, cells, classes, 5] of a network.

    Args:
        cell_frames: frames of a cell.
    """

    def __init__(self, cell_frames: int, name: str = "box_loss"):
        super().__init__(name=name, reduction="sum_over_batch_size", dtype="float32")
        self.cell_frames = cell_frames

    def call(self, labels, boxes):
        logits, inside = boxes[..., 0], labels["inside"]
        is_there = ops.max(inside, axis=1, keepdims=True)
        cross_entropy = ops.maximum(logits, 0.0) - logits * inside
        cross_entropy = cross_entropy + ops.log1p(ops.exp(-ops.abs(logits)))
        cells = boxes.shape[1]
        total = ops.sum(is_there * cross_entropy, axis=(1, 2)) * (4.0 / cells)
        places = ops.reshape(ops.arange(cells, dtype="float32"), (1, -1))
        for number in range(labels["boxes"].shape[1]):
            own = labels["boxes"][:, number]
            is_class = ops.one_hot(ops.cast(own[:, 0], "int32"), boxes.shape[2])
            found = ops.einsum("nckv,nk->ncv", boxes[..., 1:], is_class)
            begin, end = own[:, 1:2] / self.cell_frames, own[:, 2:3] / self.cell_frames
            weight = ops.cast(lies_inside(places, begin, end) & (own[:, :1] >= 0), "float32")
            time = _interval_loss(found[..., 0], found[..., 1], begin, end)
            band = _interval_loss(found[..., 2], found[..., 3], own[:, 3:4], own[:, 4:5])
            count = ops.maximum(ops.sum(weight, axis=1), 1.0)
            total = total + ops.sum(weight * (time + band), axis=1) / count
        return total

    def get_config(self):
        return {"cell_frames": self.cell_frames, "name": self.name}


def _interval_loss(begin, end, true_begin, true_end):
    """1 - GIoU of two intervals."""
    shared = ops.maximum(0.0, ops.minimum(end, true_end) - ops.maximum(begin, true_begin))
    hull = ops.maximum(end, true_end) - ops.minimum(begin, true_begin)
    union = (end - begin) + (true_end - true_begin) - shared
    tiny = 1e-6
    return 1.0 - shared / ops.maximum(union, tiny) + (hull - union) / ops.maximum(hull, tiny)
