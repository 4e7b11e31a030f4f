"""Embeddings of windows against NumPy, which tensor is read, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rfcx_tf.core.config import ConfigError, ListenerConfig, load_yaml
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.embedding import EmbeddingModel, EmbeddingStream, hash_model, scale_to_peak
from rfcx_tf.model.litert_interpreter import Interpreter

WINDOW, HOP, SIZE = 50, 20, 6


def config(**values) -> ListenerConfig:
    """Half a second of sound at 100 Hz, every 0.2 s."""
    usual = {"sample_rate_hz": 100, "window_s": 0.5, "hop_s": 0.2, "num_threads": 1}
    return ListenerConfig(**usual | {"output": "before_last"} | values)


@pytest.fixture(scope="module")
def network():
    """[samples] -> relu(x W + b), the embedding -> 3 numbers."""
    keras.utils.set_random_seed(3)
    sound = keras.Input((WINDOW,))
    hidden = keras.layers.Dense(SIZE, "relu", bias_initializer="normal", name="hidden")(sound)
    return keras.Model(sound, keras.layers.Dense(3, name="species")(hidden))


@pytest.fixture(scope="module")
def tflite(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    return path


def save_model(network, path, windows=None):
    """With two outputs; `windows`: how many it takes at once, None for any number."""
    inner = keras.Model(network.inputs, [network.get_layer("hidden").output, network.output])

    @tf.function(input_signature=[tf.TensorSpec([windows, WINDOW], tf.float32, name="sound")])
    def serve(sound):
        embedding, label = inner(sound)
        return {"embedding": embedding, "label": label}

    module = tf.Module()
    module.network = inner
    tf.saved_model.save(module, str(path), {"serving_default": serve})
    return path


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    return save_model(network, tmp_path_factory.mktemp("saved") / "model")


def embed(model, waveform, starts=None, pieces=3) -> np.ndarray:
    stream = EmbeddingStream(model, starts)
    parts = [stream.push(piece) for piece in np.array_split(waveform, pieces)]
    return np.concatenate([*parts, stream.finish()])


def by_hand(network, waveform, starts) -> np.ndarray:
    weights, bias = network.get_layer("hidden").get_weights()
    padded = np.concatenate([waveform, np.zeros(WINDOW)])
    windows = np.stack([padded[s : s + WINDOW] for s in starts])
    return np.maximum(windows @ weights + bias, 0)


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (1, [0]),
        (50, [0]),
        (51, [0, 20]),
        (70, [0, 20]),
        (90, [0, 20, 40]),
        (91, [0, 20, 40, 60]),
        # More windows than a batch holds.
        (570, range(0, 540, 20)),
    ],
)
@pytest.mark.parametrize("kind", ["tflite", "saved"])
def test_windows_of_a_recording_by_hand(kind, samples, starts, network, request):
    path = request.getfixturevalue(kind)
    model = EmbeddingModel.open(
        path, config(output="before_last" if kind == "tflite" else "embedding")
    )
    waveform = np.random.default_rng(samples).normal(0, 0.3, samples).astype(np.float32)
    embeddings = embed(model, waveform, pieces=1)
    assert model.size == SIZE
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, by_hand(network, waveform, starts), atol=1e-5)
    # To the bit, in whatever pieces the recording comes.
    np.testing.assert_array_equal(embed(model, waveform, pieces=9), embeddings)
    # At given places; those beyond the end are moved into the recording.
    at = np.sort(np.random.default_rng(1).integers(0, samples + 30, 40))
    inside = np.minimum(at, max(0, samples - WINDOW))
    found = embed(model, waveform, at, pieces=1)
    np.testing.assert_allclose(found, by_hand(network, waveform, inside), atol=1e-5)
    np.testing.assert_array_equal(embed(model, waveform, at, pieces=9), found)
    assert embed(model, waveform, np.empty(0, int)).shape == (0, SIZE)


def test_memory_of_a_stream_does_not_grow_with_the_recording(tflite):
    model = EmbeddingModel.open(tflite, config())
    for stream in (EmbeddingStream(model), EmbeddingStream(model, np.array([5, 90_000]))):
        for _ in range(100):
            stream.push(np.zeros(1000, np.float32))
            assert len(stream._sound) <= WINDOW + HOP and len(stream._waiting) < 16


def test_a_model_that_takes_one_window_at_a_time_is_given_one(network, tmp_path):
    path = save_model(network, tmp_path / "model", windows=1)
    waveform = np.random.default_rng(0).normal(0, 0.3, 200).astype(np.float32)
    model = EmbeddingModel.open(path, config(output="embedding"))
    expected = by_hand(network, waveform, range(0, 161, 20))
    np.testing.assert_allclose(embed(model, waveform), expected, atol=1e-5)
    exported = model.embed_waveforms(waveform[np.newaxis])[0]
    np.testing.assert_allclose(exported, expected, atol=1e-5)


def test_the_tensor_that_is_asked_for_is_read(network, tflite):
    waveform = np.random.default_rng(1).normal(0, 0.3, 50).astype(np.float32)
    hidden = by_hand(network, waveform, [0])
    weights, bias = network.get_layer("species").get_weights()

    def read(output):
        return EmbeddingModel.open(tflite, config(output=output)).embed(waveform[np.newaxis])

    np.testing.assert_allclose(read("before_last"), hidden, atol=1e-5)
    np.testing.assert_allclose(read("output"), hidden @ weights + bias, atol=1e-5)
    interpreter = Interpreter(str(tflite))
    own = interpreter.get_output_details()[0]
    np.testing.assert_allclose(read(own["name"]), hidden @ weights + bias, atol=1e-5)
    (inner,) = [d["name"] for d in interpreter.get_tensor_details() if tuple(d["shape"]) == (1, 6)]
    np.testing.assert_allclose(read(inner), hidden, atol=1e-5)


def test_windows_are_scaled_to_the_peak(network, tflite):
    waveform = np.random.default_rng(2).normal(0.1, 0.3, 90).astype(np.float32)
    embeddings = embed(EmbeddingModel.open(tflite, config(window_peak=0.25)), waveform)
    for start, found in zip((0, 20, 40), embeddings, strict=True):
        window = waveform[start : start + WINDOW].astype(float)
        window -= window.mean()
        window *= 0.25 / np.abs(window).max()
        np.testing.assert_allclose(found, by_hand(network, window, [0])[0], atol=1e-5)
    np.testing.assert_array_equal(scale_to_peak(np.full((1, 4), 0.5, np.float32), 0.25), [[0] * 4])


def test_a_hash_goes_by_content(tflite, saved, tmp_path):
    copy = tmp_path / "other_name.tflite"
    copy.write_bytes(tflite.read_bytes())
    assert hash_model(copy) == hash_model(tflite)
    copy.write_bytes(tflite.read_bytes() + b"\0")
    assert hash_model(copy) != hash_model(tflite)
    before = hash_model(saved)
    extra = saved / "variables" / "more"
    extra.write_text("x")
    assert hash_model(saved) != before
    extra.unlink()
    assert hash_model(saved) == before


def refused(path, **values) -> str:
    with pytest.raises(UserError) as caught:
        EmbeddingModel.open(path, config(**values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_model_is_refused(tflite, tmp_path):
    assert f"Not found: {tmp_path / 'none'}." in refused(tmp_path / "none")
    for content in (b"", b"not a model", bytes(100)):
        (tmp_path / "bad.tflite").write_bytes(content)
        assert "bad.tflite is neither." in refused(tmp_path / "bad.tflite")
    assert f"{tmp_path} is neither." in refused(tmp_path)
    # Not only an error: the interpreter would crash on these.
    cut = tmp_path / "cut.tflite"
    for share in (0.1, 0.5, 0.99):
        content = tflite.read_bytes()
        cut.write_bytes(content[: int(share * len(content))])
        assert f"{cut} is cut short or damaged" in refused(cut)


def test_windows_of_another_length_are_refused(tflite, saved):
    text = refused(tflite, window_s=1.0)
    assert "window_s x sample_rate_hz = 100 samples" in text
    assert "float32 [-1, 50]" in text or "float32 [1, 50]" in text
    assert "float32 [-1, 50]" in refused(saved, window_s=0.4, output="embedding")


def test_outputs_that_are_not_there_are_refused(tflite, saved):
    text = refused(tflite, output="embedding")
    assert "the name of a tensor" in text
    assert "'embedding'" in text
    assert "has embedding, label." in refused(saved, output="before_last")


def test_an_output_that_is_no_vector_is_refused(network, tflite):
    (weights,) = [
        d["name"]
        for d in Interpreter(str(tflite)).get_tensor_details()
        if tuple(d["shape"]) == (SIZE, WINDOW)
    ]
    assert "one vector a window" in refused(tflite, output=weights)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"hop_s": 0.6}, "hop_s must not exceed window_s (0.5)"),
        ({"hop_s": 0.001}, "hop_s must span at least one sample"),
        ({"c": 0}, "c: Input should be greater than 0"),
        ({"hops_s": 1}, "hops_s is not a known key"),
    ],
)
def test_configs_that_cannot_be_are_refused(values, text, tmp_path):
    path = tmp_path / "listener.yaml"
    path.write_text("sample_rate_hz: 100\nwindow_s: 0.5\nhop_s: 0.2\noutput: output\n")
    assert load_yaml(ListenerConfig, path, ["c=0.1"]).c == 0.1
    with pytest.raises(ConfigError) as caught:
        load_yaml(ListenerConfig, path, [f"{key}={value}" for key, value in values.items()])
    assert text in str(caught.value)


def test_the_fingerprint_is_that_of_the_embeddings():
    assert config(c=3.0, num_threads=4).embedding_fingerprint == config().embedding_fingerprint
    assert config(hop_s=0.1).embedding_fingerprint != config().embedding_fingerprint
