"""Whole strides in and cells out, for networks whose padding depends on their input's length."""

from __future__ import annotations

import keras
from keras import layers, ops

# How much later than frame i * 16 cell i stands after four layers of stride 2, padded as TensorFlow
# pads an even length: one frame less before than behind, 1 + 2 + 4 + 8 of the input's.
LATE_FRAMES = 15


@keras.saving.register_keras_serializable("rfcx_tf")
class WholeStrides(layers.Layer):
    """Zeros before and behind: [batch, frames, bands, channels], frames a multiple of the stride.

    Args:
        stride: total stride of the network behind it, in frames.
        before: frames of zeros before the first frame.
    """

    def __init__(self, stride: int, before: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride
        self.before = before

    def call(self, image):
        padded = ops.pad(image, [(0, 0), (self.before, self.stride - 1), (0, 0), (0, 0)])
        return padded[:, : ops.shape(padded)[1] // self.stride * self.stride]

    def compute_output_shape(self, input_shape):
        batch, frames, *others = input_shape
        if frames is not None:
            frames = (frames + self.before + self.stride - 1) // self.stride * self.stride
        return (batch, frames, *others)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "before": self.before}


@keras.saving.register_keras_serializable("rfcx_tf")
class CellsOfFrames(layers.Layer):
    """Leaves out cells of padding: [batch, cells or more, bands, D] -> [batch, cells, bands, D].

    Args:
        stride: of the cells, in frames of the image that is the second input.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs):
        cells, image = inputs
        return cells[:, : (ops.shape(image)[1] + self.stride - 1) // self.stride]

    def compute_output_shape(self, input_shape):
        (batch, _, *others), (_, frames, *_) = input_shape
        return (batch, None if frames is None else -(-frames // self.stride), *others)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
