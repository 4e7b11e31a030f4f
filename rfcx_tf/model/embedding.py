"""Waveform in, one embedding [size] for every window out: a TFLite file or a SavedModel.

The project holds no such model. The user names one by its path.
"""

from __future__ import annotations

import hashlib
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
# Windows that a SavedModel takes at once, if it takes any number.
_BATCH = 16


class EmbeddingModel:
    """A pretrained model as a function from windows of sound to embeddings.

    Attributes:
        config: how it listens.
        size: values in an embedding.
    """

    def __init__(self, config: ListenerConfig, network: _TfliteNetwork | _SavedNetwork):
        """Takes what `open` has opened and tries it on silence."""
        self.config = config
        self._network = network
        silence = np.zeros((1, config.window_samples), np.float32)
        self.size = network(silence).shape[1]

    @classmethod
    def open(cls, path: str | Path, config: ListenerConfig) -> EmbeddingModel:
        """Opens a model.

        Args:
            path: a TFLite file, or the folder of a SavedModel.
            config: how it listens.

        Raises:
            UserError: if nothing is there, it is no model, it does not take windows of so many
                samples, or it has no such output.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(
                "A listener needs its model, a TFLite file or the folder of a SavedModel. "
                f"Not found: {path}."
            )
        network = (_SavedNetwork if path.is_dir() else _TfliteNetwork)(path, config)
        return cls(config, network)

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Embeddings float32 [windows, size] of windows float32 [windows, samples] in [-1, 1]."""
        if self.config.window_peak is not None:
            windows = scale_to_peak(windows, self.config.window_peak)
        return self._network(windows)


class EmbeddingStream:
    """Embeds windows of one recording that comes in pieces, in the memory of a few windows.

    The windows begin every `hop_s`. The last one ends with the recording or beyond it, where there
    is silence; so there is always one.

    Or they begin at given samples, and are moved into the recording at its end.
    """

    def __init__(self, model: EmbeddingModel, starts: np.ndarray | None = None):
        """Takes first samples, int64 [windows] of 0 or more, ascending; None: every `hop_s`."""
        self._model = model
        self._starts = starts
        self._sound = np.zeros(0, np.float32)
        self._sound_begin = 0
        self._cut_windows = 0
        self._waiting: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Takes samples float32 [samples] in [-1, 1]; gives embeddings [windows, size] so far."""
        self._sound = np.concatenate([self._sound, samples])
        self._cut(self._starts_until(self._end - self._model.config.window_samples))
        self._forget()
        # Whole batches: then embeddings do not depend on the pieces that a recording comes in.
        return self._embed(len(self._waiting) // _BATCH * _BATCH)

    def finish(self) -> np.ndarray:
        """Ends the recording and gives the rest of the embeddings."""
        hop = self._model.config.hop_samples
        latest = max(0, self._end - self._model.config.window_samples)
        if self._starts is None:
            self._cut(self._starts_until(-(-latest // hop) * hop))
        else:
            self._cut(np.minimum(self._starts[self._cut_windows :], latest))
        return self._embed(len(self._waiting))

    @property
    def _end(self) -> int:
        return self._sound_begin + len(self._sound)

    def _starts_until(self, last: int) -> np.ndarray:
        """Where windows begin that are not cut yet, as far as sample `last`."""
        if self._starts is None:
            hop = self._model.config.hop_samples
            return np.arange(self._cut_windows, 1 + last // hop) * hop
        left = self._starts[self._cut_windows :]
        return left[left <= last]

    def _cut(self, starts: np.ndarray) -> None:
        length = self._model.config.window_samples
        for start in starts - self._sound_begin:
            window = self._sound[start : start + length]
            self._waiting.append(np.pad(window, (0, length - len(window))))
        self._cut_windows += len(starts)

    def _forget(self) -> None:
        """Drops sound before the next window, but for what a window moved to the end needs."""
        needed = self._end - self._model.config.window_samples
        if self._starts is None:
            needed = min(needed, self._cut_windows * self._model.config.hop_samples)
        elif self._cut_windows < len(self._starts):
            needed = min(needed, int(self._starts[self._cut_windows]))
        dropped = max(0, needed - self._sound_begin)
        self._sound = self._sound[dropped:]
        self._sound_begin += dropped

    def _embed(self, count: int) -> np.ndarray:
        """Embeds the first windows that wait."""
        windows, self._waiting = self._waiting[:count], self._waiting[count:]
        batches = [np.stack(windows[i : i + _BATCH]) for i in range(0, count, _BATCH)]
        nothing = np.empty((0, self._model.size), np.float32)
        return np.concatenate([nothing, *map(self._model.embed, batches)])


def scale_to_peak(windows: np.ndarray, peak: float) -> np.ndarray:
    """Frees each window [windows, samples] of its mean and scales it to a peak; not silence."""
    centred = windows - windows.mean(axis=1, keepdims=True)
    highest = np.abs(centred).max(axis=1, keepdims=True)
    return np.divide(peak * centred, highest, out=centred, where=highest > 0)


def hash_model(path: str | Path) -> str:
    """Identifies a model by the bytes of its file, or of all files in its folder."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path)} {digest}\n".encode())
    return total.hexdigest()[:16]


class _TfliteNetwork:
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


class _SavedNetwork:
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
        self._one_by_one = shape[0] == 1
        keys = sorted(self._function.structured_outputs)
        if self._key not in keys:
            raise UserError(
                "A listener's `output` must be an output of its SavedModel's signature. "
                f"Received: {self._key!r}; {path} has {', '.join(keys)}."
            )

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        step = 1 if self._one_by_one else len(windows)
        return np.concatenate(
            [self._embed(windows[i : i + step]) for i in range(0, len(windows), step)]
        )

    def _embed(self, windows: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        try:
            embeddings = self._function(**{self._input: tf.constant(windows)})[self._key].numpy()
        except tf.errors.OpError as error:
            raise _cannot_run(self._path, error) from None
        return _one_vector_each(embeddings, len(windows), self._key, self._path)


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
