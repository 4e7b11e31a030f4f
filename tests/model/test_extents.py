"""Boxes of cells and windows: worked cases, and what the loss is worth."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import sound

from rfcx_tf.core.config import FrontEndConfig
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import lies_inside
from rfcx_tf.frontend.frontend import mel_band_centres_hz, mel_frequency_hz, mel_position
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.extents import BoxLoss, window_boxes

FRONT_END = FrontEndConfig(
    sample_rate_hz=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32
)
CELLS = 8


def test_positions_on_the_mel_axis_are_those_of_the_bands():
    centres_hz = mel_band_centres_hz(FRONT_END)
    np.testing.assert_allclose(
        mel_position(FRONT_END, np.float32(centres_hz)), range(32), atol=1e-4
    )
    np.testing.assert_allclose(mel_frequency_hz(FRONT_END, np.arange(32.0)), centres_hz, rtol=1e-5)
    # What lies beyond is on the edge.
    edges = np.float32([0.0, 1.0, 3999.0, 20000.0])
    low, _, _, high = np.asarray(mel_position(FRONT_END, edges))
    assert (low, high) == (-1.0, 32.0)
    assert float(mel_frequency_hz(FRONT_END, 32.0)) == pytest.approx(4000.0, rel=1e-6)


def test_a_new_network_finds_the_usual_box_around_every_cell(tiny_config):
    classes = [SpeciesClass(number, "") for number in (2, 5)]
    mean_box_s, box_hz = {2: 3 * tiny_config.cell_s}, {2: (400.0, 1600.0)}
    detector = build_detector(tiny_config, classes, mean_box_s, box_hz=box_hz)
    for weight in detector.get_layer("box_sides").weights:
        weight.assign(np.zeros(weight.shape))
    boxes = detector(sound(1, 80, 32))["boxes"].numpy()[0]
    assert boxes.shape == (5, 2, 5)
    np.testing.assert_allclose(boxes[:, 0, 1], np.arange(5) - 1.5, atol=1e-5)
    np.testing.assert_allclose(boxes[:, 0, 2], np.arange(5) + 1.5, atol=1e-5)
    hz = mel_frequency_hz(tiny_config.frontend, boxes[0, 0, 3:])
    np.testing.assert_allclose(hz, [400.0, 1600.0], rtol=1e-4)
    # Half a window, all bands, where nothing is known.
    half = tiny_config.window_cells / 4
    np.testing.assert_allclose(boxes[2, 1, 1:3], [2 - half, 2 + half], atol=1e-5)


def test_boxes_teach_the_backbone_nothing(tiny_config):
    detector = build_detector(tiny_config, [SpeciesClass(1, "")], {})
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(detector(sound(2, 64, 32), training=True)["boxes"] ** 2)
    gradients = tape.gradient(total, detector.trainable_variables)
    learn = {
        variable.path.split("/")[0]
        for variable, gradient in zip(detector.trainable_variables, gradients, strict=True)
        if gradient is not None
    }
    assert learn == {"box_bands", "box_cells", "box_sides"}


def test_layers_before_begin_as_they_do_without_boxes(tiny_config):
    def weights(**arguments):
        keras.utils.set_random_seed(3)
        detector = build_detector(tiny_config, [SpeciesClass(1, "")], {}, **arguments)
        return {layer.name: layer.get_weights() for layer in detector.layers}

    plain, boxed = weights(boxes=False), weights()
    assert plain.keys() < boxed.keys()
    for name, values in plain.items():
        for own, other in zip(values, boxed[name], strict=True):
            np.testing.assert_array_equal(own, other)


def test_a_window_has_the_box_of_the_call_nearest_to_its_middle():
    """Cells 2 and 3 lie in one call, cell 6 in another; windows of 4 cells."""
    boxes = np.zeros((1, CELLS, 1, 5), np.float32)
    boxes[..., 0] = -9.0
    for cells, box in (((2, 3), (1.5, 3.5, 4, 8)), ((6,), (5.5, 6.5, 10, 12))):
        for cell in cells:
            boxes[0, cell, 0] = 5.0, *box
    found = np.asarray(window_boxes(boxes, 4, 0.5, FRONT_END))[0, :, 0]
    # Windows 0 to 4 begin at cells 0 to 4. Window 3 has both calls in it: cells 3 and 6, which are
    # equally far from its middle, so the earlier one counts.
    expected = [(1.5, 3.5), (1.5, 3.5), (1.5, 3.5), (1.5, 3.5), (5.5, 6.5)]
    in_cells = found[:, :2] / 0.5 + np.arange(5)[:, None]
    np.testing.assert_allclose(in_cells, expected, atol=1e-5)
    hz = mel_frequency_hz(FRONT_END, np.array([[4.0, 8.0], [10.0, 12.0]]))
    np.testing.assert_allclose(found[[0, 4], 2:], hz, rtol=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-9, -5, (-1, 0)), (40, 50, (31, 32)), (-9, 50, (-1, 32))]
)
def test_a_box_beyond_the_bands_is_the_outermost_band(low, high, expected):
    boxes = np.float32([[[[5.0, 0.0, 1.0, low, high]]]])
    found = np.asarray(window_boxes(boxes, 1, 0.5, FRONT_END))[0, 0, 0, 2:]
    hz = mel_frequency_hz(FRONT_END, np.array(expected, float))
    np.testing.assert_allclose(found, hz, rtol=1e-5)


def labels_of(boxes, classes=2):
    """Labels of one crop with these boxes (class, begin and end in cells, low, high)."""
    inside = np.zeros((1, CELLS, classes), np.float32)
    rows = np.full((1, 2, 5), -1.0, np.float32)
    for number, (index, begin, end, low, high) in enumerate(boxes):
        inside[0, :, index] += lies_inside(np.arange(CELLS), begin, end)
        rows[0, number] = index, 16 * begin, 16 * end, low, high
    return {"boxes": rows, "inside": np.minimum(inside, 1.0)}


def found_boxes(boxes, classes=2, logit=20.0):
    """What a network says that finds exactly these boxes, and is sure."""
    found = np.zeros((1, CELLS, classes, 5), np.float32)
    found[..., 0], found[..., 2], found[..., 4] = -logit, 1.0, 1.0
    for index, begin, end, low, high in boxes:
        found[0, lies_inside(np.arange(CELLS), begin, end), index] = logit, begin, end, low, high
    return found


CALLS = [(0, 1.0, 3.2, 4.0, 9.0), (1, 2.5, 2.8, 20.0, 22.0)]


def loss_of(labels, found):
    return float(BoxLoss(16)(labels, found))


def test_right_boxes_cost_nothing_and_a_crop_without_calls_neither():
    assert loss_of(labels_of(CALLS), found_boxes(CALLS)) == pytest.approx(0.0, abs=1e-5)
    assert loss_of(labels_of([]), found_boxes(CALLS)) == 0.0


def test_the_loss_of_a_wrong_box_by_hand():
    """The box of class 0 is [2, 5] for [1, 3.2] in time: 1.2 shared of 4 together, IoU 0.3; and
    [4, 6] for [4, 9] in frequency: IoU 0.4. Nothing lies between them, so GIoU is IoU."""
    wrong = found_boxes(CALLS)
    wrong[0, [1, 2, 3], 0, 1:] = 2.0, 5.0, 4.0, 6.0
    assert loss_of(labels_of(CALLS), wrong) == pytest.approx(0.7 + 0.6, abs=1e-5)
    apart = found_boxes(CALLS)
    # [5, 6] for [1, 3.2]: 1.8 of the hull's 5 are between them.
    apart[0, [1, 2, 3], 0, 1:3] = 5.0, 6.0
    assert loss_of(labels_of(CALLS), apart) == pytest.approx(1.0 + 1.8 / 5.0, abs=1e-5)


def test_being_inside_is_asked_only_of_classes_with_a_call_in_the_crop():
    unsure = found_boxes(CALLS)
    unsure[..., 0] = 0.0
    # 8 cells of ln 2, times 4 / 8, for each class with a call.
    both, one = loss_of(labels_of(CALLS), unsure), loss_of(labels_of(CALLS[:1]), unsure)
    assert both == pytest.approx(2 * 4 * np.log(2.0), rel=1e-5)
    assert one == pytest.approx(4 * np.log(2.0), rel=1e-5)


def test_sides_beyond_the_crop_count_too():
    labels = labels_of([(0, 5.0, 15.0, 4.0, 9.0)])
    assert loss_of(labels, found_boxes([(0, 5.0, 15.0, 4.0, 9.0)])) == pytest.approx(0.0, abs=1e-5)
    short = found_boxes([(0, 5.0, 10.0, 4.0, 9.0)])
    assert loss_of(labels, short) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("begin", "end", "cells"),
    [(1.0, 3.0, [1, 2, 3]), (1.1, 2.9, [2]), (3.6, 3.7, [4]), (-3.0, 0.2, [0]), (8.0, 9.0, [])],
)
def test_a_short_box_lies_around_the_nearest_cell(begin, end, cells):
    assert np.flatnonzero(lies_inside(np.arange(CELLS), begin, end)).tolist() == cells
