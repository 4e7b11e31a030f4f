"""One version of a model: a SavedModel folder -> its signatures, to be called with arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from rfcx_tf.serving.server.json_tensors import MAX_PARTS, MAX_VALUES, TensorSpec
from rfcx_tf.serving.server.status import ServingError, invalid_argument
from rfcx_tf.serving.warmup import WARMUP_FILE

# TensorFlow Serving reads no more of them either.
_MAX_WARM_UP = 1000


class ServedModel:
    """A SavedModel in memory.

    Attributes:
        version: the number that its folder is called by.
        signature_defs: what the SavedModel says of its signatures, by name.
        inputs: of every signature that can be called, by name.
        alone: what batching has learned of outputs (see `batching.run_batch`).
    """

    def __init__(self, folder: Path, version: int):
        """Loads the folder; some Exception if it is no whole SavedModel with signatures."""
        self.version = version
        self.alone: OrderedDict = OrderedDict()
        saved_model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.signature_defs: dict[str, SignatureDef] = {}
        for graph in saved_model.meta_graphs:
            if "serve" in graph.meta_info_def.tags:
                self.signature_defs = dict(graph.signature_def)
        # The signatures need the object that they belong to: it holds the variables.
        self._loaded = tf.saved_model.load(str(folder), tags=["serve"])
        self._signatures = dict(self._loaded.signatures)
        if not self._signatures:
            raise ValueError("the SavedModel has no signatures")
        self.inputs = {name: _specs(self.signature_defs[name].inputs) for name in self._signatures}

    def check_inputs(self, signature: str, inputs: dict[str, np.ndarray]) -> None:
        """Finds out before the model runs whether it can take these arrays.

        Raises:
            ServingError: INVALID_ARGUMENT for missing or other inputs, another type or shape, or
                numbers that are not finite: a score of NaN would pass for an answer.
        """
        specs = self.inputs[signature]
        self.check_names(signature, inputs)
        for name, spec in specs.items():
            array = inputs[name]
            if array.dtype != spec.dtype:
                raise _other_type(name, spec, _type_name(array.dtype))
            _check_shape(name, array.shape, spec.shape)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise invalid_argument(f"Input {name} must be finite. It holds NaN or infinity.")

    def check_names(self, signature: str, inputs: Collection[str]) -> None:
        """ServingError INVALID_ARGUMENT for missing or other inputs."""
        specs = self.inputs[signature]
        if set(inputs) != specs.keys():
            extra, missing = sorted(set(inputs) - specs.keys()), sorted(specs.keys() - set(inputs))
            raise invalid_argument(
                f"input size does not match signature: {len(inputs)}!={len(specs)}. "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature with arrays that `check_inputs` has passed; outputs in name order.

        It raises what the model raises, a `tf.errors.OpError`.
        """
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        outputs = self._signatures[signature](**tensors)
        # A single string comes as bytes, which NumPy would take for an array of characters.
        return {
            name: np.asarray(value.numpy(), value.dtype.as_numpy_dtype)
            for name, value in sorted(outputs.items())
        }

    def warm_up(self, folder: Path) -> int:
        """Runs the warm-up requests in the folder and returns how many there are.

        It raises what the first one raises that fails: such a model is not fit to serve.
        """
        path = folder / WARMUP_FILE
        if not path.exists():
            return 0
        number = 0
        for record in tf.data.TFRecordDataset(str(path)).take(_MAX_WARM_UP):
            log = PredictionLog.FromString(record.numpy())
            if log.HasField("predict_log"):
                signature, inputs, _ = read_request(self, log.predict_log.request)
                self.run(signature, inputs)
                number += 1
        return number


def read_request(
    model: ServedModel, request: PredictRequest
) -> tuple[str, dict[str, np.ndarray], list[str]]:
    """The signature, inputs and output filter of a gRPC request, checked.

    Raises:
        ServingError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs or
            outputs that are not the signature's.
    """
    signature = request.model_spec.signature_name or "serving_default"
    if signature not in model.inputs:
        raise ServingError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{signature}" not found. '
            f"The model has {', '.join(sorted(model.inputs))}.",
        )
    model.check_names(signature, request.inputs)
    specs = model.inputs[signature]
    inputs = {name: _array(name, request.inputs[name], spec) for name, spec in specs.items()}
    model.check_inputs(signature, inputs)
    outputs, names = model.signature_defs[signature].outputs, list(request.output_filter)
    for number, name in enumerate(names):
        if name not in outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {{{','.join(sorted(outputs))}}}."
            )
        if name in names[:number]:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
    return signature, inputs, names


def _array(name: str, tensor: TensorProto, spec: TensorSpec) -> np.ndarray:
    # Before its values are read: TensorFlow knows types that NumPy does not, and fills a tensor of
    # one value up to the size that it claims.
    if tensor.dtype != tf.dtypes.as_dtype(spec.dtype).as_datatype_enum:
        kind = DataType.DESCRIPTOR.values_by_number.get(tensor.dtype)
        raise _other_type(name, spec, kind.name if kind else f"type {tensor.dtype}")
    _check_shape(name, _shape_of(tensor), spec.shape)
    # A tensor may hold one value for all.
    most = MAX_PARTS if spec.dtype == object else max(MAX_VALUES, tensor.ByteSize())
    try:
        if min(_shape_of(tensor), default=0) < 0 or claimed_values(tensor) > most:
            raise ValueError("its shape asks for more values than it holds")
        return np.asarray(tf.make_ndarray(tensor))
    except (ValueError, TypeError) as error:
        raise invalid_argument(f"Input {name} is not a whole tensor: {error}.") from None


def claimed_values(tensor: TensorProto) -> float:
    """How many values a tensor's shape asks for."""
    return float(np.prod(_shape_of(tensor), dtype=float))


def _shape_of(tensor: TensorProto) -> tuple[int, ...]:
    return tuple(dim.size for dim in tensor.tensor_shape.dim)


def _specs(tensors) -> dict[str, TensorSpec]:
    specs = {}
    for name, info in tensors.items():
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = tuple(d.size if d.size >= 0 else None for d in info.tensor_shape.dim)
        specs[name] = TensorSpec(np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype), shape)
    return specs


def _check_shape(name: str, shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> None:
    if wanted is None:
        return
    pairs = zip(wanted, shape, strict=False)
    if len(shape) != len(wanted) or any(size not in (None, found) for size, found in pairs):
        raise invalid_argument(
            f"Input {name} must be of shape {_shape_text(wanted)}, rank {len(wanted)}. "
            f"Received: {_shape_text(shape)}, rank {len(shape)}."
        )


def _shape_text(shape) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"


def _other_type(name: str, spec: TensorSpec, found: str) -> ServingError:
    return invalid_argument(
        f"Input {name} must be of type {_type_name(spec.dtype)}. Received: {found}."
    )


def _type_name(dtype: np.dtype) -> str:
    return "string" if dtype.kind == "O" else str(dtype)
