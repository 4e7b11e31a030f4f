"""YAMNet's network is that of its publication, at stride 16, with the weights of both its files."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import randomize, sound

from rfcx_tf.core.config import BackboneConfig, load_recipe_of_any_kind
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.model.backbones import build_backbone, context_frames
from rfcx_tf.model.embedding import EmbeddingModel
from rfcx_tf.model.yamnet import load_weights

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "listeners" / "yamnet.yaml"
# Table 1 of Howard et al. (2017): stride and filters behind each depthwise convolution.
PUBLISHED = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512),) * 5,
    *((2, 1024), (1, 1024)),
)


def published_network():
    """As published, of Keras's own layers, with random weights."""
    image = keras.Input((None, 64, 1))
    x = image
    for layer in (
        layers.Conv2D(32, 3, 2, padding="same", use_bias=False),
        *(
            layer
            for stride, filters in PUBLISHED
            for layer in (
                layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False),
                layers.Conv2D(filters, 1, use_bias=False),
            )
        ),
    ):
        x = layers.BatchNormalization(epsilon=1e-4, scale=False)(layer(x))
        x = layers.ReLU()(x)
    network = keras.Model(image, x)
    randomize(network)
    return network


@pytest.fixture(scope="module")
def published():
    return published_network()


def values_by_layer(network):
    """(kind of value, array) of every layer that has weights, with a classifier behind."""
    of_layers = [
        [(weight.path.rsplit("/", 1)[-1], weight.numpy()) for weight in layer.weights]
        for layer in network.layers
        if layer.weights
    ]
    classifier = [("kernel", np.zeros((1024, 521), "f4")), ("bias", np.zeros(521, "f4"))]
    return [
        [("depthwise_kernel" if a.ndim == 4 and a.shape[3] == 1 else name, a) for name, a in values]
        for values in of_layers
    ] + [classifier]


def write_h5(path, network):
    """In the layout of Keras 2, as yamnet.h5 is published."""
    with h5py.File(path, "w") as file:
        names = []
        for number, values in enumerate(values_by_layer(network)):
            name = f"layer{number}/conv"
            names.append(name.encode())
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{kind}:0".encode() for kind, _ in values]
            for kind, array in values:
                group[f"{name}/{kind}:0"] = array
        file.attrs["layer_names"] = names


def write_saved_model(folder, network):
    """The variables of a SavedModel that keeps YAMNet inside, before a head of its own."""
    inside, head = tf.Module(), tf.Module()
    for number, values in enumerate(values_by_layer(network)):
        layer = tf.Module()
        for kind, array in values:
            setattr(layer, kind, tf.Variable(array))
        setattr(inside, f"layer_with_weights-{number}", layer)
    head.kernel = tf.Variable(tf.zeros((1024, 2)))
    whole = tf.Module()
    setattr(whole, "layer_with_weights-0", inside)
    setattr(whole, "layer_with_weights-1", head)
    tf.train.Checkpoint(model=whole).write(str(folder / "variables" / "variables"))


@pytest.mark.parametrize("form", ["yamnet.h5", "saved_model"])
def test_every_second_cell_is_that_of_the_published_network(published, form, tmp_path):
    write_h5(tmp_path / "yamnet.h5", published)
    write_saved_model(tmp_path / "saved_model", published)
    network = build_backbone(BackboneConfig(name="yamnet"), 64, 1)
    load_weights(network, str(tmp_path / form))
    # 15 frames of silence before 81 of sound: a patch of 96.
    image = np.random.default_rng(0).normal(size=(2, 81, 64, 1)).astype("f4")
    expected = published(np.pad(image, ((0, 0), (15, 0), (0, 0), (0, 0)))).numpy()
    assert expected.shape == (2, 3, 2, 1024)
    cells = network(image).numpy()
    assert cells.shape == (2, 6, 4, 1024)
    assert expected.std() > 0.1
    np.testing.assert_allclose(cells[:, 1::2, 1::2], expected, rtol=1e-4, atol=1e-4)


def test_a_shift_by_whole_strides_shifts_the_cells():
    network = build_backbone(BackboneConfig(name="yamnet"), 64, 1)
    randomize(network)
    image = np.random.default_rng(1).normal(size=(1, 512, 64, 1)).astype("f4")
    cells = network(image).numpy()
    later = network(np.pad(image, ((0, 0), (32, 0), (0, 0), (0, 0)))).numpy()
    # Further from the ends than a cell sees.
    assert context_frames(network) < 160
    np.testing.assert_allclose(later[:, 12:22], cells[:, 10:20], rtol=1e-3, atol=1e-4)


def test_as_a_listener_it_gives_pooled_cells(published, tmp_path):
    write_h5(tmp_path / "yamnet.h5", published)
    config = load_recipe_of_any_kind(RECIPE, ["window_s=1.0", "output=mean_max"])
    model = EmbeddingModel.open(tmp_path / "yamnet.h5", config)
    windows = 0.1 * sound(2, 16000)
    network = build_backbone(BackboneConfig(name="yamnet"), 64, 1)
    load_weights(network, str(tmp_path / "yamnet.h5"))
    cells = network(FrontEnd(config.network.frontend)(windows)[..., np.newaxis]).numpy()
    expected = np.concatenate([cells.mean(axis=(1, 2)), cells.max(axis=(1, 2))], axis=1)
    assert cells.std() > 0.1
    found = model.embed(windows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # As part of an export: windows of 1 s a second apart.
    exported = model.embed_waveforms(windows.reshape(1, 32000))
    np.testing.assert_allclose(exported[0], found, rtol=1e-4, atol=1e-4)


def test_a_listener_names_what_does_not_fit():
    for override, words in (
        ("output=embedding", "output must be one of mean, max, mean_max"),
        ("sample_rate_hz=32000", r"must be network.frontend.sample_rate_hz \(16000\)"),
        ("network.backbone.weights=yamnet.h5", "weights must be none: --model names them"),
    ):
        with pytest.raises(UserError, match=words):
            load_recipe_of_any_kind(RECIPE, [override])


def test_other_files_are_refused(published, tmp_path):
    network = build_backbone(BackboneConfig(name="yamnet"), 64, 1)
    before = [w.numpy() for w in network.weights]
    with pytest.raises(UserError, match="Not found"):
        load_weights(network, str(tmp_path / "absent.h5"))
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(UserError, match=r"text\.h5 cannot be read"):
        load_weights(network, str(tmp_path / "text.h5"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty cannot be read"):
        load_weights(network, str(tmp_path / "empty"))
    smaller = keras.Model(published.inputs, published.layers[12].output)
    write_h5(tmp_path / "other.h5", smaller)
    with pytest.raises(UserError, match="must hold the layers of YAMNet"):
        load_weights(network, str(tmp_path / "other.h5"))
    write_h5(tmp_path / "nan.h5", published)
    with h5py.File(tmp_path / "nan.h5", "r+") as file:
        file["layer0/conv/layer0/conv/kernel:0"][0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        load_weights(network, str(tmp_path / "nan.h5"))
    for weight, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_weights_of_images_are_not_for_it():
    with pytest.raises(ValueError, match="learned from sound"):
        BackboneConfig(name="yamnet", weights="imagenet")
