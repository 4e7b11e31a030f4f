"""Pooling over bands and windows against plain loops."""

import keras
import numpy as np
import pytest

from rfcx_tf.model.head import (
    FrequencyCoordinate,
    FrequencyPooling,
    PerClassWindowPooling,
    WindowPooling,
)

KINDS = ["mean", "max", "mean_max"]


def pool(values, kind):
    """One vector out of many: values [n, D] -> [D], or [2 D] for mean_max."""
    mean = [sum(column) / len(column) for column in values.T]
    highest = [max(column) for column in values.T]
    return {"mean": mean, "max": highest, "mean_max": mean + highest}[kind]


def random_values(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_frequency_pooling(kind):
    features = random_values(2, 5, 4, 3)
    expected = [[pool(cell, kind) for cell in example] for example in features]
    np.testing.assert_allclose(FrequencyPooling(kind)(features), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_windows_slide_by_one_cell(kind, window):
    cells = random_values(2, 7, 3)
    starts = range(7 - window + 1)
    expected = [[pool(example[i : i + window], kind) for i in starts] for example in cells]
    np.testing.assert_allclose(WindowPooling(window, kind)(cells), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[3, 1, 5, 2, 3], [5, 5, 5, 5, 5], [4, 3, 2, 1, 4]])
def test_every_class_pools_over_its_own_length_in_the_middle_of_the_window(kind, lengths):
    window = 5
    logits = random_values(2, 9, len(lengths))
    expected = np.zeros((2, 5, len(lengths)))
    for example in range(2):
        for start in range(5):
            for c, length in enumerate(lengths):
                # The middle 3 of 5 cells begin at 1; an odd cell too many is left out behind.
                begin = start + {5: 0, 4: 0, 3: 1, 2: 1, 1: 2}[length]
                own = logits[example, begin : begin + length, c]
                mean, highest = sum(own) / length, max(own)
                expected[example, start, c] = {
                    "mean": mean,
                    "max": highest,
                    "mean_max": (mean + highest) / 2,
                }[kind]
    layer = PerClassWindowPooling(window, lengths, kind)
    np.testing.assert_allclose(layer(logits), expected, atol=1e-6)
    assert layer.compute_output_shape((2, 9, 5)) == (2, 5, 5)


@pytest.mark.parametrize("lengths", [[0, 1], [1, 6]])
def test_lengths_outside_the_window_are_refused(lengths):
    with pytest.raises(ValueError, match=r"between 1 and window_cells \(5\)"):
        PerClassWindowPooling(5, lengths, "mean")


def test_frequency_coordinate_runs_from_0_to_1_over_the_mels():
    image = random_values(2, 3, 5, 1)
    outputs = FrequencyCoordinate()(image).numpy()
    assert outputs.shape == (2, 3, 5, 2)
    np.testing.assert_array_equal(outputs[..., :1], image)
    expected = np.broadcast_to([0.0, 0.25, 0.5, 0.75, 1.0], (2, 3, 5))
    np.testing.assert_allclose(outputs[..., 1], expected, atol=1e-7)


@pytest.mark.parametrize(
    "layer",
    [
        FrequencyPooling("mean_max"),
        WindowPooling(3, "max"),
        PerClassWindowPooling(3, [2, 3], "mean"),
        FrequencyCoordinate(),
    ],
)
def test_layers_come_back_from_their_config(layer):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
