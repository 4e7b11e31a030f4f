"""A TFLite file's graph as TensorFlow operations, so that it can be part of a SavedModel.

No TensorFlow operation runs a TFLite file. So the operators from the waveform to one tensor are
translated one by one; the tables below have those of float networks such as BirdNET's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as tflite_schema

from rfcx_tf.core.errors import UserError

# Larger tensors become variables: a function that is traced twice would hold constants twice.
_LARGEST_CONSTANT = 1024
_DTYPES = {
    tflite_schema.TensorType.FLOAT32: tf.float32,
    tflite_schema.TensorType.INT32: tf.int32,
    tflite_schema.TensorType.INT64: tf.int64,
    tflite_schema.TensorType.BOOL: tf.bool,
    tflite_schema.TensorType.COMPLEX64: tf.complex64,
}
_ACTIVATIONS = {
    tflite_schema.ActivationFunctionType.NONE: tf.identity,
    tflite_schema.ActivationFunctionType.RELU: tf.nn.relu,
    tflite_schema.ActivationFunctionType.RELU6: tf.nn.relu6,
    tflite_schema.ActivationFunctionType.TANH: tf.tanh,
}
_NAMES = {
    value: name for name, value in vars(tflite_schema.BuiltinOperator).items() if name.isupper()
}


class TfliteGraph(tf.Module):
    """The part of a TFLite file's graph that one tensor depends on, as a function.

    Attributes:
        weights: its variables.
    """

    def __init__(self, path: Path, output: int):
        """Reads the weights.

        Args:
            path: of a TFLite file with one input, whose graph holds for any number of windows.
            output: number of the tensor that is wanted.

        Raises:
            UserError: if the tensor depends on an operator or a kind of number that is not in the
                tables.
        """
        super().__init__(name="tflite_graph")
        model = tflite_schema.ModelT.InitFromPackedBuf(path.read_bytes())
        graph = model.subgraphs[0]
        self._tensors, self._input, self._output = graph.tensors, int(graph.inputs[0]), output
        codes = [_NAMES[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
        self._steps = [
            (codes[operator.opcodeIndex], operator) for operator in _needed(graph, output)
        ]
        used = {int(i) for _, step in self._steps for i in (*step.inputs, *step.outputs) if i >= 0}
        unknown = {code for code, _ in self._steps if code not in _OPERATORS}
        kinds = {graph.tensors[i].type for i in used} - _DTYPES.keys()
        if unknown or kinds:
            named = {v: k for k, v in vars(tflite_schema.TensorType).items()}
            found = sorted(unknown) + sorted(f"tensors of {named[kind]}" for kind in kinds)
            raise UserError(
                "A TFLite model can be exported if its graph is of float32 and of the operators in "
                f"rfcx_tf/model/tflite_graph.py. {path} has {', '.join(found)}. Name its "
                "SavedModel, or distil the listener with rfcx-tf pseudo-label."
            )
        self._constants = {
            i: _constant(graph.tensors[i], model.buffers[graph.tensors[i].buffer])
            for i in used
            if model.buffers[graph.tensors[i].buffer].data is not None
        }
        self.weights = [v for v in self._constants.values() if isinstance(v, tf.Variable)]

    def __call__(self, windows):
        """float32 [windows, samples] -> the tensor, [windows, ...]."""
        values = {self._input: windows, **self._constants}
        for code, step in self._steps:
            inputs = [values[int(i)] for i in step.inputs if i >= 0]
            results = _OPERATORS[code](step.builtinOptions, *inputs)
            results = results if isinstance(results, list) else [results]
            for number, result in zip(step.outputs, results, strict=True):
                tensor = self._tensors[int(number)]
                if tensor.shapeSignature is not None:
                    shape = [None if n < 0 else int(n) for n in tensor.shapeSignature]
                    result = tf.ensure_shape(result, shape)
                values[int(number)] = result
        return values[self._output]


def _needed(graph: tflite_schema.SubGraphT, output: int) -> list[tflite_schema.OperatorT]:
    """The operators that a tensor depends on, in their order."""
    wanted, needed = {output}, []
    for operator in reversed(graph.operators):
        if wanted & {int(i) for i in operator.outputs}:
            needed.append(operator)
            wanted |= {int(i) for i in operator.inputs}
    return needed[::-1]


def _constant(tensor: tflite_schema.TensorT, buffer: tflite_schema.BufferT):
    shape = [] if tensor.shape is None else [int(n) for n in tensor.shape]
    dtype = _DTYPES[tensor.type]
    value = np.frombuffer(bytes(buffer.data), dtype.as_numpy_dtype).reshape(shape)
    if value.size <= _LARGEST_CONSTANT:
        return tf.constant(value)
    return tf.Variable(value, trainable=False, name="weights")


def _activated(function: Callable) -> Callable:
    """An operator of two tensors with an activation behind it."""
    return lambda options, a, b: _ACTIVATIONS[options.fusedActivationFunction](function(a, b))


def _padding(options) -> str:
    return "SAME" if options.padding == tflite_schema.Padding.SAME else "VALID"


def _convolution(options, x, kernel, bias=None):
    """The kernel is [filters, height, width, channels]."""
    y = tf.nn.conv2d(
        x,
        tf.transpose(kernel, [1, 2, 3, 0]),
        [options.strideH, options.strideW],
        _padding(options),
        dilations=[options.dilationHFactor, options.dilationWFactor],
    )
    return _biased(options, y, bias)


def _depthwise_convolution(options, x, kernel, bias=None):
    """The kernel is [1, height, width, channels * multiplier]."""
    _, height, width, filters = kernel.shape
    multiplier = options.depthMultiplier or 1
    y = tf.nn.depthwise_conv2d(
        x,
        tf.reshape(kernel, [height, width, filters // multiplier, multiplier]),
        [1, options.strideH, options.strideW, 1],
        _padding(options),
        dilations=[options.dilationHFactor, options.dilationWFactor],
    )
    return _biased(options, y, bias)


def _fully_connected(options, x, kernel, bias=None):
    """The kernel is [filters, channels]."""
    if not options.keepNumDims:
        x = tf.reshape(x, [-1, kernel.shape[1]])
    return _biased(options, tf.tensordot(x, kernel, [[-1], [1]]), bias)


def _biased(options, y, bias):
    return _ACTIVATIONS[options.fusedActivationFunction](y if bias is None else y + bias)


def _pool(function: Callable) -> Callable:
    def pool(options, x):
        window = [options.filterHeight, options.filterWidth]
        y = function(x, window, [options.strideH, options.strideW], _padding(options))
        return _ACTIVATIONS[options.fusedActivationFunction](y)

    return pool


def _reduced(function: Callable) -> Callable:
    return lambda options, x, axis: function(x, axis, keepdims=bool(options.keepDims))


def _strided_slice(options, x, begin, end, strides):
    return tf.strided_slice(
        x,
        begin,
        end,
        strides,
        options.beginMask,
        options.endMask,
        options.ellipsisMask,
        options.newAxisMask,
        options.shrinkAxisMask,
    )


def _concatenation(options, *values):
    return _ACTIVATIONS[options.fusedActivationFunction](tf.concat(values, options.axis))


def _squeeze(options, x):
    axes = None if options.squeezeDims is None else [int(axis) for axis in options.squeezeDims]
    return tf.squeeze(x, axes)


def _cast(options, x):
    # Of complex numbers the real part, as TFLite does.
    to = tf.float32 if options is None else _DTYPES[options.outDataType]
    return tf.math.real(x) if x.dtype.is_complex and not to.is_complex else tf.cast(x, to)


# Options and inputs of an operator -> its result, or a list of results.
_OPERATORS: dict[str, Callable] = {
    "ADD": _activated(tf.add),
    "AVERAGE_POOL_2D": _pool(tf.nn.avg_pool2d),
    "CAST": _cast,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise_convolution,
    "DIV": _activated(tf.divide),
    "EXPAND_DIMS": lambda options, x, axis: tf.expand_dims(x, axis),
    "FLOOR_DIV": lambda options, a, b: a // b,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": lambda options, x, i: tf.gather(
        x, i, axis=options.axis, batch_dims=options.batchDims
    ),
    "LOG": lambda options, x: tf.math.log(x),
    "LOGISTIC": lambda options, x: tf.sigmoid(x),
    "MAXIMUM": lambda options, a, b: tf.maximum(a, b),
    "MAX_POOL_2D": _pool(tf.nn.max_pool2d),
    "MEAN": _reduced(tf.reduce_mean),
    "MUL": _activated(tf.multiply),
    "PACK": lambda options, *values: tf.stack(values, options.axis),
    "PAD": lambda options, x, paddings: tf.pad(x, paddings),
    "POW": lambda options, a, b: a**b,
    "RANGE": lambda options, start, limit, step: tf.range(start, limit, step),
    "REDUCE_MAX": _reduced(tf.reduce_max),
    "REDUCE_MIN": _reduced(tf.reduce_min),
    "REDUCE_PROD": _reduced(tf.reduce_prod),
    "RELU": lambda options, x: tf.nn.relu(x),
    "RESHAPE": lambda options, x, shape: tf.reshape(x, shape),
    "REVERSE_V2": lambda options, x, axis: tf.reverse(x, axis),
    "RFFT2D": lambda options, x, lengths: tf.signal.rfft2d(x, lengths),
    "SHAPE": lambda options, x: tf.shape(x, _DTYPES[options.outType]),
    "SPLIT_V": lambda options, x, sizes, axis: tf.split(x, sizes, axis, num=options.numSplits),
    "SQUARE": lambda options, x: tf.square(x),
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _activated(tf.subtract),
    "TRANSPOSE": lambda options, x, order: tf.transpose(x, order),
}
