"""Waveform [batch, samples] in, PCEN or log-mel spectrogram [batch, frames, bands] out.

A spectrogram has one band for each mel band, or, with `pcen_log`, two beside each other: PCEN,
then log-mel. `reshape(batch, frames, mels, channels)` makes it an image.

One Keras layer serves shards, prediction and export, so that the network never meets another
front end than the one that it was trained on. It is made of `keras.ops` and runs without TensorFlow
too (`KERAS_BACKEND=jax`).

Everything up to the mel bands is float64 inside. A float32 FFT leaves rounding noise of about
1e-7 of the loudest bin in every other bin: in the quiet bands of a clean whistle that is all
there is (a synthetic chirp came out wrong by 2e+2 relative to librosa, whose FFT is float64
too). It also keeps GPUs from multiplying in TF32, which carries three decimal digits.

`precision="float32"` computes the same in float32 throughout, for devices whose runtime has no
float64 (LiteRT). Where every band holds some sound, as in any recording made outdoors, little is
lost; a clean synthetic whistle is where it shows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import keras
import numpy as np
from keras import ops

from rfcx_tf.core.config import COMPRESSIONS, FrontEndConfig, PcenConfig

SMOOTHER_BLOCK_FRAMES = 64
MEL_BANDS_PER_PRODUCT = 32
# Slaney's mel scale.
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_HZ_PER_MEL, _LOG_STEP = 200 / 3, math.log(6.4) / 27
# HTK's: mel = 1127 ln(1 + hz / 700).
_HTK_BREAK_HZ, _HTK_MEL = 700.0, 1127.0


def mel_band_centres_hz(config: FrontEndConfig) -> np.ndarray:
    """Frequency at which each mel band peaks, in Hz: float64 [mels]."""
    return _mel_points_hz(config)[1:-1]


def mel_position(config: FrontEndConfig, frequency_hz):
    """Where frequencies in Hz lie on the mel axis, in bands from the centre of the first.

    Of a tensor or an array. From -1, the lower edge of the first band, to n_mels, the upper edge
    of the last; what lies beyond is there.
    """
    first, last = _mel_range(config)
    mel = _mel(config, frequency_hz, ops)
    position = (mel - first) * ((config.n_mels + 1) / (last - first)) - 1.0
    return ops.clip(position, -1.0, float(config.n_mels))


def mel_frequency_hz(config: FrontEndConfig, position):
    """The frequency in Hz at positions on the mel axis (`mel_position`), a tensor or an array."""
    first, last = _mel_range(config)
    mel = first + (position + 1.0) * ((last - first) / (config.n_mels + 1))
    return _frequency_hz(config, mel, ops)


def mel_filterbank(config: FrontEndConfig) -> np.ndarray:
    """Weights of the FFT bins in each mel band: float64 [1 + n_fft // 2, mels].

    Band m is a triangle over the points p[m] < p[m+1] < p[m+2], which are equally spaced on
    the mel scale.

    - `slaney`: of height 2 / (p[m+2] - p[m]) per Hz, so that every band has the same area. This
      is `librosa.filters.mel` with its defaults.
    - `htk`: of height 1, with sides that are straight in mel, not in Hz, and without the bin at
      0 Hz. This is `tf.signal.linear_to_mel_weight_matrix`.

    References: M. Slaney (1998), Auditory Toolbox version 2, Interval Research, TR 1998-010.
    S. Young et al. (2006), The HTK Book, section 5.4.
    """
    points_hz = _mel_points_hz(config)
    low, centre, high = points_hz[:-2], points_hz[1:-1], points_hz[2:]
    bins_hz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate_hz)[:, np.newaxis]
    if config.mel_scale == "htk":
        mel = [_mel(config, hz, np) for hz in (bins_hz, low, centre, high)]
        return _triangles(*mel) * (bins_hz > 0)
    return _triangles(bins_hz, low, centre, high) * 2 / (high - low)


def _triangles(bins, low, centre, high) -> np.ndarray:
    """Height at every bin of triangles of height 1: [bins, 1] and [bands] -> [bins, bands]."""
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def _mel_points_hz(config: FrontEndConfig) -> np.ndarray:
    """Lower edge of the first band, all centres, upper edge of the last: float64 [mels + 2]."""
    return _frequency_hz(config, np.linspace(*_mel_range(config), config.n_mels + 2), np)


def _mel_range(config: FrontEndConfig) -> tuple[float, float]:
    """Lowest and highest frequency in mel."""
    f_max_hz = config.sample_rate_hz / 2 if config.f_max_hz is None else config.f_max_hz
    return tuple(float(_mel(config, hz, np)) for hz in (config.f_min_hz, f_max_hz))


def _mel(config: FrontEndConfig, frequency_hz, ops):
    """Frequencies in Hz on the mel scale, by `numpy` or `keras.ops`.

    Slaney's scale is linear below 1 kHz (3 mel per 200 Hz) and logarithmic above it
    (27 mel for a factor of 6.4).
    """
    if config.mel_scale == "htk":
        return _HTK_MEL * ops.log(1.0 + frequency_hz / _HTK_BREAK_HZ)
    above_knee = _KNEE_MEL + ops.log(ops.maximum(frequency_hz, 1.0) / _KNEE_HZ) / _LOG_STEP
    return ops.where(frequency_hz < _KNEE_HZ, frequency_hz / _HZ_PER_MEL, above_knee)


def _frequency_hz(config: FrontEndConfig, mel, ops):
    """The way back from `_mel`."""
    if config.mel_scale == "htk":
        return _HTK_BREAK_HZ * (ops.exp(mel / _HTK_MEL) - 1.0)
    above_knee = _KNEE_HZ * ops.exp((mel - _KNEE_MEL) * _LOG_STEP)
    return ops.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, above_knee)


def smoothing_coefficient(time_constant_frames: float) -> float:
    """b of `smooth` for a time constant T in frames: (sqrt(1 + 4 T^2) - 1) / (2 T^2).

    Written as 2 / (sqrt(1 + 4 T^2) + 1), which is the same number and lies in (0, 1] for
    every T > 0; the published form cancels to 0 / 0 for small T.
    """
    return 2 / (math.sqrt(1 + 4 * time_constant_frames**2) + 1)


def smooth(mel, b: float, state):
    """Exponential smoothing along time, M[t] = (1 - b) M[t-1] + b mel[t], without truncation.

    Inside a block of K frames the recursion is one product with the lower triangular matrix
    b (1 - b)^(i - j); between blocks only the last M is carried on, so the sequential part is
    frames / K steps long. All terms are positive: nothing cancels, however loud the sound.
    A NaN in `mel` spoils all later frames, as in the recursion, and its own block.

    Args:
        mel: float64 or float32 [batch, frames, mels]; frames > 0.
        b: weight of the newest frame, in (0, 1].
        state: M before the first frame, of the same type, [batch, mels].

    Returns:
        M, as `mel`; its last frame is the state to carry on.
    """
    length = SMOOTHER_BLOCK_FRAMES
    batch, frames, bands = ops.shape(mel)
    blocks = -(-frames // length)
    padded = ops.pad(mel, [[0, 0], [0, blocks * length - frames], [0, 0]])

    step = np.arange(length)[:, np.newaxis]
    dtype = keras.backend.standardize_dtype(mel.dtype)
    weights = (b * np.tril((1 - b) ** np.abs(step - step.T))).astype(dtype)
    decay = ((1 - b) ** (step + 1)).astype(dtype)
    within = ops.matmul(weights, ops.reshape(padded, [batch, blocks, length, bands]))

    def carry_on(before, block):
        # Given as well: what every block begins with.
        return (1 - b) ** length * before + block, before

    _, before = ops.scan(carry_on, state, ops.transpose(within[:, :, -1], [1, 0, 2]))
    smoothed = within + decay * ops.expand_dims(ops.transpose(before, [1, 0, 2]), 2)
    return ops.reshape(smoothed, [batch, blocks * length, bands])[:, :frames]


def pcen(mel, smoothed, config: PcenConfig):
    """Per-channel energy normalisation, (mel / (eps + M)^gain + bias)^power - bias^power.

    Evaluated as bias^power * expm1(power * log1p(mel / (eps + M)^gain / bias)), which keeps
    its relative precision where the sound is far quieter than its surroundings.

    Args:
        mel: float64 or float32 [batch, frames, mels], not negative.
        smoothed: M of `smooth`, of the same type and shape.

    Returns:
        float32 of the same shape.

    References: Wang et al. (2017), "Trainable frontend for robust and far-field keyword
    spotting", ICASSP; Lostanlen et al. (2019), "Per-channel energy normalization: why and
    how", IEEE Signal Processing Letters 26(1). The evaluation is librosa's.
    """
    # exp and log because a power takes eight times as long.
    normalised = mel * ops.exp(-config.gain * ops.log(config.eps + smoothed))
    if config.bias == 0:
        return ops.power(ops.cast(normalised, "float32"), config.power)
    over_bias = ops.cast(normalised / config.bias, "float32")
    return config.bias**config.power * ops.expm1(config.power * ops.log1p(over_bias))


@keras.saving.register_keras_serializable(package="rfcx_tf")
class FrontEnd(keras.layers.Layer):
    """Mel spectrogram with PCEN, logarithmic compression or both, as librosa computes them.

    `librosa.feature.melspectrogram(center=True, pad_mode="constant")` of the waveform times
    `input_scale`, with a periodic Hann window, followed by `librosa.pcen` (with M = 1 before
    the first frame, or M as that frame is), by ln(log_offset + mel), or by both of the same mel
    spectrogram as two channels. Frame k is centred on sample k * hop_length. The output is
    float32 under every dtype policy.

    The eager call is correct but runs the smoother's loop in Python: wrap it in `tf.function` or
    `jax.jit`. JAX has float64 only after `jax.config.update("jax_enable_x64", True)`; without,
    everything is float32 whatever `precision` says.

    Args:
        config: the front end's section of a recipe.
        precision: precision of everything up to the compression; float32 only where there is no
            float64.
        frames_at_once: how many frames go from samples to mel bands at once; None: all. The result
            is the same. On a CPU, blocks that fit its cache take two thirds of the time; on a GPU
            a loop over blocks only costs.

    Example:
        >>> frontend = FrontEnd(FrontEndConfig())
        >>> frontend(np.zeros([2, 480_000], np.float32)).shape
        TensorShape([2, 938, 128])
    """

    def __init__(
        self,
        config: FrontEndConfig,
        precision: Literal["float64", "float32"] = "float64",
        frames_at_once: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"}, autocast=False)
        self.config = config
        self.precision = precision
        self.frames_at_once = frames_at_once
        self._b = smoothing_coefficient(config.pcen.time_constant_s / config.frame_s)
        self._window = config.input_scale * _centred_hann(config.win_length, config.n_fft)
        self._mel_products = _band_groups(mel_filterbank(config))

    def call(self, waveform):
        """Spectrogram of whole recordings or clips.

        Args:
            waveform: floating point [batch, samples] in [-1, 1], at `sample_rate_hz`.

        Returns:
            float32 [batch, 1 + samples // hop_length, bands].

        Raises:
            ValueError: if the shape or type is another, or there is no sample.
        """
        shape, dtype = tuple(waveform.shape), keras.backend.standardize_dtype(waveform.dtype)
        if len(shape) != 2 or shape[1] == 0 or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "The front end takes a floating-point waveform [batch, samples] with at least "
                f"one sample. Received: shape={shape}, dtype={dtype}."
            )
        before = self.config.n_fft // 2
        padded = ops.pad(waveform, [[0, 0], [before, self.config.n_fft - before]])
        return self._spectrogram(padded, self.initial_state(ops.shape(waveform)[0]))[0]

    def initial_state(self, batch):
        """Smoother before the first frame, [batch, mels]; negative: as that frame is."""
        level = 1.0 if self.config.pcen.initial == "one" else -1.0
        return ops.full([batch, self.config.n_mels], level, self.precision)

    @functools.cached_property
    def advance(self) -> Callable:
        """(samples [batch, samples], state) -> (frames inside the samples, state after them).

        No padding: frame k covers samples k * hop_length to k * hop_length + n_fft - 1. TensorFlow
        traces it once per front end, for every batch and length of at least n_fft samples; JAX
        once for every shape.
        """
        if keras.backend.backend() == "jax":
            import jax

            return jax.jit(self._spectrogram)
        import tensorflow as tf

        return tf.function(
            self._spectrogram,
            input_signature=[
                tf.TensorSpec([None, None], tf.float32),
                tf.TensorSpec([None, self.config.n_mels], self.precision),
            ],
            autograph=False,
        )

    def _spectrogram(self, samples, state):
        mel = self._mel_spectrogram(samples)
        channels = []
        for name in COMPRESSIONS[self.config.compression]:
            values, state = CHANNELS[name](self, mel, state)
            channels.append(values)
        if len(channels) == 1:
            return channels[0], state
        batch, frames, _ = ops.shape(mel)
        image = ops.stack(channels, axis=-1)
        return ops.reshape(image, [batch, frames, self.config.bands]), state

    def _pcen(self, mel, state):
        state = ops.where(state < 0, mel[:, 0], state)
        smoothed = smooth(mel, self._b, state)
        return pcen(mel, smoothed, self.config.pcen), smoothed[:, -1]

    def _log(self, mel, state):
        """ln(log_offset + mel) in float32."""
        return ops.log(self.config.log_offset + ops.cast(mel, "float32")), state

    def _mel_spectrogram(self, samples):
        if self.frames_at_once is None:
            return self._mel_block(samples)
        n_fft, hop_length, length = self.config.n_fft, self.config.hop_length, self.frames_at_once
        batch, count = ops.shape(samples)
        frames = 1 + (count - n_fft) // hop_length
        blocks = -(-frames // length)
        # Blocks overlap as frames do; silence fills the last one.
        block_samples = (length - 1) * hop_length + n_fft
        missing = (blocks - 1) * length * hop_length + block_samples - count
        padded = ops.pad(samples, [[0, 0], [0, ops.maximum(missing, 0)]])
        cut = _overlapping(padded, block_samples, length * hop_length)
        mel = ops.map(self._mel_block, ops.reshape(cut, [batch * blocks, 1, block_samples]))
        return ops.reshape(mel, [batch, blocks * length, self.config.n_mels])[:, :frames]

    def _mel_block(self, samples):
        samples = ops.cast(samples, self.precision)
        # JAX may have no float64.
        dtype = keras.backend.standardize_dtype(samples.dtype)
        frames = _overlapping(samples, self.config.n_fft, self.config.hop_length)
        real, imaginary = ops.rfft(frames * self._window.astype(dtype))
        # An absolute value guards against overflow at four times the cost. Full scale is 1e25
        # here, far below even float32's largest number.
        bins = ops.square(real) + ops.square(imaginary)
        if self.config.magnitude_power == 1:
            bins = ops.sqrt(bins)
        products = [
            ops.matmul(bins[..., first : first + len(weights)], weights.astype(dtype))
            for first, weights in self._mel_products
        ]
        return ops.concatenate(products, axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, samples = input_shape
        frames = None if samples is None else 1 + samples // self.config.hop_length
        return (batch, frames, self.config.bands)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "config": self.config.model_dump(mode="json"),
            "precision": self.precision,
            "frames_at_once": self.frames_at_once,
        }

    @classmethod
    def from_config(cls, config: dict) -> FrontEnd:
        return cls(**{**config, "config": FrontEndConfig.model_validate(config["config"])})


# What a channel holds: (front end, mel bands, the smoother's state) -> (values, state after them).
CHANNELS = {"pcen": FrontEnd._pcen, "log": FrontEnd._log}


class FrontEndStream:
    """One recording through a front end, piece by piece, with the result of a single pass.

    Memory is that of a piece, so an all-day file costs no more than a short one.

    Args:
        frontend: shared by any number of streams, one a recording.

    Example:
        >>> stream = FrontEndStream(frontend)
        >>> frames = [stream.push(piece) for piece in pieces]
        >>> spectrogram = np.concatenate([*frames, stream.finish()])
    """

    def __init__(self, frontend: FrontEnd) -> None:
        self._frontend = frontend
        self._state = frontend.initial_state(1)
        self._waiting = np.zeros(frontend.config.n_fft // 2, np.float32)
        self._any_sound = False
        self._finished = False

    def push(self, piece: np.ndarray) -> np.ndarray:
        """Takes the next samples, returns the frames that they complete.

        Args:
            piece: float32 [samples], any number of them, zero included.

        Returns:
            float32 [frames, bands]; frames may be 0.
        """
        if self._finished:
            raise ValueError("A stream takes one recording. Make a new one for the next.")
        piece = np.asarray(piece, np.float32)
        if piece.ndim != 1:
            raise ValueError(f"A piece must be mono, [samples]. Received: shape={piece.shape}.")
        self._any_sound |= piece.size > 0

        config = self._frontend.config
        samples = np.concatenate([self._waiting, piece])
        frames = max(0, 1 + (len(samples) - config.n_fft) // config.hop_length)
        self._waiting = samples[frames * config.hop_length :]
        if frames == 0:
            return np.zeros([0, config.bands], np.float32)
        spectrogram, self._state = self._frontend.advance(samples[np.newaxis], self._state)
        return ops.convert_to_numpy(spectrogram)[0]

    def finish(self) -> np.ndarray:
        """Ends the recording, returns its last frames, float32 [frames, bands].

        Raises:
            ValueError: if there was no sample at all.
        """
        if not self._any_sound:
            raise ValueError("A recording must have at least one sample. Received: none.")
        n_fft = self._frontend.config.n_fft
        last = self.push(np.zeros(n_fft - n_fft // 2, np.float32))
        self._finished = True
        return last


def _overlapping(samples, length: int, step: int):
    """Stretches of samples, one begun every `step`: [batch, samples] -> [batch, stretches, length].

    Neighbouring pieces of one step's length, put together: a copy, as TensorFlow's `signal.frame`
    is. JAX's `extract_sequences` is a convolution, which a GPU rounds to TF32.
    """
    if keras.backend.backend() == "tensorflow":
        return ops.extract_sequences(samples, length, step)
    batch, count = samples.shape
    stretches, parts = 1 + (count - length) // step, -(-length // step)
    needed = (stretches + parts - 1) * step
    pieces = ops.pad(samples, [[0, 0], [0, max(0, needed - count)]])[:, :needed]
    pieces = ops.reshape(pieces, [batch, stretches + parts - 1, step])
    beside = [pieces[:, part : part + stretches] for part in range(parts)]
    return ops.concatenate(beside, axis=-1)[..., :length]


def _centred_hann(win_length: int, n_fft: int) -> np.ndarray:
    """Periodic Hann window with zeros on both sides: float64 [n_fft]."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    before = (n_fft - win_length) // 2
    return np.pad(window, (before, n_fft - win_length - before))


def _band_groups(filterbank: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Neighbouring mel bands with the FFT bins that they use: (first bin, [bins, bands]).

    Most of a filterbank is zeros; a product per group costs half as much as one for all.
    """
    groups = []
    for band in range(0, filterbank.shape[1], MEL_BANDS_PER_PRODUCT):
        weights = filterbank[:, band : band + MEL_BANDS_PER_PRODUCT]
        used = np.flatnonzero(weights.any(axis=1))
        first, last = (used[0], used[-1]) if used.size else (0, 0)
        groups.append((int(first), weights[first : last + 1]))
    return groups
