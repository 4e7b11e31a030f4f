"""Published weights: the same features as PyTorch, and one line for every unfit file."""

import re
import sys
import types

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from rfcx_tf.core.config import BackboneConfig, Config
from rfcx_tf.core.config.backbone import BACKBONES
from rfcx_tf.core.errors import UserError
from rfcx_tf.model import efficientnet
from rfcx_tf.model.backbones import begin_from_weights, build_backbone
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.resnet_weights import load_weights
from rfcx_tf.training import fold as fold_module
from rfcx_tf.training.run import train_run

WIDTH = 4
BLOCKS = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2], "resnet50": [3, 4, 6, 3]}


@pytest.fixture(autouse=True)
def float32_policy():
    """A run sets the global precision; the next test wants the default again."""
    yield
    keras.mixed_precision.set_global_policy("float32")


def torchvision_tensors(network="resnet18", width=WIDTH, channels=3):
    """A random state_dict by torchvision's names (models/resnet.py), classifier included."""
    random = np.random.default_rng(0)
    tensors = {}

    def convolution(name, filters, inputs, size):
        shape = (filters, inputs, size, size)
        scale = np.sqrt(2 / (inputs * size**2))
        tensors[f"{name}.weight"] = random.normal(0, scale, shape).astype(np.float32)

    def normalization(name, filters):
        for part in ("weight", "running_var"):
            tensors[f"{name}.{part}"] = random.uniform(0.5, 1.5, filters).astype(np.float32)
        for part in ("bias", "running_mean"):
            tensors[f"{name}.{part}"] = random.normal(0, 0.3, filters).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    convolution("conv1", width, channels, 7)
    normalization("bn1", width)
    inputs = width
    for stage, blocks in enumerate(BLOCKS[network], start=1):
        narrow = width * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            if network == "resnet50":
                parts, outputs = [(1, narrow), (3, narrow), (1, 4 * narrow)], 4 * narrow
            else:
                parts, outputs = [(3, narrow), (3, narrow)], narrow
            before = inputs
            for number, (size, filters) in enumerate(parts, start=1):
                convolution(f"{name}.conv{number}", filters, before, size)
                normalization(f"{name}.bn{number}", filters)
                before = filters
            if inputs != outputs:
                convolution(f"{name}.downsample.0", outputs, inputs, 1)
                normalization(f"{name}.downsample.1", outputs)
            inputs = outputs
    tensors["fc.weight"] = np.ones((10, inputs), np.float32)
    tensors["fc.bias"] = np.ones(10, np.float32)
    return tensors


def torchvision_forward(tensors, network, image, pooling):
    """torchvision's ResNet in NumPy, less its classifier: [C, height, width] -> the same."""

    def windows(x, size, stride, fill):
        edge = size // 2
        x = np.pad(x, [(0, 0), (edge, edge), (edge, edge)], constant_values=fill)
        views = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
        return views[:, ::stride, ::stride]

    def convolve(x, name, stride=1):
        kernel = tensors[f"{name}.weight"].astype(np.float64)
        return np.einsum("ihwyx,oiyx->ohw", windows(x, kernel.shape[2], stride, 0), kernel)

    def normalize(x, name):
        weight, bias, mean, var = (
            tensors[f"{name}.{part}"][:, np.newaxis, np.newaxis].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    x = np.maximum(normalize(convolve(image, "conv1", 2), "bn1"), 0)
    if pooling:
        x = windows(x, 3, 2, -np.inf).max(axis=(3, 4))
    # Where the stride of a block stands: torchvision's bottleneck has it in the 3x3.
    convolutions, strided = (3, 2) if network == "resnet50" else (2, 1)
    for stage, blocks in enumerate(BLOCKS[network], start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = x
            for number in range(1, convolutions + 1):
                y = convolve(y, f"{name}.conv{number}", stride if number == strided else 1)
                y = normalize(y, f"{name}.bn{number}")
                if number < convolutions:
                    y = np.maximum(y, 0)
            if f"{name}.downsample.0.weight" in tensors:
                x = normalize(convolve(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = np.maximum(x + y, 0)
    return x


def transformers_name(name):
    """What Hugging Face's ResNetForImageClassification calls a tensor of torchvision's."""
    if name.startswith("fc."):
        return name.replace("fc.", "classifier.1.")
    *block, layer, part = name.split(".")
    kinds = {"conv": "convolution", "bn": "normalization"}
    if name.startswith(("conv1", "bn1")):
        return f"resnet.embedder.embedder.{kinds[layer[:-1]]}.{part}"
    stage, index = int(block[0].removeprefix("layer")) - 1, block[1]
    if block[2:] == ["downsample"]:
        inside = f"shortcut.{['convolution', 'normalization'][int(layer)]}"
    else:
        inside = f"layer.{int(layer[-1]) - 1}.{kinds[layer[:-1]]}"
    return f"resnet.encoder.stages.{stage}.layers.{index}.{inside}.{part}"


def backbone_of(network="resnet18", width=WIDTH, channels=3, mels=64, **options):
    config = BackboneConfig(name=network, width=width, **options)
    return build_backbone(config, mels=mels, channels=channels)


def features(backbone, image):
    """[channels, mels, frames] -> [features, bands, cells], as PyTorch has its axes."""
    return np.array(backbone(np.float32(image.T[np.newaxis])))[0].T


def saved(tmp_path, tensors):
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    return path


def one_line(excinfo):
    text = str(excinfo.value)
    assert "\n" not in text and text.endswith(".")
    return text


@pytest.mark.parametrize("pooling", [True, False])
@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
def test_features_are_those_of_torchvision(tmp_path, network, pooling):
    tensors = torchvision_tensors(network)
    backbone = backbone_of(network, stem_pooling=pooling)
    load_weights(backbone, str(saved(tmp_path, tensors)))
    image = np.random.default_rng(1).normal(size=(3, 64, 90))
    expected = torchvision_forward(tensors, network, image, pooling)
    assert expected.shape[1:] == ((2, 3) if pooling else (4, 6))
    assert expected.std() > 0.1
    np.testing.assert_allclose(
        features(backbone, image), expected, rtol=0, atol=1e-5 * expected.max()
    )


@pytest.mark.parametrize("pooling", [True, False])
@pytest.mark.parametrize("network", ["resnet34", "resnet50"])
def test_features_are_those_of_transformers_in_pytorch(tmp_path, network, pooling):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    wide = 4 if network == "resnet50" else 1
    model = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            layer_type="bottleneck" if network == "resnet50" else "basic",
            depths=[3, 4, 6, 3],
            hidden_sizes=[wide * size for size in (64, 128, 256, 512)],
            embedding_size=64,
        )
    ).eval()
    for name, tensor in model.state_dict().items():
        if "normalization" in name and tensor.ndim == 1:
            if name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.0)
            else:
                tensor.normal_(0.0, 0.1)
    model.save_pretrained(tmp_path)
    if not pooling:
        model.resnet.embedder.pooler = torch.nn.Identity()
    image = torch.randn(1, 3, 64, 90)
    with torch.no_grad():
        expected = model.resnet(image).last_hidden_state[0].numpy()
    backbone = backbone_of(network, width=64, stem_pooling=pooling)
    load_weights(backbone, str(tmp_path / "model.safetensors"))
    difference = np.abs(features(backbone, image[0].numpy()) - expected).max()
    print(f"{network}, pooling {pooling}: {difference:.2g}, features to {expected.max():.3g}")
    assert expected.std() > 0.1
    assert difference < 1e-3


@pytest.mark.parametrize(
    "rename",
    [transformers_name, "module.{}".format, "model.backbone.{}".format],
    ids=["transformers", "module", "model.backbone"],
)
def test_every_naming_gives_the_same_weights(tmp_path, rename):
    tensors = torchvision_tensors()
    expected, found = backbone_of(), backbone_of()
    load_weights(expected, str(saved(tmp_path, tensors)))
    renamed = {rename(name): tensor for name, tensor in tensors.items()}
    load_weights(found, str(saved(tmp_path, renamed)))
    for one, other in zip(expected.weights, found.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_frequency_is_height(tmp_path):
    tensors = torchvision_tensors()
    backbone = backbone_of(channels=3)
    load_weights(backbone, str(saved(tmp_path, tensors)))
    kernel = np.array(backbone.get_layer("stem_conv").kernel)
    assert kernel[1, 5, 2, 3] == tensors["conv1.weight"][3, 2, 5, 1]


@pytest.mark.parametrize(
    ("in_file", "channels", "coordinate", "shares"),
    [
        (3, 3, False, None),
        (3, 1, False, [1]),
        (3, 2, False, [1 / 2, 1 / 2]),
        (3, 2, True, [1, 0]),
        (3, 3, True, [1 / 2, 1 / 2, 0]),
        (1, 1, False, [1]),
        (1, 2, False, [1 / 2, 1 / 2]),
    ],
)
def test_first_convolution_fits_the_channels(tmp_path, in_file, channels, coordinate, shares):
    tensors = torchvision_tensors(channels=in_file)
    backbone = backbone_of(channels=channels)
    path = saved(tmp_path, tensors)
    load_weights(backbone, str(path), coordinate=coordinate)
    kernel = np.array(backbone.get_layer("stem_conv").kernel)
    published = tensors["conv1.weight"]
    for channel in range(channels):
        if shares is None:
            expected = published[:, channel]
        else:
            expected = shares[channel] * published.sum(axis=1)
        np.testing.assert_allclose(kernel[:, :, channel].T, expected, rtol=1e-6, atol=1e-7)


def test_half_precision_files_are_read(tmp_path):
    tensors = torchvision_tensors()
    half = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    backbone = backbone_of()
    load_weights(backbone, str(saved(tmp_path, half)))
    assert backbone.weights[0].dtype == "float32"
    np.testing.assert_array_equal(
        backbone.get_layer("stage2_block1_down_conv").kernel,
        half["layer2.0.downsample.0.weight"].T.astype(np.float32),
    )


def without(name):
    def change(tensors):
        del tensors[name]

    return change


def with_tensor(name, value):
    def change(tensors):
        tensors[name] = np.asarray(value, np.float32)

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (without("layer3.1.bn2.running_var"), "has no layer3.1.bn2.running_var"),
        (without("conv1.weight"), "has no conv1.weight"),
        (with_tensor("layer1.0.se.weight", [1.0]), "has layer1.0.se.weight as well"),
        (with_tensor("bn1.bias", np.ones(3)), "has bn1.bias in shape [3], not [4]"),
        (
            with_tensor("layer1.0.conv2.weight", np.ones((4, 4, 1, 1))),
            "has layer1.0.conv2.weight in shape [4, 4, 1, 1], not [4, 4, 3, 3]",
        ),
        (
            with_tensor("conv1.weight", np.ones((4, 3, 3, 3))),
            "has conv1.weight in shape [4, 3, 3, 3], not [4, 3, 7, 7]",
        ),
        (
            with_tensor("conv1.weight", np.ones(4)),
            "has conv1.weight in shape [4], not [4, 3, 7, 7]",
        ),
        (with_tensor("bn1.bias", [0, 0, np.nan, 0]), "has NaN or infinity in bn1.bias"),
        (with_tensor("module.bn1.bias", np.ones(4)), "has bn1.bias under two names"),
    ],
)
def test_unfit_tensors_are_named_and_nothing_is_changed(tmp_path, change, found):
    tensors = torchvision_tensors()
    change(tensors)
    path = saved(tmp_path, tensors)
    backbone = backbone_of()
    before = [np.array(weight) for weight in backbone.weights]
    with pytest.raises(UserError) as excinfo:
        load_weights(backbone, str(path))
    assert f"{path} {found}" in one_line(excinfo)
    for weight, value in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    ("network", "in_file", "found"),
    [
        ("resnet18", "resnet10", "resnet18. {} has no layer1.1.conv1.weight"),
        ("resnet10", "resnet18", "resnet10. {} has layer1.1.bn1.bias as well"),
        ("resnet18", "resnet50", "resnet18. {} has layer1.0.bn3.bias as well"),
    ],
)
def test_another_depth_is_refused(tmp_path, network, in_file, found):
    path = saved(tmp_path, torchvision_tensors(in_file))
    with pytest.raises(UserError) as excinfo:
        load_weights(backbone_of(network), str(path))
    assert found.format(path) in one_line(excinfo)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("gone.safetensors", None, "Not found: "),
        ("text.safetensors", "species,score\n" * 9, "cannot be read as a safetensors file"),
        ("empty.safetensors", "", "cannot be read as a safetensors file"),
        ("weights.h5", "x", "must be none, imagenet or a file that ends in .safetensors"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, found):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as excinfo:
        load_weights(backbone_of("resnet10"), str(path))
    assert found in one_line(excinfo) and str(path) in one_line(excinfo)


def test_pytorch_files_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "resnet18.pth"
    path.write_bytes(b"x")
    with pytest.raises(UserError) as excinfo:
        load_weights(backbone_of("resnet10"), str(path))
    assert re.search(r"need PyTorch.*Convert it .*save_file", one_line(excinfo))


@pytest.mark.parametrize("wrap", [dict, lambda tensors: {"state_dict": tensors, "epoch": 3}])
def test_pytorch_files(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    tensors = torchvision_tensors()
    path = tmp_path / "resnet18.pth"
    torch.save(wrap({name: torch.tensor(value) for name, value in tensors.items()}), path)
    backbone = backbone_of()
    load_weights(backbone, str(path))
    np.testing.assert_array_equal(
        backbone.get_layer("stage4_block2_2_conv").kernel, tensors["layer4.1.conv2.weight"].T
    )


@pytest.mark.parametrize("content", [None, [1, 2], {"epoch": 3}])
def test_pytorch_files_of_something_else(tmp_path, content):
    torch = pytest.importorskip("torch")
    path = tmp_path / "checkpoint.pt"
    if content is None:
        path.write_text("species,score\n")
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"cannot be read as a PyTorch|holds something else"):
        load_weights(backbone_of("resnet10"), str(path))


def hub(monkeypatch, download):
    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_imagenet_comes_from_the_hub(tmp_path, monkeypatch):
    tensors = torchvision_tensors()
    path = saved(tmp_path, tensors)
    asked = []
    hub(monkeypatch, lambda *arguments: asked.append(arguments) or str(path))
    backbone = backbone_of()
    load_weights(backbone, "imagenet")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    np.testing.assert_array_equal(backbone.get_layer("stem_bn").beta, tensors["bn1.bias"])


def test_imagenet_without_network(monkeypatch):
    def fail(*_):
        raise OSError("We cannot reach\nthe hub.")

    hub(monkeypatch, fail)
    with pytest.raises(UserError) as excinfo:
        load_weights(backbone_of(), "imagenet")
    assert "which failed: We cannot reach the hub. Try again" in one_line(excinfo)
    assert "https://huggingface.co/timm/resnet18.a1_in1k" in one_line(excinfo)


def test_imagenet_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError) as excinfo:
        load_weights(backbone_of(), "imagenet")
    assert "pip install huggingface_hub, or set model.backbone.weights" in one_line(excinfo)


def test_imagenet_of_a_network_that_nobody_published():
    with pytest.raises(UserError, match=r"resnet18, resnet34, resnet50\. Received: resnet10"):
        load_weights(backbone_of("resnet10"), "imagenet")


def test_efficientnets_load_their_own(monkeypatch):
    loaded = []
    monkeypatch.setattr(efficientnet, "load_weights", lambda *args: loaded.append(args))
    backbone = {"name": "efficientnet_b0", "weights": "imagenet"}
    config = Config.model_validate({"model": {"backbone": backbone, "frequency_coordinate": True}})
    detector = types.SimpleNamespace(get_layer=lambda name: name.upper())
    begin_from_weights(detector, config)
    assert loaded == [("EFFICIENTNET_B0", "imagenet", True)]


def test_a_fold_begins_from_a_file_and_needs_it_never_again(
    tiny_config, tiny_shards, tmp_path, monkeypatch, steps_without_graphs
):
    # A network smaller than those that are published.
    small = BACKBONES["resnet10"]._replace(check=lambda config: None)
    monkeypatch.setitem(BACKBONES, "resnet10", small)
    tensors = torchvision_tensors("resnet10")
    path = saved(tmp_path, tensors)
    values = tiny_config.model_dump()
    values["model"]["backbone"] = {"name": "resnet10", "width": WIDTH, "weights": str(path)}
    values["model"]["frequency_coordinate"] = True
    # So slow that two steps leave the weights where they began.
    values["training"] |= {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4}
    values["training"]["learning_rate"] = 1e-12
    values["augment"] |= {"fp_flip": 0, "fp_cut_paste": 0, "fp_mixup": 0}
    values["pseudo"]["mixup"] = 0
    config = Config.model_validate(values)

    def stop(*arguments):
        raise KeyboardInterrupt

    def train():
        with steps_without_graphs():
            return train_run(config, tiny_shards, tmp_path / "run", [0], verbose=False)

    # Stopped after the last epoch, it goes on there: validates, and predicts.
    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "_predict_held_out", stop)
        with pytest.raises(KeyboardInterrupt):
            train()
    path.unlink()
    run = train()
    assert run.figures(0)["epochs"] == 1
    detector = build_detector(config, run.info.classes, run.info.mean_box_s)
    detector.load_weights(run.weights(0))
    backbone = detector.get_layer("resnet10")
    stem = np.array(backbone.get_layer("stem_conv").kernel)
    np.testing.assert_allclose(stem[:, :, 0].T, tensors["conv1.weight"].sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(stem[:, :, 1], 0, atol=1e-6)
    gamma = backbone.get_layer("stage4_block1_2_bn").gamma
    np.testing.assert_allclose(gamma, tensors["layer4.0.bn2.weight"], atol=1e-6)


def test_a_fold_is_not_trained_from_a_file_that_is_not_there(tiny_config, tiny_shards, tmp_path):
    values = tiny_config.model_dump()
    values["model"]["backbone"] = {"name": "resnet18", "weights": "nowhere.safetensors"}
    with pytest.raises(UserError, match=r"Not found: nowhere\.safetensors"):
        train_run(Config.model_validate(values), tiny_shards, tmp_path / "run", [0], verbose=False)
    assert not (tmp_path / "run").exists(), "a corrected path would be another recipe"
