"""Waveform in, one embedding [size] for every window out: a TFLite file or a SavedModel.

The project holds no such model. The user names one by its path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from rfcx_tf.core.config import ListenerConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.embedding_networks import BackboneNetwork, SavedNetwork, TfliteNetwork

# Windows that a SavedModel takes at once, if it takes any number.
_BATCH = 16


class EmbeddingModel:
    """A pretrained model as a function from windows of sound to embeddings.

    Attributes:
        config: how it listens.
        size: values in an embedding.
    """

    def __init__(
        self, config: ListenerConfig, network: TfliteNetwork | SavedNetwork | BackboneNetwork
    ):
        """Takes what `open` has opened and tries it on silence."""
        self.config = config
        self._network = network
        silence = np.zeros((1, config.window_samples), np.float32)
        self.size = network(silence).shape[1]

    @classmethod
    def open(cls, path: str | Path, config: ListenerConfig) -> EmbeddingModel:
        """Opens a model.

        Args:
            path: a TFLite file, or the folder of a SavedModel; of a network of ours its weights.
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
        if config.network:
            return cls(config, BackboneNetwork(path, config))
        network = (SavedNetwork if path.is_dir() else TfliteNetwork)(path, config)
        return cls(config, network)

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """Embeddings float32 [windows, size] of windows float32 [windows, samples] in [-1, 1]."""
        if self.config.window_peak is not None:
            windows = scale_to_peak(windows, self.config.window_peak)
        return self._network(windows)

    # What follows is for an export.

    def embed_waveforms(self, waveform):
        """Embeddings of every window of waveforms, as TensorFlow operations.

        Windows lie as those of `EmbeddingStream`. They are heard a few at a time, so that memory
        does not grow with the overlap of all.

        Args:
            waveform: float32 [batch, samples] in [-1, 1].

        Returns:
            float32 [batch, windows, size].
        """
        import tensorflow as tf

        hop, length = self.config.hop_samples, self.config.window_samples
        batch, samples = tf.unstack(tf.shape(waveform))
        windows = self.window_count(samples)
        padded = tf.pad(waveform, [[0, 0], [0, (windows - 1) * hop + length - samples]])
        step = tf.maximum(1, _BATCH // batch)
        steps = -(-windows // step)

        def embed_some(number, found):
            first = number * step
            last = tf.minimum(first + step, windows)
            sound = padded[:, first * hop : (last - 1) * hop + length]
            cut = tf.reshape(tf.signal.frame(sound, length, hop), [-1, length])
            if self.config.window_peak is not None:
                cut = _scale_to_peak(cut, self.config.window_peak)
            embeddings = tf.reshape(self._network.operations(cut), [batch, -1, self.size])
            return number + 1, found.write(number, tf.transpose(embeddings, [1, 0, 2]))

        found = tf.TensorArray(tf.float32, steps, infer_shape=False)
        _, found = tf.while_loop(
            lambda number, _: number < steps, embed_some, [0, found], parallel_iterations=1
        )
        embeddings = tf.transpose(found.concat(), [1, 0, 2])
        return tf.ensure_shape(embeddings, [None, None, self.size])

    def window_count(self, samples):
        """Windows of a recording of so many samples, int32 [] both."""
        import tensorflow as tf

        beyond = tf.maximum(0, samples - self.config.window_samples)
        return 1 - (-beyond // self.config.hop_samples)

    @property
    def state(self):
        """What a SavedModel has to keep for `embed_waveforms`."""
        return self._network.state


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


def _scale_to_peak(windows, peak: float):
    """`scale_to_peak` as TensorFlow operations."""
    import tensorflow as tf

    centred = windows - tf.reduce_mean(windows, axis=1, keepdims=True)
    highest = tf.reduce_max(tf.abs(centred), axis=1, keepdims=True)
    return tf.math.divide_no_nan(peak * centred, highest)


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
