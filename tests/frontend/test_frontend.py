"""The front end against librosa and SciPy, and against itself cut into pieces."""

import warnings

import keras
import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
import tensorflow as tf

from rfcx_tf.core.config import FrontEndConfig, PcenConfig, load_config
from rfcx_tf.frontend.frontend import (
    FrontEnd,
    FrontEndStream,
    mel_band_centres_hz,
    mel_filterbank,
    mel_frequency_hz,
    mel_position,
    smooth,
    smoothing_coefficient,
)

BIOACOUSTIC = PcenConfig(gain=0.8, bias=10.0, power=0.25, time_constant_s=0.06)
CONFIGS = {
    "default": FrontEndConfig(),
    "24 kHz": FrontEndConfig(sample_rate_hz=24000, n_fft=1024, win_length=1024, hop_length=256),
    "bioacoustic": FrontEndConfig(pcen=BIOACOUSTIC),
    "no bias": FrontEndConfig(pcen=PcenConfig(bias=0.0)),
    "short window": FrontEndConfig(win_length=1200, hop_length=441, n_mels=50),
    "power of a band": FrontEndConfig(magnitude_power=2, f_min_hz=150.0, f_max_hz=14000.0),
    "unscaled": FrontEndConfig(input_scale=1.0, pcen=PcenConfig(time_constant_s=4.0)),
    "no memory": FrontEndConfig(pcen=PcenConfig(time_constant_s=1e-4)),
    "first frame": FrontEndConfig(pcen=PcenConfig(initial="first_frame")),
}


def synthetic_sounds(seconds: float = 2.0, rate_hz: int = 48000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20)
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    noise = rng.normal(size=time_s.size)
    chirp = scipy.signal.chirp(time_s, 100, seconds, 0.45 * rate_hz)
    silence_then_click = np.zeros(time_s.size)
    silence_then_click[time_s.size // 2] = 1.0
    loud_then_silence = np.where(time_s < seconds / 3, 0.9 * noise.clip(-1, 1), 0.0)
    field = 0.01 * scipy.signal.lfilter([1], [1, -0.95], noise) + 0.1 * chirp * (time_s % 0.5 < 0.2)
    sounds = {
        "noise": 0.1 * noise,
        "chirp": 0.5 * chirp,
        "tone": np.sin(2 * np.pi * 1000.3 * time_s),
        "silence": np.zeros(time_s.size),
        "silence then click": silence_then_click,
        "loud then silence": loud_then_silence,
        "full-scale square": np.sign(np.sin(2 * np.pi * 997 * time_s)),
        "clipped": (3 * np.sin(2 * np.pi * 440 * time_s) + noise).clip(-1, 1),
        "field, 16 bit": np.round(field * 32767) / 32768,
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


def librosa_mel(waveform: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    with warnings.catch_warnings():
        # "n_fft is too large for input signal": short sounds are meant here.
        warnings.simplefilter("ignore", UserWarning)
        return librosa.feature.melspectrogram(
            y=waveform * np.float32(config.input_scale),
            sr=config.sample_rate_hz,
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            fmin=config.f_min_hz,
            fmax=config.f_max_hz,
            power=config.magnitude_power,
        )


def librosa_pcen(waveform: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    mel = librosa_mel(waveform, config)
    b = smoothing_coefficient(config.pcen.time_constant_s / config.frame_s)
    steady = scipy.signal.lfilter_zi([b], [1, b - 1])  # after an endless input of 1
    level = mel[:, :1] if config.pcen.initial == "first_frame" else np.ones_like(mel[:, :1])
    with np.errstate(divide="ignore"):  # librosa takes log(0) of silence when the bias is 0
        return librosa.pcen(
            mel,
            sr=config.sample_rate_hz,
            hop_length=config.hop_length,
            gain=config.pcen.gain,
            bias=config.pcen.bias,
            power=config.pcen.power,
            time_constant=config.pcen.time_constant_s,
            eps=config.pcen.eps,
            zi=steady * level,
        ).T


def relative_error(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Zero where both are 0, infinite where only the expected value is."""
    assert found.shape == expected.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(found - expected) / np.abs(expected)
    return np.where(found == expected, 0.0, error)


def run(frontend: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    """One waveform [samples] in a single pass."""
    return frontend(waveform[np.newaxis])[0].numpy()


def assert_matches_librosa(waveform: np.ndarray, config: FrontEndConfig) -> None:
    error = relative_error(run(FrontEnd(config), waveform), librosa_pcen(waveform, config))
    # A tenth of what the design allows.
    assert error.max() < 1e-4
    assert np.median(error) < 1e-5


@pytest.mark.parametrize("sound", synthetic_sounds(0.1))
def test_default_front_end_matches_librosa(sound):
    assert_matches_librosa(synthetic_sounds()[sound], CONFIGS["default"])


@pytest.mark.parametrize("name", CONFIGS)
def test_every_setting_matches_librosa(name):
    config = CONFIGS[name]
    sounds = synthetic_sounds(1.0, config.sample_rate_hz)
    for sound in ("chirp", "silence", "loud then silence", "field, 16 bit"):
        assert_matches_librosa(sounds[sound], config)


@pytest.mark.parametrize("samples", [1, 511, 512, 2047, 2048, 5000])
def test_sound_shorter_than_a_few_windows_matches_librosa(samples):
    waveform = synthetic_sounds(0.2)["noise"][:samples]
    assert_matches_librosa(waveform, CONFIGS["default"])


def test_log_compression_matches_librosa():
    for scale in (1.0, 2.0**31):
        config = FrontEndConfig(compression="log", input_scale=scale)
        for sound in synthetic_sounds(1.0).values():
            expected = np.log(1e-6 + librosa_mel(sound, config)).T
            np.testing.assert_allclose(run(FrontEnd(config), sound), expected, atol=1e-5)


def test_front_end_of_yamnet_is_that_of_its_publication():
    """Against TensorFlow's own operations, with which YAMNet's authors define it."""
    config = load_config("configs/yamnet.yaml").frontend
    waveform = synthetic_sounds(1.0, 16000)["field, 16 bit"]
    bands = tf.signal.linear_to_mel_weight_matrix(64, 257, 16000, 125.0, 7500.0, tf.float64)
    np.testing.assert_allclose(mel_filterbank(config), bands, atol=1e-12)
    # Their first frame begins where the sound does, ours has its centre there.
    spectrum = tf.signal.stft(tf.constant(waveform, tf.float64), 400, 160, 512)
    expected = tf.math.log(tf.abs(spectrum) @ bands + 0.001)
    before = np.zeros(2 * 160 - 200, np.float32)
    found = run(FrontEnd(config), np.concatenate([before, waveform]))
    np.testing.assert_allclose(found[2 : 2 + len(expected)], expected, atol=1e-5)


def test_front_ends_of_earlier_versions_keep_their_fingerprint():
    assert FrontEndConfig().fingerprint == "2869c019326aec21"
    assert FrontEndConfig(mel_scale="htk").fingerprint != FrontEndConfig().fingerprint
    assert FrontEndConfig(log_offset=0.001).fingerprint != FrontEndConfig().fingerprint


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_positions_on_the_mel_axis_and_back(scale):
    config = FrontEndConfig(sample_rate_hz=16000, f_min_hz=125, f_max_hz=7500, mel_scale=scale)
    centres_hz = mel_band_centres_hz(config)
    np.testing.assert_allclose(mel_position(config, centres_hz), np.arange(128), atol=1e-3)
    np.testing.assert_allclose(mel_frequency_hz(config, np.arange(128.0)), centres_hz, rtol=1e-5)


@pytest.mark.parametrize("name", ["default", "short window"])
def test_both_compressions_lie_beside_each_other_band_by_band(name):
    values = CONFIGS[name].model_dump()
    front_ends = {
        compression: FrontEnd(FrontEndConfig.model_validate(values | {"compression": compression}))
        for compression in ("pcen", "log", "pcen_log")
    }
    both, mels = front_ends["pcen_log"], CONFIGS[name].n_mels
    assert both.compute_output_shape((2, 480_000))[-1] == 2 * mels
    sounds = synthetic_sounds(1.0)
    batch = np.stack([sounds["field, 16 bit"], sounds["loud then silence"]])
    found = both(batch)
    assert found.shape == both.compute_output_shape(batch.shape)
    image = found.numpy().reshape(2, -1, mels, 2)
    np.testing.assert_array_equal(image[..., 0], front_ends["pcen"](batch))
    np.testing.assert_array_equal(image[..., 1], front_ends["log"](batch))

    stream = FrontEndStream(both)
    assert stream.push(batch[0, :100]).shape == (0, 2 * mels)
    pieces = [stream.push(piece) for piece in np.array_split(batch[0, 100:], 5)]
    streamed = np.concatenate([*pieces, stream.finish()])
    np.testing.assert_allclose(streamed, found[0], rtol=1e-6)


def test_real_recordings_match_librosa(real_data):
    paths = [
        path
        for source in ("rfcx-sample", "fieldmix")
        for path in sorted((real_data / source / "train").glob("*.flac"))[::20]
    ]
    assert paths, f"no recording under {real_data}"
    for path in paths:
        waveform, sample_rate_hz = soundfile.read(path, dtype="float32")
        for pcen in (PcenConfig(), BIOACOUSTIC):
            config = FrontEndConfig(sample_rate_hz=sample_rate_hz, pcen=pcen)
            assert_matches_librosa(waveform, config)


def test_ten_seconds_at_48_khz_are_938_frames():
    frontend = FrontEnd(FrontEndConfig())
    shape = (2, 480_000)
    assert frontend(np.zeros(shape, np.float32)).shape == (2, 938, 128)
    assert frontend.compute_output_shape(shape) == (2, 938, 128)


@pytest.mark.parametrize("name", CONFIGS)
def test_filterbank_is_that_of_librosa(name):
    config = CONFIGS[name]
    expected = librosa.filters.mel(
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
        dtype=np.float64,
    )
    np.testing.assert_allclose(mel_filterbank(config), expected.T, rtol=1e-9, atol=1e-15)


def test_band_centres_are_those_of_librosa():
    config = CONFIGS["power of a band"]
    expected = librosa.mel_frequencies(config.n_mels + 2, fmin=150.0, fmax=14000.0)
    np.testing.assert_allclose(mel_band_centres_hz(config), expected[1:-1], rtol=1e-12)


@pytest.mark.parametrize("frames", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("b", [1.0, 0.5, 0.0263, 1e-5])
def test_smoothing_is_the_exact_recursion_over_26_orders_of_magnitude(frames, b):
    rng = np.random.default_rng(frames)
    mel = 10 ** rng.uniform(-12, 14, size=(2, frames, 3))
    state = 10 ** rng.uniform(-12, 14, size=(2, 3))
    expected, _ = scipy.signal.lfilter(
        [b], [1, b - 1], mel, axis=1, zi=(1 - b) * state[:, np.newaxis]
    )
    found = smooth(tf.constant(mel), b, tf.constant(state))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_smoothing_coefficient_stays_in_range():
    frames = np.array([1e-12, 1e-3, 0.5, 37.5, 1e6])
    b = np.array([smoothing_coefficient(t) for t in frames])
    assert ((b > 0) & (b <= 1)).all()
    published = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    np.testing.assert_allclose(b[1:], published[1:], rtol=1e-9)


@pytest.mark.parametrize("name", ["default", "short window", "first frame"])
def test_stream_equals_one_pass_for_any_pieces(name):
    config = CONFIGS[name]
    frontend = FrontEnd(config)
    waveform = synthetic_sounds(1.0)["field, 16 bit"]
    expected = run(frontend, waveform)
    rng = np.random.default_rng(7)
    for longest in (700, config.hop_length, 9000, 60_000):
        sizes = rng.integers(0, longest, size=2 * waveform.size // longest + 1)
        stream = FrontEndStream(frontend)
        pieces = np.split(waveform, np.cumsum(sizes).clip(max=waveform.size))
        frames = [stream.push(piece) for piece in pieces]
        found = np.concatenate([*frames, stream.finish()])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert frontend.advance.experimental_get_tracing_count() == 1


def test_from_the_first_frame_on_steady_sound_has_no_burst():
    waveform = 0.1 * np.random.default_rng(3).standard_normal(48000).astype(np.float32)
    from_one, from_first = (
        run(FrontEnd(FrontEndConfig(pcen=PcenConfig(initial=initial))), waveform)
        for initial in ("one", "first_frame")
    )
    later = from_one[40:].mean()
    assert from_one[:5].mean() > 5 * later
    assert from_first[:5].mean() < 2 * later


def test_stream_of_a_few_samples_and_misuse():
    frontend = FrontEnd(FrontEndConfig())
    stream = FrontEndStream(frontend)
    with pytest.raises(ValueError, match="at least one sample"):
        stream.finish()
    with pytest.raises(ValueError, match="mono"):
        stream.push(np.zeros([2, 100], np.float32))
    waveform = synthetic_sounds(0.1)["noise"][:1000]
    found = np.concatenate([stream.push(waveform), stream.finish()])
    np.testing.assert_allclose(found, run(frontend, waveform), rtol=1e-6)
    with pytest.raises(ValueError, match="one recording"):
        stream.push(waveform)


def test_recordings_of_a_batch_do_not_touch_each_other():
    sounds = synthetic_sounds(1.0)
    batch = np.stack([sounds["full-scale square"], sounds["silence"], 1e-4 * sounds["noise"]])
    frontend = FrontEnd(FrontEndConfig())
    together = frontend(batch).numpy()
    for found, waveform in zip(together, batch, strict=True):
        np.testing.assert_allclose(found, run(frontend, waveform), rtol=1e-6)


def test_nan_is_not_hidden():
    waveform = synthetic_sounds(1.0)["noise"]
    waveform[24_000] = np.nan
    # Frame 47 is centred on sample 24,064; 1,024 samples on either side lie in its window.
    assert np.isnan(run(FrontEnd(FrontEndConfig()), waveform)[47:]).all()
    log_mel = run(FrontEnd(FrontEndConfig(compression="log")), waveform)
    assert np.isnan(log_mel[45:49]).all()
    assert np.isfinite(log_mel[:44]).all() and np.isfinite(log_mel[50:]).all()


@pytest.mark.parametrize(
    "waveform",
    [np.zeros([1, 0], np.float32), np.zeros(100, np.float32), np.zeros([1, 100], np.int16)],
    ids=["empty", "no batch", "integers"],
)
def test_other_input_is_refused(waveform):
    with pytest.raises(ValueError, match="floating-point waveform"):
        FrontEnd(FrontEndConfig())(waveform)


@pytest.fixture
def mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


def test_mixed_precision_leaves_it_in_float32(mixed_precision):
    waveform = synthetic_sounds(1.0)["chirp"]
    assert FrontEnd(FrontEndConfig())(waveform[np.newaxis]).dtype == tf.float32
    assert_matches_librosa(waveform, FrontEndConfig())


def test_saved_model_of_any_batch_and_length(tmp_path):
    frontend = FrontEnd(CONFIGS["short window"])
    module = tf.Module()
    module.serve = tf.function(frontend, input_signature=[tf.TensorSpec([None, None], tf.float32)])
    graph = module.serve.get_concrete_function().graph
    python_ops = {op.type for op in graph.get_operations() if "PyFunc" in op.type}
    assert not python_ops
    tf.saved_model.save(module, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    sounds = synthetic_sounds(1.0)
    for batch in (sounds["clipped"][np.newaxis], np.stack([sounds["chirp"], sounds["noise"]])):
        for samples in (100, 30_000):
            waveform = tf.constant(batch[:, :samples])
            np.testing.assert_allclose(loaded.serve(waveform), frontend(waveform), rtol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_inside_is_enough_where_every_band_holds_sound(name):
    """Clean chirps and tones are left out: their quiet bands come out wrong in float32.

    There, all that a float32 FFT leaves is its rounding noise, 1e-7 of the loudest bin. No
    microphone outdoors hears such a sound; noise lies under every real one, or 16-bit steps.
    """
    config = CONFIGS[name]
    log_config = config.model_copy(update={"compression": "log"})
    sounds = synthetic_sounds(1.0, config.sample_rate_hz)
    front_end = FrontEnd(config, precision="float32")
    log_front_end = FrontEnd(log_config, precision="float32")
    for sound in ("noise", "field, 16 bit", "clipped", "loud then silence", "silence"):
        waveform = sounds[sound]
        found = run(front_end, waveform)
        assert found.dtype == np.float32
        assert relative_error(found, librosa_pcen(waveform, config)).max() < 2e-5
        expected = np.log(1e-6 + librosa_mel(waveform, log_config)).T
        np.testing.assert_allclose(run(log_front_end, waveform), expected, atol=2e-5)


def test_float32_streams_and_survives_saving():
    front_end = FrontEnd(CONFIGS["24 kHz"], precision="float32")
    waveform = synthetic_sounds(1.0, 24000)["field, 16 bit"]
    stream = FrontEndStream(front_end)
    pieces = [stream.push(piece) for piece in np.array_split(waveform, 4)]
    found = np.concatenate([*pieces, stream.finish()])
    np.testing.assert_allclose(found, run(front_end, waveform), rtol=2e-5)
    again = FrontEnd.from_config(front_end.get_config())
    assert again.precision == "float32"
    np.testing.assert_array_equal(run(again, waveform), run(front_end, waveform))


def test_keras_model_saves_and_loads(tmp_path):
    config = CONFIGS["short window"]
    model = keras.Sequential([keras.Input([None]), FrontEnd(config)])
    assert model.output_shape == (None, None, 50)
    model.save(tmp_path / "frontend.keras")
    loaded = keras.saving.load_model(tmp_path / "frontend.keras")
    assert loaded.layers[-1].config == config
    waveform = synthetic_sounds(0.5)["noise"][np.newaxis]
    np.testing.assert_allclose(loaded(waveform), model(waveform), rtol=1e-6)


def test_xla_gives_the_same():
    frontend = FrontEnd(FrontEndConfig())
    compiled = tf.function(frontend, jit_compile=True)
    sounds = synthetic_sounds(2.0)
    waveform = np.stack([sounds["field, 16 bit"], sounds["loud then silence"]])
    error = relative_error(compiled(waveform).numpy(), frontend(waveform).numpy())
    assert error.max() < 1e-4


@pytest.mark.parametrize(
    ("name", "precision"), [("default", "float64"), ("short window", "float32")]
)
def test_in_blocks_of_frames_it_gives_the_same(name, precision):
    whole = FrontEnd(CONFIGS[name], precision=precision)
    blocks = FrontEnd(CONFIGS[name], precision=precision, frames_at_once=7)
    assert FrontEnd.from_config(blocks.get_config()).frames_at_once == 7
    in_blocks = tf.function(blocks, input_signature=[tf.TensorSpec([None, None], tf.float32)])
    sounds = synthetic_sounds(0.5)
    batch = np.stack([sounds["field, 16 bit"], sounds["noise"]])
    for samples in (100, 3072, 20_000):
        found = in_blocks(batch[:, :samples])
        np.testing.assert_allclose(found, whole(batch[:, :samples]), rtol=1e-6)
