"""The sliding-window classifier's parts: cells [batch, cells, D] -> windows [batch, windows, ...].

A window is a run of neighbouring backbone cells; window i begins at cell i. Pooling over a
window is a pooling of stride 1, so a recording of any length is classified in one pass, and
a crop of one window's length gives one window.
"""

from __future__ import annotations

import keras
from keras import layers, ops


def largest(values, axis: int):
    """`ops.max`, with a gradient that survives XLA.

    The gradient goes to the values that equal the maximum. Compiling a whole step of JAX, XLA may
    compute values a second time for that, rounded otherwise, and then finds none that do: in a
    small ResNet the gradient of a kernel came out as a quarter of what it is. So it has to finish
    them before.
    """
    if keras.backend.backend() == "jax":
        import jax

        values = jax.lax.optimization_barrier(values)
    return ops.max(values, axis=axis)


def pool_time(cells, window_cells: int, kind: str):
    """Pools every window: [batch, cells, D] -> [batch, cells - window_cells + 1, D or 2 D].

    Args:
        cells: a tensor of any Keras backend, or a symbolic one.
        window_cells: cells in a window.
        kind: `mean`, `max`, or `mean_max` for both side by side.
    """
    pooled = []
    if kind in ("mean", "mean_max"):
        pooled.append(ops.average_pool(cells, window_cells, strides=1, padding="valid"))
    if kind in ("max", "mean_max"):
        pooled.append(ops.max_pool(cells, window_cells, strides=1, padding="valid"))
    return ops.concatenate(pooled, axis=-1) if len(pooled) > 1 else pooled[0]


@keras.saving.register_keras_serializable("rfcx_tf")
class FrequencyPooling(layers.Layer):
    """Collapses the mel direction: [batch, cells, bands, D] -> [batch, cells, D or 2 D].

    Args:
        kind: `mean`, `max`, or `mean_max` for both side by side.
    """

    def __init__(self, kind: str, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, features):
        pooled = []
        if self.kind in ("mean", "mean_max"):
            pooled.append(ops.mean(features, axis=2))
        if self.kind in ("max", "mean_max"):
            pooled.append(largest(features, axis=2))
        return ops.concatenate(pooled, axis=-1) if len(pooled) > 1 else pooled[0]

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable("rfcx_tf")
class WindowPooling(layers.Layer):
    """One window length for all classes: [batch, cells, D] -> [batch, windows, D or 2 D].

    Args:
        window_cells: cells in a window.
        kind: `mean`, `max`, or `mean_max`.
    """

    def __init__(self, window_cells: int, kind: str, **kwargs):
        super().__init__(**kwargs)
        self.window_cells = window_cells
        self.kind = kind

    def call(self, cells):
        return pool_time(cells, self.window_cells, self.kind)

    def get_config(self):
        return {**super().get_config(), "window_cells": self.window_cells, "kind": self.kind}


@keras.saving.register_keras_serializable("rfcx_tf")
class PerClassWindowPooling(layers.Layer):
    """A window length for every class: logits of cells -> logits of windows.

    Input and output are [batch, cells, classes] and [batch, windows, classes]. Window i spans
    cells i to i + window_cells - 1; class c pools over the `class_cells[c]` cells in its
    middle, so all classes share one grid of windows.

    Args:
        window_cells: cells in a window.
        class_cells: cells of every class, from 1 to window_cells.
        kind: `mean`, `max`, or `mean_max` for the mean of both.
    """

    def __init__(self, window_cells: int, class_cells: list[int], kind: str, **kwargs):
        super().__init__(**kwargs)
        if not all(1 <= cells <= window_cells for cells in class_cells):
            raise ValueError(
                f"class_cells must lie between 1 and window_cells ({window_cells}). "
                f"Received: {class_cells}."
            )
        self.window_cells = window_cells
        self.class_cells = list(class_cells)
        self.kind = kind
        # Classes of one length are pooled together, then put back in order.
        self._lengths = sorted(set(self.class_cells))
        grouped = [c for n in self._lengths for c in self._classes_of(n)]
        self._order = [grouped.index(c) for c in range(len(grouped))]

    def _classes_of(self, length: int) -> list[int]:
        return [c for c, cells in enumerate(self.class_cells) if cells == length]

    def call(self, cell_logits):
        windows = ops.shape(cell_logits)[1] - self.window_cells + 1
        pooled = []
        for length in self._lengths:
            begin = (self.window_cells - length) // 2
            own = ops.take(cell_logits, self._classes_of(length), axis=-1)
            own = own[:, begin : begin + windows + length - 1]
            if self.kind == "mean_max":
                both = pool_time(own, length, "mean") + pool_time(own, length, "max")
                pooled.append(both / 2.0)
            else:
                pooled.append(pool_time(own, length, self.kind))
        return ops.take(ops.concatenate(pooled, axis=-1), self._order, axis=-1)

    def compute_output_shape(self, input_shape):
        batch, cells, classes = input_shape
        windows = None if cells is None else cells - self.window_cells + 1
        return (batch, windows, classes)

    def get_config(self):
        return {
            **super().get_config(),
            "window_cells": self.window_cells,
            "class_cells": self.class_cells,
            "kind": self.kind,
        }


@keras.saving.register_keras_serializable("rfcx_tf")
class FrequencyCoordinate(layers.Layer):
    """Adds a channel with the position on the mel axis, 0 to 1.

    [batch, frames, mels, channels] -> [batch, frames, mels, channels + 1]. A convolution does
    not know where it stands; the same whistle an octave higher is another species.
    """

    def call(self, image):
        mels = image.shape[2]
        position = ops.reshape(ops.linspace(0.0, 1.0, mels), (1, 1, mels, 1))
        column = ops.cast(position, image.dtype) + ops.zeros_like(image[..., :1])
        return ops.concatenate([image, column], axis=-1)
