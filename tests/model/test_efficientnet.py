"""EfficientNets: the published ones' features and weights, and the same for long sound."""

import sys
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import losses_on_five_examples, randomize, settle, sound

from rfcx_tf.core.config import BackboneConfig, Config, ConfigError, load_config, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.model import efficientnet
from rfcx_tf.model.backbones import build_backbone
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.efficientnet import LocalSqueeze, load_weights
from rfcx_tf.training.classifier import CropClassifier, compile_classifier

PUBLISHED = {
    "efficientnet_b0": keras.applications.EfficientNetB0,
    "efficientnet_b2": keras.applications.EfficientNetB2,
}
KERAS_MODULE = sys.modules[keras.applications.EfficientNetB0.__module__]
CLASSES = [SpeciesClass(number, "") for number in range(3)]


@pytest.fixture
def policy():
    """Sets the global precision; the next test finds the default again."""
    yield keras.mixed_precision.set_global_policy
    keras.mixed_precision.set_global_policy("float32")


def shorten(monkeypatch):
    """Networks of 8 blocks instead of 16, ours and the published ones."""
    repeats = (1, 2, 1, 1, 1, 1, 1)
    stages = zip(efficientnet.STAGES, repeats, strict=True)
    short = [(kernel, n, *others) for (kernel, _, *others), n in stages]
    monkeypatch.setattr(efficientnet, "STAGES", short)
    blocks = zip(KERAS_MODULE.DEFAULT_BLOCKS_ARGS, repeats, strict=True)
    short = [block | {"repeats": n} for block, n in blocks]
    monkeypatch.setattr(KERAS_MODULE, "DEFAULT_BLOCKS_ARGS", short)


@pytest.fixture(autouse=True)
def short_networks(monkeypatch):
    """Short ones, unless a test begins with `monkeypatch.undo()`."""
    shorten(monkeypatch)


@pytest.fixture
def tiny_network(monkeypatch):
    """Five narrow blocks, one of them with a way around it, of stride 16 too."""
    stages = ((3, 1, 16, 1, 1), (5, 2, 24, 6, 2), (3, 1, 40, 6, 2), (5, 1, 80, 6, 2))
    monkeypatch.setattr(efficientnet, "STAGES", stages)
    monkeypatch.setattr(efficientnet, "_SCALES", {"efficientnet_b0": (0.5, 1.0)})


def build(mels, channels, name="efficientnet_b0", **options):
    return build_backbone(BackboneConfig(name=name), mels, channels, **options)


def recipe(tiny_config, dropout=0.5, **training) -> Config:
    values = tiny_config.model_dump()
    values["model"]["backbone"] = {"name": "efficientnet_b0"}
    values["model"]["head"]["dropout"] = dropout
    values["training"] |= training
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def published_files(tmp_path_factory):
    """A keras.applications EfficientNetB0 in the layout that is published, and in Keras 3's."""
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        model = PUBLISHED["efficientnet_b0"](include_top=False, weights=None)
    randomize(model)
    folder = tmp_path_factory.mktemp("published")
    model.save(folder / "efficientnetb0_notop.h5")
    model.save_weights(folder / "own.weights.h5")
    return {"h5": folder / "efficientnetb0_notop.h5", "weights.h5": folder / "own.weights.h5"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_order_of_the_weights_are_those_published(name, monkeypatch):
    monkeypatch.undo()
    ours = build(32, 3, name)
    published = PUBLISHED[name](include_top=False, weights=None)

    def weights(model):
        return [
            (layer.name, [(w.name, w.shape) for w in layer.weights])
            for layer in model.layers
            if layer.weights and not isinstance(layer, keras.layers.Normalization)
        ]

    assert weights(ours) == weights(published)
    assert ours.output_shape == (None, None, 2, published.output_shape[-1])


@pytest.mark.parametrize(
    ("suffix", "channels", "coordinate"), [("h5", 1, False), ("weights.h5", 3, True)]
)
def test_sound_gives_the_features_of_a_grey_image(
    published_files, monkeypatch, suffix, channels, coordinate
):
    """Where both pad alike (lengths of 16 n + 1), squeeze all and have stride 16.

    An image's height is our frequency; a coordinate has no weight yet.
    """
    monkeypatch.setitem(KERAS_MODULE.DEFAULT_BLOCKS_ARGS[5], "strides", 1)
    published = PUBLISHED["efficientnet_b0"](
        include_top=False, weights=None, input_shape=(65, 97, 3)
    )
    published.load_weights(published_files[suffix])
    grey = sound(2, 97, 65, 1)
    # Rescaling divides an image by 255; the normalisation of this file changes nothing.
    image = 255 * np.repeat(grey, 3, axis=3).swapaxes(1, 2)
    expected = published(image).numpy().swapaxes(1, 2)

    backbone = build(65, channels)
    load_weights(backbone, published_files[suffix], coordinate)
    inputs = np.repeat(grey, channels, axis=3)
    if coordinate:
        inputs[..., -1] = sound(2, 97, 65) + 3
    features = backbone(inputs).numpy()
    assert features.shape == (2, 7, 5, 1280)
    assert expected.std() > 0.1
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_imagenet_is_what_keras_downloads(published_files, monkeypatch, tmp_path):
    """Its file, but for its checksum."""
    downloads = []

    def download(url, path, *progress):
        downloads.append(url)
        Path(path).write_bytes(published_files["h5"].read_bytes())

    monkeypatch.setattr(keras.src.utils.file_utils, "urlretrieve", download)
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    monkeypatch.setitem(KERAS_MODULE.WEIGHTS_HASHES, "b0", (None, None))
    fetched, read = (build(32, 2) for _ in range(2))
    load_weights(fetched, "imagenet", False)
    load_weights(read, published_files["h5"], False)
    for one, other in zip(fetched.get_weights(), read.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [url.rpartition("/")[2] for url in downloads] == ["efficientnetb0_notop.h5"]


def test_weights_that_cannot_be_had_are_refused_in_one_line(published_files, monkeypatch, tmp_path):
    def no_network(*arguments):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(keras.src.utils.file_utils, "urlretrieve", no_network)
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    (tmp_path / "text.h5").write_text("no weights")
    backbone = build(32, 1, "efficientnet_b2")
    before = backbone.get_weights()
    for source, words in {
        "imagenet": "efficientnetb2_notop.h5, which failed: URL fetch failure .* that file",
        str(tmp_path / "nowhere.h5"): "Not found: .*nowhere.h5",
        str(tmp_path / "text.h5"): "text.h5 cannot be loaded",
        str(published_files["h5"]): "EfficientNetB2 .*notop.h5 cannot be loaded",
        str(published_files["weights.h5"]): "EfficientNetB2 .*own.weights.h5 cannot be loaded",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            load_weights(backbone, source, False)
        assert "\n" not in str(caught.value)
    for one, other in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_squeeze_by_hand():
    features = sound(2, 7, 3, 4)
    local = LocalSqueeze(5)(features).numpy()
    assert local.shape == (2, 7, 1, 4)
    for frame in range(7):
        there = features[:, max(0, frame - 2) : frame + 3]
        np.testing.assert_allclose(local[:, frame, 0], there.mean(axis=(1, 2)), atol=1e-6)
    whole = LocalSqueeze(None)(features).numpy()
    np.testing.assert_allclose(whole[:, 0, 0], features.mean(axis=(1, 2)), atol=1e-6)
    # A window that reaches past both ends from everywhere is the whole input.
    np.testing.assert_allclose(LocalSqueeze(13)(features), np.repeat(whole, 7, axis=1), atol=1e-6)


def test_features_of_a_recording_are_those_of_its_crops(monkeypatch):
    """Away from a crop's borders: convolutions look 313 frames aside, 16 squeezes 16 each.

    That is 36 cells.
    """
    monkeypatch.undo()
    keras.utils.set_random_seed(0)
    model = build(32, 1, window_frames=32)
    recording = sound(1, 1800, 32, 1)
    settle(model, recording)
    whole = model(recording).numpy()[0]
    scale = np.abs(whole).max()
    spread = np.std(whole[36:-36], axis=0).max()
    print(f"scale {scale:.2g}, spread {spread:.2g}")
    assert spread > 0.05 * scale
    for first_cell, frames in ((7, 1400), (12, 1333)):
        begin = 16 * first_cell
        own = model(recording[:, begin : begin + frames]).numpy()[0]
        assert len(own) == -(-frames // 16)
        difference = np.abs(own - whole[first_cell : first_cell + len(own)]).max(axis=(1, 2))
        assert difference[36:-36].max() < 1e-5 * scale
        # The zeros at its borders do show.
        assert difference[0] > 0.05 * scale
        print("largest difference by cells from the border", difference[:36:4])


@pytest.mark.parametrize(
    "option",
    ["width=32", "stem_kernel=3", "stem_stride=1", "stem_pooling=true", "stage_strides=[1,1,2,2]"],
)
def test_options_of_residual_networks_are_refused(tmp_path, option):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: {backbone: {name: efficientnet_b2}}")
    config = load_config(path)
    assert config.model.backbone.stride == (16, 16)
    # What `save_config` writes: every value, defaults included.
    save_config(config, tmp_path / "whole.yaml")
    assert load_config(tmp_path / "whole.yaml") == config
    with pytest.raises(ConfigError, match="leave it out for efficientnet_b2") as caught:
        load_config(path, [f"model.backbone.{option}"])
    assert f"model.backbone.{option.partition('=')[0]} is an option" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_window_reaches_as_far_at_every_stage(tiny_config):
    """4 cells of 16 frames, in frames of each stage."""
    detector = build_detector(recipe(tiny_config), CLASSES, {})
    backbone = detector.get_layer("efficientnet_b0")
    windows = {
        layer.name[:6]: layer.window for layer in backbone.layers if isinstance(layer, LocalSqueeze)
    }
    expected = {1: 33, 2: 17, 3: 9, 4: 5, 5: 5, 6: 5, 7: 5}
    assert windows == {f"block{stage}": window for stage, window in expected.items()}


def test_initial_weights_go_by_the_seed_and_differ_between_layers(tiny_network):
    models = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        models.append(build(32, 1))
    for layer in ("stem_conv", "block2b_dwconv", "top_conv"):
        first, second, third = (model.get_layer(layer).get_weights()[0] for model in models)
        np.testing.assert_array_equal(first, second)
        assert np.corrcoef(first.ravel(), third.ravel())[0, 1] < 0.3
    one, other = (
        models[0].get_layer(f"{n}_expand_conv").get_weights()[0] for n in ("block2b", "block3a")
    )
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.3


def test_synchronized_normalisation_has_the_same_weights(tiny_network):
    alone, together = (
        build(32, 1, window_frames=64, synchronized=value) for value in (False, True)
    )
    layers = [
        layer for layer in together.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    # Three a block but for the first, of the stem and of the top.
    assert len(layers) == 3 * 5 - 1 + 2
    assert all(layer.synchronized for layer in layers)
    together.set_weights(alone.get_weights())
    image = sound(2, 64, 32, 1)
    np.testing.assert_allclose(together(image), alone(image), atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_steps(tiny_config, policy, tiny_network, precision):
    """An odd batch of odd length; five examples are soon learned."""
    policy(precision)
    keras.utils.set_random_seed(0)
    config = recipe(tiny_config, dropout=0.0, schedule="plateau", monitor="val_lrap")
    classifier = CropClassifier(build_detector(config, CLASSES, {}), config)
    compile_classifier(classifier, config.training)
    losses = losses_on_five_examples(classifier, steps=3)
    print(f"{precision}: losses {losses}")
    assert losses[2] < 0.7 * losses[0]
    assert all(np.isfinite(weight).all() for weight in classifier.get_weights())


def test_bfloat16_gives_nearly_the_features_of_float32(policy, tiny_network):
    features = {}
    for precision in ("float32", "mixed_bfloat16"):
        policy(precision)
        keras.utils.set_random_seed(0)
        model = build(32, 1, window_frames=64)
        randomize(model)
        features[precision] = np.float32(model(sound(3, 71, 32, 1)))
    error = features["mixed_bfloat16"] - features["float32"]
    assert error.std() < 0.03 * features["float32"].std()


def test_a_saved_detector_comes_back_in_every_format(tiny_config, tiny_network, tmp_path):
    detector = build_detector(recipe(tiny_config), CLASSES, {})
    randomize(detector)
    spectrogram = np.abs(sound(2, 201, 32))
    expected = detector(spectrogram)["logits"].numpy()
    assert expected.shape == (2, 10, 3)
    detector.save(tmp_path / "detector.keras")
    copy = keras.models.load_model(tmp_path / "detector.keras")
    np.testing.assert_array_equal(copy(spectrogram)["logits"], expected)
    detector.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    # Of any length.
    np.testing.assert_allclose(served.serve(spectrogram)["logits"], expected, atol=1e-5)
