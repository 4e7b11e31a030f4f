"""The detector: spectrogram [batch, frames, bands] -> window logits [batch, windows, classes]."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import layers

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import class_window_cells
from rfcx_tf.model.backbones import build_backbone
from rfcx_tf.model.extents import cell_boxes
from rfcx_tf.model.head import (
    FrequencyCoordinate,
    FrequencyPooling,
    PerClassWindowPooling,
    WindowPooling,
)
from rfcx_tf.model.normalization import BatchNormalization


def build_detector(
    config: Config,
    classes: list[SpeciesClass],
    mean_box_s: dict[int, float],
    *,
    box_hz: Mapping[int, tuple[float, float]] | None = None,
    boxes: bool = True,
    synchronized: bool = False,
) -> keras.Model:
    """Backbone and sliding-window head.

    It is fully convolutional in time: the windows of a whole recording are those of its crops,
    as far as the zero padding at a crop's borders is out of sight.

    Args:
        config: front end (mel bands and their channels), crops and model sections are used.
        classes: the species, in the order of the outputs.
        mean_box_s: mean TP box length by species id, for the `per_class` head and for boxes.
        box_hz: usual band of TP boxes by species id, for boxes.
        boxes: whether it says where a call lies; networks of earlier versions do not.
        synchronized: batch statistics over all replicas.

    Returns:
        A model [batch, frames, bands] -> a dict: `logits`, float32 [batch, windows, classes] with
        windows = ceil(frames / stride) - window_cells + 1; window i begins i * cell_s seconds
        into the sound; and `boxes`, float32 [batch, cells, classes, 5], see
        `rfcx_tf.model.extents`. The layer `cells` gives the features [batch, cells, D].
    """
    frontend, head = config.frontend, config.model.head
    mels, channels = frontend.n_mels, frontend.channels
    spectrogram = keras.Input((None, frontend.bands), name="spectrogram")
    # In float32: log-mel values of about 20 would lose a decibel in bfloat16.
    image = layers.Reshape((-1, mels, channels), dtype="float32", name="image")(spectrogram)
    # Brings any front end to zero mean and unit variance, learned from the data. Nothing to
    # train: the stem can scale by itself, and so needs no gradient of its input.
    image = BatchNormalization(
        momentum=0.9,
        epsilon=1e-5,
        center=False,
        scale=False,
        synchronized=synchronized,
        dtype="float32",
        name="input_bn",
    )(image)
    if config.model.frequency_coordinate:
        image = FrequencyCoordinate(name="frequency_coordinate")(image)
    backbone = build_backbone(
        config.model.backbone,
        mels,
        image.shape[-1],
        window_frames=config.window_cells * config.model.backbone.stride[0],
        synchronized=synchronized,
    )
    all_bands = backbone(image)
    features = FrequencyPooling(head.frequency_pooling, name="cells")(all_bands)
    if head.kind == "shared":
        features = WindowPooling(config.window_cells, head.time_pooling, name="windows")(features)
    x = layers.Dropout(head.dropout, name="dropout")(features)
    if head.hidden:
        x = layers.Dense(head.hidden, activation="relu", name="hidden")(x)
        x = layers.Dropout(head.dropout, name="hidden_dropout")(x)
    logits = layers.Dense(
        len(classes),
        # Few classes sound in a window, so the scores begin low.
        bias_initializer=keras.initializers.Constant(-2.0),
        dtype="float32",
        name="logits",
    )(x)
    if head.kind == "per_class":
        cells = class_window_cells(config, classes, mean_box_s)
        logits = PerClassWindowPooling(
            config.window_cells, cells, head.time_pooling, dtype="float32", name="windows"
        )(logits)
    outputs = {"logits": logits}
    if boxes:
        # Last, so that the layers before begin with the random numbers that they have without.
        outputs["boxes"] = cell_boxes(all_bands, config, classes, mean_box_s, box_hz or {})
    return keras.Model(spectrogram, outputs, name="detector")
