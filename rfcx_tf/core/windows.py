"""Where the windows of a detector lie: the one convention of labels, events and ensembles.

Backbone cell i stands for the frames around i * stride, and window i of the head spans the cells
i to i + window_cells - 1. A crop is labelled by what lies in the part of it that its windows cover
(`crop_spans`), so that part says as well where in the sound a window is (`window_centres_s`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass


def class_window_cells(
    config: Config, classes: Sequence[SpeciesClass], mean_box_s: Mapping[int, float]
) -> list[int]:
    """Backbone cells that every class pools over in a `per_class` head.

    The class's mean TP box, rounded up to whole cells, at most a whole window; a whole window
    for classes without a TP box.
    """

    def cells(species: SpeciesClass) -> int:
        mean_s = mean_box_s.get(species.species_id)
        if mean_s is None:
            return config.window_cells
        return min(config.window_cells, max(1, math.ceil(mean_s / config.cell_s)))

    return [cells(species) for species in classes]


def crop_spans(
    config: Config, classes: Sequence[SpeciesClass], mean_box_s: Mapping[int, float]
) -> np.ndarray:
    """The part of a training crop that the windows of every class cover.

    All of it with a `shared` head. With a `per_class` one, what the class's own cells of the
    first to the last window stand for; `PerClassWindowPooling` takes those in a window's middle.

    Returns:
        float32 [classes, 2], begin and end in frames of the crop.
    """
    if config.model.head.kind == "shared":
        return np.tile(np.float32([0, config.crop_frames]), (len(classes), 1))
    stride = config.model.backbone.stride[0]
    own = np.array(class_window_cells(config, classes, mean_box_s))
    first = (config.window_cells - own) // 2
    last = first + own - 1 + crop_windows(config) - 1
    spans = np.stack([(first - 0.5) * stride, (last + 0.5) * stride], axis=1)
    return np.clip(spans, 0, config.crop_frames).astype(np.float32)


def crop_windows(config: Config) -> int:
    """Windows of a training crop."""
    return math.ceil(config.crop_frames / config.model.backbone.stride[0]) - config.window_cells + 1


def window_centres_s(
    config: Config, classes: Sequence[SpeciesClass], mean_box_s: Mapping[int, float]
) -> list[float]:
    """Seconds from the beginning of a window (i * cell_s) to its centre, for every class.

    The windows of a crop follow each other by one stride, so the centre of the first is that of
    the crop's span less half of the way to the last.
    """
    stride = config.model.backbone.stride[0]
    centres = crop_spans(config, classes, mean_box_s).astype(np.float64).mean(axis=1)
    centres -= (crop_windows(config) - 1) * stride / 2
    return [float(centre * config.frontend.frame_s) for centre in centres]


def lies_inside(cell, begin, end):
    """Whether a cell's middle lies in a box, or the box, shorter than a cell, lies around it.

    Cell i stands for the frames around i * stride. All in cells: tensors or arrays.
    """
    distance = abs(cell - (begin + end) / 2)
    return (distance <= (end - begin) / 2) | (distance <= 0.5)


def at_times(own_s: np.ndarray, values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Values of windows at other times, linear in between.

    Members of an ensemble, and teachers and the network that they teach, may have windows of
    different length and distance.

    Args:
        own_s: centres of the given windows [given, classes], ascending.
        values: [given, classes].
        times_s: [times, classes], or [times] for all classes.

    Returns:
        float32 [times, classes]; beyond the first and last window their values.
    """
    times_s = np.broadcast_to(
        np.asarray(times_s).reshape(len(times_s), -1), (len(times_s), values.shape[1])
    )
    columns = [np.interp(t, x, y) for t, x, y in zip(times_s.T, own_s.T, values.T, strict=True)]
    return np.stack(columns, axis=1).astype(np.float32)
