"""Networks of keras-cv and keras-hub: what the libraries compute, as a backbone that slides."""

import functools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import losses_on_five_examples, randomize, settle, sound

from rfcx_tf.core.config import BackboneConfig, Config, ConfigError, load_config
from rfcx_tf.core.config.library_networks import LIBRARY_NETWORKS
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.model import library
from rfcx_tf.model.backbones import build_backbone, context_frames
from rfcx_tf.model.detector import build_detector
from rfcx_tf.serving.litert import convert_to_litert, litert_metadata, load_convertible
from rfcx_tf.training.classifier import CropClassifier, compile_classifier
from rfcx_tf.training.run import train_run

_BLOCKS = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 3],
    "stackwise_num_repeats": [1, 1, 2, 1, 1],
    "stackwise_input_filters": [8, 8, 8, 8, 8],
    "stackwise_output_filters": [8, 8, 8, 8, 8],
    "stackwise_expansion_ratios": [1, 2, 2, 2, 2],
    "stackwise_strides": [1, 2, 2, 2, 2],
}
_CV_BLOCKS = _BLOCKS | {"width_coefficient": 1.0, "depth_coefficient": 1.0}
_SQUEEZES = {"stackwise_squeeze_and_excite_ratios": [0.25] * 5}
# By the name of a published network: another one of its class, so small that it takes no time.
SMALL = {
    "keras_cv:resnet18": {
        "stackwise_filters": [64, 16, 16],
        "stackwise_blocks": [1, 1, 2],
        "stackwise_strides": [1, 2, 2],
        "block_type": "basic_block",
    },
    "keras_cv:resnet50": {
        "stackwise_filters": [64, 16, 16],
        "stackwise_blocks": [1, 2, 1],
        "stackwise_strides": [1, 2, 2],
    },
    "keras_cv:resnet18_v2": {
        "stackwise_filters": [64, 16, 16],
        "stackwise_blocks": [2, 2, 2],
        "stackwise_strides": [1, 2, 2],
        "block_type": "basic_block",
    },
    "keras_cv:densenet121": {"stackwise_num_repeats": [1, 2, 1, 1], "growth_rate": 4},
    "keras_cv:efficientnetlite_b0": _CV_BLOCKS | {"stackwise_input_filters": [32, 8, 8, 8, 8]},
    "keras_cv:efficientnetv1_b0": _CV_BLOCKS | _SQUEEZES,
    "keras_cv:efficientnetv2_b0": _CV_BLOCKS
    | {
        "stackwise_squeeze_and_excite_ratios": [0, 0, 0.25, 0.25, 0.25],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * 2,
    },
    "keras_cv:mobilenet_v3_small": {
        "stackwise_expansion": [1, 2, 3, 2],
        "stackwise_filters": [8, 8, 8, 8],
        "stackwise_kernel_size": [3, 5, 5, 3],
        "stackwise_stride": [2, 2, 2, 2],
        "stackwise_se_ratio": [0.25, None, 0.25, 0.25],
        "stackwise_activation": ["relu", "relu", "hard_swish", "hard_swish"],
    },
    "keras_cv:yolo_v8_xs_backbone": {
        "stackwise_channels": [8, 8, 8, 8],
        "stackwise_depth": [1, 1, 2, 1],
    },
    "keras_hub:resnet_18": {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 16, 16],
        "stackwise_num_blocks": [1, 1, 2],
        "stackwise_num_strides": [1, 2, 2],
        "block_type": "basic_block",
    },
    "keras_hub:densenet_121": {"stackwise_num_repeats": [1, 2, 1, 1], "growth_rate": 4},
    "keras_hub:efficientnet_b0": LIBRARY_NETWORKS["keras_hub"]["efficientnet_b0"].sizes
    | _CV_BLOCKS
    | _SQUEEZES
    | {"stackwise_block_types": ["v1"] * 5},
}
NAMES = list(SMALL)
CLASSES = [SpeciesClass(number, "") for number in range(3)]


# Parameters of whole networks for images of three channels, without classifier: as the libraries'
# presets say, MobileNet as keras.applications has it, and EfficientNet-B0 too, without its
# normalisation's 7.
PARAMETERS = {
    "keras_cv:resnet18": 11_186_112,
    "keras_cv:resnet18_v2": 11_183_488,
    "keras_cv:yolo_v8_xs_backbone": 1_277_680,
    "keras_cv:mobilenet_v3_small": 939_120,
    "keras_hub:resnet_18": 11_186_112,
    "keras_hub:efficientnet_b0": 4_049_571 - 7,
}
PUBLISHED = {kind: dict(networks) for kind, networks in LIBRARY_NETWORKS.items()}


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        for name, sizes in SMALL.items():
            kind, _, network = name.partition(":")
            networks = LIBRARY_NETWORKS[kind]
            patch.setitem(networks, network, networks[network]._replace(sizes=sizes))
        yield


def needs(name):
    kind = name.partition(":")[0]
    pytest.importorskip(kind, reason=f"{kind} is not in this set of packages")


@functools.cache
def small_backbone(name):
    """For tests that change no weights."""
    keras.utils.set_random_seed(0)
    model = build_backbone(BackboneConfig(name=name), mels=32, channels=2, window_frames=32)
    settle(model, sound(1, 1600, 32, 2))
    return model


def published_level(network, image):
    """What the library's own network makes of an image at its level of stride 16."""
    if hasattr(network, "pyramid_outputs"):
        output = network.pyramid_outputs["P4"]
    else:
        output = network.get_layer(network.pyramid_level_inputs["P4"]).output
    return keras.Model(network.input, output)(image).numpy()


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_those_published(name, monkeypatch):
    needs(name)
    kind, _, network = name.partition(":")
    monkeypatch.setitem(LIBRARY_NETWORKS[kind], network, PUBLISHED[kind][network])
    published = library._library_network(name, (None, None, 3))
    assert published.count_params() == PARAMETERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_the_library(name):
    needs(name)
    published = library._library_network(name, (None, 41, 3))
    randomize(published)
    image = sound(2, 64, 41, 3)
    expected = published_level(published, image)
    assert expected.std() > 0.01
    # Without a window, squeezes are over the whole input, too.
    network, _ = library._own_network(published, None, False)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(network(image), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", LIBRARY_NETWORKS)
@pytest.mark.parametrize(
    ("suffix", "channels"), [("weights.h5", 3), ("weights.h5", 2), ("keras", 3)]
)
def test_a_file_of_the_library_fills_the_network(kind, suffix, channels, tmp_path):
    """Features of sound are those of a grey image, or of the same channels, and turned."""
    name = {"keras_cv": "keras_cv:resnet18", "keras_hub": "keras_hub:efficientnet_b0"}[kind]
    needs(name)
    published = library._library_network(name, (None, None, channels))
    randomize(published)
    path = tmp_path / f"own.{suffix}"
    (published.save if suffix == "keras" else published.save_weights)(path)
    model = build_backbone(BackboneConfig(name=name), 48, 2)
    library.load_weights(model, str(path))
    image = sound(1, 79, 48, 2)
    if channels == 3:
        # Each of two equal channels then counts half of the three.
        image[..., 1] = image[..., 0]
    before = model.get_layer("whole_strides").before
    padding = [(0, 0), (before, -(79 + before) % 16), (0, 0), (0, 0)]
    seen = np.pad(image, padding)[..., np.arange(channels) % 2].swapaxes(1, 2)
    expected = published_level(published, seen).swapaxes(1, 2)[:, :5]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(model(image), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_centred_and_as_many_as_begin_in_an_input_of_any_size(name):
    """By the gradient of one cell: the frames that it sees lie around 16 times its number."""
    needs(name)
    model = small_backbone(name)
    for frames in (16, 17, 938):
        shape = model.compute_output_spec(keras.KerasTensor((1, frames, 32, 2))).shape
        assert shape == (1, -(-frames // 16), *model.output_shape[2:])
    context = context_frames(model)
    cell = context // 16 + 3
    image = tf.constant(sound(1, 32 * cell + 7, 32, 2))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(image)
        seen = tf.reduce_sum(model(image)[:, cell])
    frames = np.flatnonzero(np.abs(tape.gradient(seen, image)).sum(axis=(0, 2, 3)))
    assert abs((frames[0] + frames[-1]) / 2 - 16 * cell) <= 1
    assert 16 <= frames[-1] - 16 * cell <= context
    assert 16 <= 16 * cell - frames[0] <= context


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_by_whole_strides_shifts_the_cells(name):
    """A crop that begins 16 frames later has the same features, one cell earlier."""
    needs(name)
    model = small_backbone(name)
    border = -(-context_frames(model) // 16)
    for length in (320, 321, 335):
        frames = length + 32 * border
        image = sound(1, frames + 16, 32, 2)
        whole, later = model(image).numpy()[0], model(image[:, 16:]).numpy()[0]
        assert len(later) == -(-frames // 16) == len(whole) - 1
        scale = np.abs(whole).max()
        difference = np.abs(later - whole[1:])[border:-border]
        assert np.std(whole[border:-border], axis=0).max() > 0.01 * scale
        assert difference.max() <= 1e-5 * scale


# With squeezes and operations that are no layers.
WHOLE = ["keras_cv:mobilenet_v3_small", "keras_hub:efficientnet_b0"]


def recipe(tiny_config, name, **training) -> Config:
    values = tiny_config.model_dump()
    values["model"]["backbone"] = {"name": name}
    values["model"]["head"]["dropout"] = 0.0
    values["training"] |= training
    return Config.model_validate(values)


@pytest.mark.parametrize("name", WHOLE)
def test_bfloat16_gives_nearly_the_features_of_float32(name):
    needs(name)
    features = {}
    for precision in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(precision)
        try:
            model = build_backbone(BackboneConfig(name=name), 32, 2)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        model.set_weights(small_backbone(name).get_weights())
        features[precision] = model(sound(3, 71, 32, 2))
    assert features["mixed_bfloat16"].dtype == "bfloat16"
    exact = np.float32(features["float32"])
    error = np.float32(features["mixed_bfloat16"]) - exact
    assert 0 < error.std() < 0.05 * exact.std()


@pytest.mark.parametrize("name", WHOLE)
def test_a_detector_comes_back_in_every_format(name, tiny_config, tmp_path):
    needs(name)
    detector = build_detector(recipe(tiny_config, name), CLASSES, {})
    randomize(detector)
    spectrogram = np.abs(sound(2, 201, 32))
    expected = detector(spectrogram)["logits"].numpy()
    assert expected.shape == (2, 10, 3)
    assert expected.std() > 1e-3
    detector.save(tmp_path / "detector.keras")
    copy = keras.models.load_model(tmp_path / "detector.keras")
    np.testing.assert_array_equal(copy(spectrogram)["logits"], expected)
    detector.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    # Of any length.
    np.testing.assert_allclose(served.serve(spectrogram)["logits"], expected, atol=1e-5)


@pytest.mark.parametrize("name", WHOLE)
def test_five_examples_are_soon_learned(name, tiny_config):
    """An odd batch of odd length, in bfloat16."""
    needs(name)
    keras.utils.set_random_seed(0)
    config = recipe(tiny_config, name, schedule="plateau", monitor="val_lrap", learning_rate=0.01)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        classifier = CropClassifier(build_detector(config, CLASSES, {}), config)
        compile_classifier(classifier, config.training)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    losses = losses_on_five_examples(classifier, steps=8)
    print(f"losses {losses}")
    assert losses[-1] < 0.7 * losses[0]
    assert all(np.isfinite(weight).all() for weight in classifier.get_weights())


@pytest.mark.parametrize("name", WHOLE)
def test_a_run_opens_and_becomes_a_litert_model(name, write_random_run, tiny_config, tmp_path):
    needs(name)
    run = write_random_run(tmp_path / "run", recipe(tiny_config, name), [0])
    scorer = load_convertible(run, [0], 2.0)
    waveform = np.geomspace(0.001, 1, 16000, dtype=np.float32) * sound(1, 16000)
    # Scores in the middle, where differences show.
    (detector,) = scorer._detectors
    logits = detector(scorer.spectrogram(waveform))["logits"].numpy()[0]
    kernel, bias = detector.get_layer("logits").weights
    kernel.assign(kernel / logits.std(axis=0))
    bias.assign((bias - logits.mean(axis=0)) / logits.std(axis=0))
    expected = scorer.score_waveform(waveform)["window_scores"].numpy()
    content = convert_to_litert(scorer, litert_metadata(scorer, [0], 2.0), ["float32"])["float32"]
    signature = tf.lite.Interpreter(model_content=content).get_signature_runner()
    scores = signature(waveform=waveform)["window_scores"]
    assert scores.shape == expected.shape == (1, 5, 3)
    assert expected.std() > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_preset_that_cannot_be_had_is_refused_in_one_line(monkeypatch):
    module = pytest.importorskip("keras_cv", reason="keras_cv is not in this set of packages")

    def no_network(preset):
        raise OSError(f"no route\nto {preset}")

    monkeypatch.setattr(module.models.ResNetBackbone, "from_preset", no_network)
    backbone = small_backbone("keras_cv:resnet18")
    words = "preset:resnet18_x is downloaded by the library, which failed: no route to resnet18_x"
    with pytest.raises(UserError, match=words) as caught:
        library.load_weights(backbone, "preset:resnet18_x")
    assert "\n" not in str(caught.value)


def test_a_preset_fills_the_network(monkeypatch):
    module = pytest.importorskip("keras_cv", reason="keras_cv is not in this set of packages")
    published = library._library_network("keras_cv:resnet18", (None, None, 3))
    presets = {"resnet18_x": published}
    monkeypatch.setattr(module.models.ResNetBackbone, "from_preset", presets.__getitem__)
    model = build_backbone(BackboneConfig(name="keras_cv:resnet18"), 32, 3)
    library.load_weights(model, "preset:resnet18_x")
    kernel = published.get_layer("conv1_conv").kernel.numpy()
    np.testing.assert_array_equal(model.weights[0], kernel.swapaxes(0, 1))


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path):
    name = "keras_cv:resnet18"
    needs(name)
    backbone = small_backbone(name)
    before = backbone.get_weights()
    (tmp_path / "text.weights.h5").write_text("no weights")
    other = library._library_network("keras_cv:mobilenet_v3_small", (None, None, 3))
    other.save(tmp_path / "other.keras")
    other.save_weights(tmp_path / "other.weights.h5")
    image = keras.Input((None, None, 3))
    keras.Model(image, keras.layers.Conv2D(4, 3)(image)).save(tmp_path / "plain.keras")
    sizes = SMALL[name] | {"include_rescaling": False}
    for file, filters in {"short": [64, 16], "wide": [64, 16, 24]}.items():
        own = {"stackwise_filters": filters, "stackwise_blocks": [1] * len(filters)}
        strides = {"stackwise_strides": [1, 2, 2][: len(filters)]}
        kind = type(library._library_network(name, (None, None, 3)))
        kind(**sizes | own | strides).save(tmp_path / f"{file}.keras")
    spoilt = library._library_network(name, (None, None, 3))
    spoilt.weights[0].assign(np.full(spoilt.weights[0].shape, np.nan))
    spoilt.save(tmp_path / "spoilt.keras")
    for file, words in {
        "nowhere.keras": "Not found: .*nowhere.keras",
        "text.weights.h5": "keras_cv:resnet18, .*text.weights.h5 cannot be loaded",
        "other.weights.h5": "keras_cv:resnet18, .*other.weights.h5 cannot be loaded",
        "other.keras": "keras_cv:resnet18, .*it holds a MobileNetV3Backbone",
        "plain.keras": "keras_cv:resnet18, .*it holds a Functional",
        "short.keras": "network keras_cv:resnet18. .*short.keras holds another",
        "wide.keras": "network keras_cv:resnet18. .*wide.keras holds another",
        "spoilt.keras": "spoilt.keras has NaN or infinity",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            library.load_weights(backbone, str(tmp_path / file))
        assert "\n" not in str(caught.value)
    for one, same in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("library_name", LIBRARY_NETWORKS)
def test_a_library_that_is_not_there_is_named_in_one_line(library_name, monkeypatch):
    monkeypatch.setitem(sys.modules, library_name, None)
    network = next(iter(LIBRARY_NETWORKS[library_name]))
    config = BackboneConfig(name=f"{library_name}:{network}")
    with pytest.raises(UserError, match=f"needs the package {library_name[:5]}-.*It ") as caught:
        build_backbone(config, 32, 1)
    assert "\n" not in str(caught.value)


def test_no_run_begins_without_its_library(monkeypatch, tiny_config, tiny_shards, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    config = recipe(tiny_config, "keras_cv:resnet18")
    with pytest.raises(UserError, match="needs the package keras-cv"):
        train_run(config, tiny_shards, tmp_path / "run", [0], verbose=False)
    assert not (tmp_path / "run").exists(), "another network would be another recipe"


def test_a_preset_is_no_file():
    assert BackboneConfig(name="keras_cv:resnet18", weights="preset:x").weights_file is None
    assert BackboneConfig(name="keras_cv:resnet18", weights="x.keras").weights_file == "x.keras"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            "name: 'keras_cv:csp_darknet_tiny'",
            "keras_cv:NAME, with NAME one of densenet121,.*tiny",
        ),
        ("name: 'keras_hub:mit_b0'", r"NAME one of densenet_121, .*Received: .*mit_b0"),
        ("name: 'keras_hub:vgg_16'", "keras_hub:NAME, with NAME one of"),
        ("name: vgg16", "one of resnet10, .*, keras_cv:NAME, keras_hub:NAME. Received: vgg16"),
        ("{name: 'keras_cv:resnet18', width: 32}", "width is an option of residual networks"),
        ("{name: resnet18, weights: 'preset:x'}", "networks of keras_cv and keras_hub alone"),
        ("{name: 'keras_cv:resnet18', weights: imagenet}", "none, preset:NAME or a file"),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_one_line(tmp_path, settings, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model:\n  backbone:\n    {settings}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
