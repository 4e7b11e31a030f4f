"""What an `EmbeddingModel` hears with: windows [windows, samples] -> embeddings [windows, size].

Each is called with arrays, and has `operations`, the same with tensors, for an export, which keeps
`state`.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rfcx_tf.core.config import ListenerConfig
from rfcx_tf.core.errors import UserError

if TYPE_CHECKING:
    # TensorFlow is imported where a model is opened: the networks beside this module run without.
    import tensorflow as tf

    from rfcx_tf.model.litert_interpreter import Interpreter

_SIGNATURE = "serving_default"


class TfliteNetwork:
    """Windows [windows, samples] -> embeddings, one at a time.

    A model like BirdNET's has no embedding among its outputs. To read one from inside, every
    tensor has to be kept, and then larger batches take gigabytes and no less time.
    """

    def __init__(self, path: Path, config: ListenerConfig):
        self._path = path
        self._threads = config.num_threads or os.cpu_count() or 1
        # An interpreter holds the tensors of one call.
        self._lock = threading.Lock()
        _check_whole(path)
        interpreter = self._open(keep_all=False)
        self._output, name = _find_tensor(interpreter, config.output, path)
        if self._output not in [d["index"] for d in interpreter.get_output_details()]:
            interpreter = self._open(keep_all=True)
        self._interpreter = interpreter
        self._embedding_name = name
        self._input = self._prepare_input(config)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        with self._lock:
            return np.concatenate([self._embed(window[None]) for window in windows])

    def operations(self, windows):
        """The same as TensorFlow operations.

        Raises:
            UserError: if the graph cannot be translated, see `TfliteGraph`.
        """
        return self._translated(windows)

    @property
    def state(self):
        """The translated graph's weights."""
        return self._graph.weights

    @functools.cached_property
    def _graph(self):
        from rfcx_tf.model.tflite_graph import TfliteGraph

        return TfliteGraph(self._path, self._output)

    @functools.cached_property
    def _translated(self):
        """One function, that several signatures of an export can call."""
        import tensorflow as tf

        graph, samples = self._graph, self._samples
        embed = _one_by_one(graph) if self._takes_one else graph
        return tf.function(embed, [tf.TensorSpec([None, samples], tf.float32)], autograph=False)

    def _open(self, keep_all: bool) -> Interpreter:
        from rfcx_tf.model.litert_interpreter import Interpreter

        try:
            return Interpreter(
                str(self._path),
                num_threads=self._threads,
                experimental_preserve_all_tensors=keep_all,
            )
        except (ValueError, RuntimeError) as error:
            raise _cannot_run(self._path, error) from None

    def _prepare_input(self, config: ListenerConfig) -> int:
        import tensorflow as tf

        inputs = self._interpreter.get_input_details()
        shape = tuple(int(n) for n in inputs[0]["shape_signature"])
        _check_input(
            self._path, len(inputs), tf.as_dtype(inputs[0]["dtype"]), shape, config.window_samples
        )
        self._takes_one, self._samples = shape[0] == 1, config.window_samples
        wanted = [1, config.window_samples]
        if list(inputs[0]["shape"]) != wanted:
            self._interpreter.resize_tensor_input(inputs[0]["index"], wanted)
        try:
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _cannot_run(self._path, error) from None
        return inputs[0]["index"]

    def _embed(self, window: np.ndarray) -> np.ndarray:
        try:
            self._interpreter.set_tensor(self._input, window)
            self._interpreter.invoke()
            embedding = self._interpreter.get_tensor(self._output)
        except (ValueError, RuntimeError) as error:
            raise _cannot_run(self._path, error) from None
        return _one_vector_each(embedding, 1, self._embedding_name, self._path)


def _check_whole(path: Path) -> None:
    """Refuses a file that was cut short: the interpreter would take the whole process down."""
    from tensorflow.lite.python import schema_py_generated as tflite_schema

    content = path.read_bytes()
    try:
        is_tflite = tflite_schema.Model.ModelBufferHasIdentifier(content, 0)
    except struct.error:
        is_tflite = False
    if not is_tflite:
        raise UserError(
            f"A listener's model is a TFLite file or the folder of a SavedModel. {path} is neither."
        )
    try:
        tflite_schema.ModelT.InitFromPackedBuf(content)
    except (struct.error, ValueError, IndexError, TypeError):
        raise UserError(
            f"A TFLite file must be whole. {path} is cut short or damaged. Copy it again."
        ) from None


def _find_tensor(interpreter: Interpreter, wanted: str, path: Path) -> tuple[int, str]:
    """Number and name of the tensor that `ListenerConfig.output` means."""
    outputs = [int(detail["index"]) for detail in interpreter.get_output_details()]
    names = {int(d["index"]): d["name"] for d in interpreter.get_tensor_details()}
    number = {"output": outputs[0], "before_last": outputs[0] - 1}.get(wanted)
    if number is None:
        number = next((index for index, name in names.items() if name == wanted), None)
    if number not in names:
        own = ", ".join(names[index] for index in outputs)
        raise UserError(
            "A listener's `output` must be `output`, `before_last` or the name of a tensor of "
            f"its TFLite model. Received: {wanted!r}; the outputs of {path} are {own}."
        )
    return number, names[number]


class SavedNetwork:
    """Windows [windows, samples] -> embeddings, all at once or, if it must be, one by one."""

    def __init__(self, path: Path, config: ListenerConfig):
        import tensorflow as tf

        self._path = path
        self._key = config.output
        try:
            # What is loaded has to stay, or its variables go.
            self._model = tf.saved_model.load(str(path))
            self._function = self._model.signatures[_SIGNATURE]
        except (OSError, ValueError, KeyError, AttributeError, tf.errors.OpError):
            raise UserError(
                "A listener's model is a TFLite file or the folder of a SavedModel with the "
                f"signature {_SIGNATURE}. {path} is neither."
            ) from None
        inputs = self._function.structured_input_signature[1]
        self._input, spec = next(iter(inputs.items()))
        shape = tuple(-1 if n is None else n for n in spec.shape) if spec.shape.rank else ()
        _check_input(path, len(inputs), spec.dtype, shape, config.window_samples)
        self._takes_one = shape[0] == 1
        keys = sorted(self._function.structured_outputs)
        if self._key not in keys:
            raise UserError(
                "A listener's `output` must be an output of its SavedModel's signature. "
                f"Received: {self._key!r}; {path} has {', '.join(keys)}."
            )

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        step = 1 if self._takes_one else len(windows)
        return np.concatenate(
            [self._embed(windows[i : i + step]) for i in range(0, len(windows), step)]
        )

    def operations(self, windows):
        """The same as TensorFlow operations."""
        embed = _one_by_one(self._call) if self._takes_one else self._call
        return embed(windows)

    @property
    def state(self):
        """The loaded model: variables, tables and files that its function needs."""
        return self._model

    def _call(self, windows):
        return self._function(**{self._input: windows})[self._key]

    def _embed(self, windows: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        try:
            embeddings = self._call(tf.constant(windows)).numpy()
        except tf.errors.OpError as error:
            raise _cannot_run(self._path, error) from None
        return _one_vector_each(embeddings, len(windows), self._key, self._path)


class BackboneNetwork:
    """A network of ours with published weights: front end, backbone, pooled cells."""

    def __init__(self, path: Path, config: ListenerConfig):
        import tensorflow as tf

        from rfcx_tf.frontend.frontend import FrontEnd
        from rfcx_tf.model.backbones import build_backbone, load_published

        frontend = config.network.frontend
        self._front_end = FrontEnd(frontend)
        self._image = (frontend.n_mels, frontend.channels)
        self._backbone = build_backbone(config.network.backbone, *self._image)
        load_published(self._backbone, config.network.backbone, str(path))
        self._pooling = config.output
        windows = tf.TensorSpec([None, config.window_samples], tf.float32)
        self._embed = tf.function(self.operations, [windows], autograph=False)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        return self._embed(windows).numpy()

    def operations(self, windows):
        """The same as TensorFlow operations."""
        import tensorflow as tf

        spectrogram = self._front_end(windows)
        shape = tf.shape(spectrogram)
        image = tf.reshape(spectrogram, [shape[0], shape[1], *self._image])
        cells = self._backbone(image, training=False)
        pooled = []
        if self._pooling in ("mean", "mean_max"):
            pooled.append(tf.reduce_mean(cells, [1, 2]))
        if self._pooling in ("max", "mean_max"):
            pooled.append(tf.reduce_max(cells, [1, 2]))
        return tf.concat(pooled, axis=1)

    @property
    def state(self):
        """The weights, without what Keras wraps them in."""
        return [weight.value for weight in self._backbone.weights]


def _one_by_one(embed):
    """Of a function of one window [1, samples] one of any number."""
    import tensorflow as tf

    return lambda windows: tf.map_fn(lambda window: embed(window[tf.newaxis])[0], windows)


def _check_input(path: Path, inputs: int, dtype: tf.DType, shape: tuple[int, ...], samples: int):
    """Refuses a model whose input is not float32 [any number or 1, samples or any]."""
    import tensorflow as tf

    fits = len(shape) == 2 and shape[0] in (-1, 1) and shape[1] in (-1, samples)
    if inputs != 1 or dtype != tf.float32 or not fits:
        found = f"{inputs} inputs" if inputs != 1 else f"{dtype.name} {list(shape)}"
        raise UserError(
            "A listener's model must take one float32 [windows, samples] with window_s x "
            f"sample_rate_hz = {samples} samples. {path} takes {found} (-1: any)."
        )


def _one_vector_each(values: np.ndarray, windows: int, name: str, path: Path) -> np.ndarray:
    """float32 [windows, size]; axes of length 1 between are left out."""
    size = values.shape[-1] if values.ndim > 1 else 0
    if values.shape[:1] != (windows,) or values.size != windows * size:
        raise UserError(
            f"An embedding must be one vector a window. {name} of {path} is {list(values.shape)} "
            f"for {windows}. Name another `output`."
        )
    return values.reshape(windows, size).astype(np.float32)


def _cannot_run(path: Path, error: Exception) -> UserError:
    import tensorflow as tf

    reason = " ".join(str(error).split())
    return UserError(
        f"The listener's model must run with TensorFlow {tf.__version__}. {path}: {reason:.200}"
    )
