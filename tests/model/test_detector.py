"""The detector slides: a recording's windows are those of its crops."""

import keras
import numpy as np
import pytest

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import class_window_cells, crop_spans
from rfcx_tf.model.detector import build_detector

CLASSES = [SpeciesClass(2, "low"), SpeciesClass(5, "middle"), SpeciesClass(9, "high")]
MEAN_BOX_S = {2: 0.3, 5: 0.6, 9: 5.0}


def recipe(window_s=1.024, **model) -> Config:
    """Frames of 16 ms, cells of 0.256 s, windows of 4 cells, 32 mels."""
    return Config.model_validate(
        {
            "frontend": {
                "sample_rate_hz": 8000,
                "n_fft": 256,
                "win_length": 256,
                "hop_length": 128,
                "n_mels": 32,
            },
            "crops": {"crop_s": window_s},
            "model": {"backbone": {"name": "resnet10", "width": 2}, **model},
        }
    )


def detector(config, **arguments):
    keras.utils.set_random_seed(0)
    model = build_detector(config, CLASSES, MEAN_BOX_S, **arguments)
    random = np.random.default_rng(0)
    for weight in model.weights:
        # Blocks begin as the identity, which would hide most of the network.
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def sound(frames):
    return np.random.default_rng(1).gamma(1.0, 1.0, (1, frames, 32)).astype(np.float32)


HEADS = {
    "shared": {"head": {"kind": "shared"}},
    "per_class": {"head": {"kind": "per_class", "time_pooling": "mean_max"}},
    "everything": {
        "frequency_coordinate": True,
        "head": {
            "kind": "shared",
            "frequency_pooling": "mean_max",
            "time_pooling": "max",
            "hidden": 8,
        },
    },
}


@pytest.mark.parametrize("head", HEADS)
def test_windows_of_a_recording_are_those_of_its_crops(head):
    """Away from a crop's borders, where the zero padding is in sight (4 cells)."""
    model = detector(recipe(**HEADS[head]))
    recording = sound(800)
    whole = model(recording)["logits"].numpy()[0]
    largest, compared = 0.0, 0
    for first_cell, frames in ((0, 400), (7, 320), (12, 333), (25, 400)):
        crop = recording[:, 16 * first_cell : 16 * first_cell + frames]
        own = model(crop)["logits"].numpy()[0]
        # A border that the recording has too is no difference.
        begin = 0 if first_cell == 0 else 4
        end = len(own) if 16 * first_cell + frames == 800 else len(own) - 4
        difference = own[begin:end] - whole[first_cell + begin : first_cell + end]
        largest, compared = max(largest, np.abs(difference).max()), compared + end - begin
    spread = np.std(whole, axis=0).min()
    print(f"{head}: largest difference {largest:.1e} over {compared} windows, spread {spread:.2g}")
    assert compared > 50
    assert largest < 1e-4 * spread


@pytest.mark.parametrize("head", HEADS)
def test_number_of_windows(head):
    model = detector(recipe(**HEADS[head]))
    for frames in (64, 65, 80, 300):
        windows = -(-frames // 16) - 4 + 1
        outputs = model.compute_output_spec(keras.KerasTensor((1, frames, 32)))
        assert outputs["logits"].shape == (1, windows, 3)
        assert outputs["boxes"].shape == (1, windows + 3, 3, 5)
    assert model(sound(65))["logits"].shape == (1, 2, 3)


@pytest.mark.parametrize("frequency_coordinate", [False, True])
def test_channels_beside_each_other_become_those_of_the_image(frequency_coordinate):
    values = recipe(frequency_coordinate=frequency_coordinate).model_dump()
    values["frontend"]["compression"] = "pcen_log"
    model = detector(Config.model_validate(values))
    channels = [sound(100), -sound(100)]
    interleaved = np.stack(channels, axis=-1).reshape(1, 100, 64)
    image = model.get_layer("image")(interleaved).numpy()
    np.testing.assert_array_equal(image, np.stack(channels, axis=-1))
    backbone = next(layer for layer in model.layers if layer.name.startswith("resnet"))
    assert backbone.input_shape == (None, None, 32, 3 if frequency_coordinate else 2)
    # Each channel has statistics of its own, and each takes part.
    assert model.get_layer("input_bn").moving_mean.shape == (2,)
    logits = model(interleaved)["logits"]
    assert logits.shape == (1, 4, 3)
    for silenced in (interleaved * ([0, 1] * 32), interleaved * ([1, 0] * 32)):
        assert np.abs(model(silenced)["logits"] - logits).max() > 1e-3


def test_the_default_recipe_classifies_a_crop_in_one_window():
    """10 s at 48 kHz, hop 512: 938 frames of 128 mels, 59 cells."""
    values = {"crops": {"crop_s": 10.0}, "model": {"backbone": {"name": "resnet10", "width": 1}}}
    config = Config.model_validate(values)
    assert (config.crop_frames, config.window_cells) == (938, 59)
    model = build_detector(config, CLASSES, {})
    assert model(np.zeros((1, 938, 128)))["logits"].shape == (1, 1, 3)
    assert model(np.zeros((1, 938 + 16, 128)))["logits"].shape == (1, 2, 3)


def test_a_class_pools_over_its_mean_box_in_whole_cells():
    config = recipe(head={"kind": "per_class"})
    classes = [SpeciesClass(number, "") for number in range(6)]
    # Cells of 0.256 s, rounded up; 9 s are more than a window, the last class has no box.
    mean_box_s = {0: 0.1, 1: 0.256, 2: 0.257, 3: 1.0, 4: 9.0}
    assert class_window_cells(config, classes, mean_box_s) == [1, 1, 2, 4, 4, 4]


def test_what_the_windows_of_a_class_cover_by_hand():
    """A crop of 64 frames is one window of 4 cells, around frames 0, 16, 32 and 48."""
    mean_box_s = {2: 0.3, 5: 0.2, 9: 5.0}
    spans = crop_spans(recipe(head={"kind": "per_class"}), CLASSES, mean_box_s)
    # 2 cells in the middle: those around 16 and 32; 1 cell: that around 16; all 4.
    np.testing.assert_array_equal(spans, [[8, 40], [8, 24], [0, 56]])
    shared = crop_spans(recipe(head={"kind": "shared"}), CLASSES, mean_box_s)
    np.testing.assert_array_equal(shared, [[0, 64]] * 3)


def test_windows_of_a_class_slide_over_a_longer_crop():
    """Windows of 2 cells in a crop of 4: a class of 1 cell sees the first 3 cells."""
    config = recipe(window_s=1.024, head={"kind": "per_class", "window_s": 0.5})
    spans = crop_spans(config, CLASSES, {2: 0.2, 5: 0.5, 9: 0.5})
    np.testing.assert_array_equal(spans, [[0, 40], [0, 56], [0, 56]])


def test_a_per_class_head_of_whole_windows_is_the_mean_over_cells():
    """Mean pooling and a dense layer commute, so both heads must agree."""
    shared = detector(recipe(head={"kind": "shared"}))
    keras.utils.set_random_seed(0)
    per_class = build_detector(recipe(head={"kind": "per_class"}), CLASSES, {})
    per_class.set_weights(shared.get_weights())
    recording = sound(200)
    logits = per_class(recording)["logits"]
    np.testing.assert_allclose(logits, shared(recording)["logits"], atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", ["shared", "per_class"])
def test_logits_are_float32_under_mixed_precision(policy, kind):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = detector(recipe(head={"kind": kind}))
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert model.get_layer("cells").compute_dtype == policy.removeprefix("mixed_")
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)
    logits = model(sound(100))["logits"]
    assert logits.dtype == "float32"
    # bfloat16 has 8 bits and a random network no mercy; Keras's own layers differ as much.
    exact = detector(recipe(head={"kind": kind}))(sound(100))["logits"]
    np.testing.assert_allclose(logits, exact, atol=0.5 if policy == "mixed_bfloat16" else 0.1)


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_detector_comes_back(head, tmp_path):
    model = detector(recipe(**HEADS[head]))
    model.save(tmp_path / "detector.keras")
    copy = keras.models.load_model(tmp_path / "detector.keras")
    recording = sound(200)
    np.testing.assert_array_equal(copy(recording)["logits"], model(recording)["logits"])
