"""Training crops: where they begin, what their boxes say, and how they are stretched, by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.shards import cut

quickly = settings(max_examples=20)


def labels(boxes, crop_frames=10, classes=3, spans=None, complete=(0, 0, 0)):
    """States by class after label_crop, h for partly heard; boxes: begin, end, class, present."""
    if spans is None:
        spans = [(0, crop_frames)] * classes
    target, known, partly = cut.label_crop(
        tf.constant([box[:2] for box in boxes], tf.float32, [len(boxes), 2]),
        tf.constant([box[2] for box in boxes], tf.int64, [len(boxes)]),
        tf.constant([box[3] for box in boxes], tf.int64, [len(boxes)]),
        tf.constant(spans, tf.float32),
        tf.constant(complete, tf.float32),
    )
    assert target.dtype == known.dtype == partly.dtype == tf.float32
    of_classes = zip(target.numpy(), known.numpy(), partly.numpy(), strict=True)
    return "".join("h" if h and not k else state(t, k + h) for t, k, h in of_classes)


def state(target, known):
    """The one letter of a class; anything else than the three states fails."""
    return {(1.0, 1.0): "p", (0.0, 1.0): "a", (0.0, 0.0): "u"}[float(target), float(known)]


@pytest.mark.parametrize(
    ("box", "lies"),
    [
        ((2, 6), "in"),
        ((-2, 2), "in"),  # exactly half
        ((-2.5, 2), "partly"),
        ((8, 12), "in"),
        ((8.5, 12.5), "partly"),
        ((-4, -1), "out"),
        ((10, 12), "out"),  # they touch
        ((0, 10), "in"),
        ((-30, 30), "in"),  # fills the crop
        ((5, 100), "in"),  # fills half of the crop
        ((5.5, 100), "partly"),
        ((-9, 4.5), "partly"),
        ((-9, 5.5), "in"),
    ],
)
def test_a_box_counts_when_half_of_it_or_half_a_crop_of_it_is_inside(box, lies):
    assert labels([(*box, 1, 1)]) == {"in": "upu", "partly": "uhu", "out": "uuu"}[lies]
    assert labels([(*box, 1, 0)]) == {"in": "uau", "partly": "uuu", "out": "uuu"}[lies]


def test_present_wins_over_absent_and_only_where_it_counts():
    assert labels([(1, 3, 0, 0), (4, 6, 0, 1), (2, 4, 2, 0)]) == "pua"
    # The TP lies outside: what is left is the FP.
    assert labels([(1, 3, 0, 0), (40, 60, 0, 1)]) == "auu"
    assert labels([(1, 3, 1, 1), (1, 3, 1, 1)]) == "upu"
    # Part of a call is in doubt, whatever a template did not find beside it.
    assert labels([(1, 3, 0, 0), (8, 30, 0, 1)]) == "huu"
    assert labels([(1, 3, 0, 1), (8, 30, 0, 1)]) == "puu"
    assert labels([]) == "uuu"


def test_where_all_calls_are_marked_what_is_unmarked_is_absent():
    complete = (1, 1, 0)
    assert labels([], complete=complete) == "aau"
    # Present wins; a call of which less than half lies in the crop stays in doubt.
    assert labels([(1, 3, 0, 1)], complete=complete) == "pau"
    assert labels([(8.5, 12.5, 0, 1)], complete=complete) == "hau"
    assert labels([(20, 22, 0, 1), (1, 3, 2, 0)], complete=complete) == "aaa"
    # Outside of the part that the windows of its class look at a call is not heard.
    spans = [(4, 6), (0, 10), (0, 10)]
    assert labels([(0, 3, 0, 1), (0, 3, 1, 1)], spans=spans, complete=complete) == "apu"


# The half-box rule and the shift of FP rows together: as the training pipeline uses them.
@quickly
@given(
    begin=st.floats(0, 100),
    length=st.floats(0.5, 200),
    shift=st.floats(-300, 300),
    crop_frames=st.sampled_from([15, 64]),
    present=st.booleans(),
)
def test_a_row_keeps_its_label_at_any_shift(begin, length, shift, crop_frames, present):
    stored_frames = 160
    end = min(begin + length, stored_frames)
    span = tf.constant([0.0, crop_frames])
    start = cut.crop_start(tf.constant([begin, end]), shift, span, crop_frames, stored_frames)
    start = int(start)
    assert 0 <= start <= stored_frames - crop_frames
    assert start - 1e-3 <= (begin + end) / 2 <= start + crop_frames + 1e-3
    box = (begin - start, end - start, 1, int(present))
    assert labels([box], crop_frames) == ("upu" if present else "uau")


@pytest.mark.parametrize(
    ("box", "shift", "start"),
    [
        ((70, 90), 0.0, 70),  # centre 80, half a crop before it
        ((70, 90), 5.0, 75),
        ((70, 90), -7.0, 63),
        ((0, 10), 0.0, 0),  # the stored piece ends before the crop is centred
        ((150, 160), 0.0, 140),
        ((70, 90), 100.0, 79),  # held one frame short of the box's centre
        ((70, 90), -100.0, 61),
    ],
)
def test_crops_are_centred_then_shifted_and_stay_in_the_stored_piece(box, shift, start):
    span = tf.constant([0.0, 20.0])
    assert int(cut.crop_start(tf.constant(box, tf.float32), shift, span, 20, 160)) == start


def test_a_box_counts_in_the_part_that_its_class_looks_at():
    # Class 0 looks at all of the crop, class 1 at its middle.
    spans = [(0, 10), (4, 6), (0, 10)]
    assert labels([(0, 3, 0, 1), (0, 3, 1, 1)], spans=spans) == "puu"
    assert labels([(3, 5, 1, 0)], spans=spans) == "uau"  # exactly half of the box
    assert labels([(2.5, 4.5, 1, 0)], spans=spans) == "uuu"
    assert labels([(0, 5, 1, 1)], spans=spans) == "upu"  # fills half of what is looked at


def test_a_crop_is_placed_so_that_the_part_looked_at_is_on_the_box():
    # The middle of frames 2 to 6 of the crop is put on the middle of the box, frame 80.
    span = tf.constant([2.0, 6.0])
    assert int(cut.crop_start(tf.constant([70.0, 90.0]), 0.0, span, 20, 160)) == 76
    # Shifts end one frame short of half of that part.
    assert int(cut.crop_start(tf.constant([70.0, 90.0]), 50.0, span, 20, 160)) == 77


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_stretching_interpolates_in_time(rate):
    before = np.random.default_rng(1).random((41, 3)).astype(np.float32)
    frames = int(cut.stretched_frames(41, rate))
    assert frames == 1 + int(40 / rate)
    after = cut.stretch_time(tf.constant(before), tf.constant(rate), 0, frames).numpy()
    for band in range(3):
        expected = np.interp(np.arange(len(after)) * rate, np.arange(41), before[:, band])
        np.testing.assert_allclose(after[:, band], expected, atol=1e-5)


def test_a_part_of_a_stretched_sound_is_that_part_and_its_last_frame_goes_on():
    before = tf.constant(np.random.default_rng(2).random((41, 3)), tf.float16)
    whole = cut.stretch_time(before, tf.constant(0.83), 0, 60)
    part = cut.stretch_time(before, tf.constant(0.83), tf.constant(17), 12)
    np.testing.assert_array_equal(part, whole[17:29])
    np.testing.assert_array_equal(whole[49:], tf.cast(tf.tile(before[-1:], [11, 1]), tf.float32))
    after = cut.stretch_time(tf.constant([[1.0], [2.0], [3.0]]), tf.constant(2.0), 0, 5)
    assert after.numpy()[:, 0].tolist() == [1.0, 3.0, 3.0, 3.0, 3.0]
