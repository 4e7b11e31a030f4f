"""MobileNetV2 and EfficientNet-Lite: the features of independent networks with the same tensors."""

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.backbones import build_backbone
from rfcx_tf.model.library import check_network_is_there
from rfcx_tf.model.mobilenet import load_weights

# Expansion and blocks of the seven stages of both (Sandler et al. 2018, table 2; Tan and Le 2019,
# table 1).
STAGES = {
    "mobilenet_v2": ((1, 1), (6, 2), (6, 3), (6, 4), (6, 3), (6, 3), (6, 1)),
    "efficientnet_lite0": ((1, 1), (6, 2), (6, 2), (6, 3), (6, 3), (6, 4), (6, 1)),
}


def torchvision_names(stages):
    """Convolutions and normalisations from input to output, as torchvision numbers them."""
    yield from ("features.0.0", "features.0.1")
    number = 0
    for expansion, blocks in stages:
        for _ in range(blocks):
            number += 1
            inside = f"features.{number}.conv"
            yield from (f"{inside}.0.0", f"{inside}.0.1")
            if expansion > 1:
                yield from (f"{inside}.1.0", f"{inside}.1.1", f"{inside}.2", f"{inside}.3")
            else:
                yield from (f"{inside}.1", f"{inside}.2")
    yield from (f"features.{number + 1}.0", f"features.{number + 1}.1")


def timm_names(stages):
    yield from ("conv_stem", "bn1")
    for stage, (expansion, blocks) in enumerate(stages):
        for block in range(blocks):
            inside = f"model.blocks.{stage}.{block}"
            if expansion > 1:
                yield from (f"{inside}.conv_pw", f"{inside}.bn1", f"{inside}.conv_dw")
                yield from (f"{inside}.bn2", f"{inside}.conv_pwl", f"{inside}.bn3")
            else:
                yield from (f"{inside}.conv_dw", f"{inside}.bn1")
                yield from (f"{inside}.conv_pw", f"{inside}.bn2")
    yield from ("conv_head", "bn2")


def lite_pytorch_names(stages):
    yield from ("_conv_stem", "_bn0")
    number = 0
    for expansion, blocks in stages:
        for _ in range(blocks):
            inside = f"_blocks.{number}"
            if expansion > 1:
                yield from (f"{inside}._expand_conv", f"{inside}._bn0")
            yield from (f"{inside}._depthwise_conv", f"{inside}._bn1")
            yield from (f"{inside}._project_conv", f"{inside}._bn2")
            number += 1
    yield from ("_conv_head", "_bn1")


def fill_and_save(network, names, path):
    """Gives a network random weights, and saves them as PyTorch would, with a classifier."""
    random = np.random.default_rng(0)
    with_weights = [layer for layer in network.layers if layer.weights]
    tensors = {"classifier.1.weight": np.zeros((5, 1280), "f4")}
    for layer, name in zip(with_weights, names, strict=True):
        if isinstance(layer, layers.BatchNormalization):
            values = [random.uniform(0.5, 1.5, w.shape) for w in layer.weights]
            parts = ("weight", "bias", "running_mean", "running_var")
            tensors |= {f"{name}.{p}": v.astype("f4") for p, v in zip(parts, values, strict=True)}
            tensors[f"{name}.num_batches_tracked"] = np.array(7)
        else:
            size = layer.kernel_size
            inputs, outputs = layer.kernel.shape[2:]
            values = [random.normal(0, (2 / (inputs * size[0] ** 2)) ** 0.5, layer.kernel.shape)]
            if isinstance(layer, layers.DepthwiseConv2D):
                values[0] *= inputs**0.5
                kernel = values[0].transpose(2, 3, 0, 1)
            else:
                kernel = values[0].transpose(3, 2, 0, 1)
            tensors[f"{name}.weight"] = np.ascontiguousarray(kernel, "f4")
            assert outputs in (1, len(kernel))
        layer.set_weights(values)
    save_file(tensors, path)


@pytest.mark.parametrize("names", [torchvision_names, timm_names])
def test_mobilenet_has_the_features_of_keras_applications(names, tmp_path):
    # At odd sizes Keras pads both sides alike, as torchvision does at all sizes.
    published = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(65, 129, 3)
    )
    for layer in published.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.epsilon = 1e-5
    path = tmp_path / "mobilenet.safetensors"
    fill_and_save(published, names(STAGES["mobilenet_v2"]), path)
    image = np.random.default_rng(1).normal(size=(1, 65, 129, 3)).astype("f4")
    expected = published(image).numpy()
    assert expected.std() > 0.1
    network = build_backbone(BackboneConfig(name="mobilenet_v2"), 65, 3)
    load_weights(network, str(path))
    cells = network(image.swapaxes(1, 2)).numpy()
    assert cells.shape == (1, 9, 5, 1280)
    np.testing.assert_allclose(
        cells[:, ::2, ::2], expected.swapaxes(1, 2), rtol=1e-3, atol=1e-3 * expected.std()
    )


@pytest.mark.parametrize("names", [lite_pytorch_names, timm_names])
def test_efficientnet_lite_has_the_features_of_keras_cv(names, tmp_path):
    from rfcx_tf.model.library import _library_network

    try:
        check_network_is_there(BackboneConfig(name="keras_cv:efficientnetlite_b0"))
    except UserError as error:
        pytest.skip(str(error))
    published = _library_network("keras_cv:efficientnetlite_b0", (64, 96, 3))
    path = tmp_path / "lite.safetensors"
    fill_and_save(published, names(STAGES["efficientnet_lite0"]), path)
    # 15 columns of zeros before 81: whole strides.
    image = np.random.default_rng(1).normal(size=(1, 64, 81, 3)).astype("f4")
    expected = published(np.pad(image, ((0, 0), (0, 0), (15, 0), (0, 0)))).numpy()
    assert expected.std() > 0.1
    network = build_backbone(BackboneConfig(name="efficientnet_lite0"), 64, 3)
    load_weights(network, str(path))
    cells = network(image.swapaxes(1, 2)).numpy()
    assert cells.shape == (1, 6, 4, 1280)
    np.testing.assert_allclose(
        cells[:, 1::2, 1::2], expected.swapaxes(1, 2), rtol=1e-3, atol=1e-3 * expected.std()
    )


# Of the published networks: all parameters less those of the classifier.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mobilenet_v2", 3_504_872 - 1_281_000),
        ("efficientnet_lite0", 4_652_008 - 1_281_000),
        ("efficientnet_lite1", 5_416_680 - 1_281_000),
        ("efficientnet_lite2", 6_092_072 - 1_281_000),
    ],
)
def test_sizes_are_those_published(name, parameters):
    network = build_backbone(BackboneConfig(name=name), 64, 3)
    assert sum(int(np.prod(w.shape)) for w in network.trainable_weights) == parameters


def test_other_files_are_refused(tmp_path):
    network = build_backbone(BackboneConfig(name="mobilenet_v2"), 64, 1)
    save_file({"conv1.weight": np.zeros((4, 3, 7, 7), "f4")}, tmp_path / "resnet.safetensors")
    with pytest.raises(UserError, match=r"has others, such as conv1\.weight"):
        load_weights(network, str(tmp_path / "resnet.safetensors"))
    save_file({"conv_stem.weight": np.zeros((32, 3, 3, 3), "f4")}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"has no bn1\.weight"):
        load_weights(network, str(tmp_path / "part.safetensors"))
    with pytest.raises(ValueError, match="none or a file"):
        BackboneConfig(name="mobilenet_v2", weights="imagenet")
