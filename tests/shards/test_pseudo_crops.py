"""Which windows become pseudo-labelled crops, and what their labels are."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.shards.pieces import rows_by_recording
from rfcx_tf.shards.pseudo_crops import (
    choose_windows,
    cut_windows,
    say_rows_first,
    window_starts,
)

# 10 frames a second; crops of 3.2 s with 1 s either side; a cell is 1.6 s.
CONFIG = Config.model_validate(
    {
        "frontend": {"sample_rate_hz": 1000, "n_fft": 200, "win_length": 200, "hop_length": 100},
        "crops": {"crop_s": 3.2, "margin_s": 1.0},
        "pseudo": {"slide_s": 1.6, "windows_per_recording": 8, "background": 0.25},
    }
)


def rows_of_recording(**columns):
    table = pd.DataFrame({"recording_id": "rec", **columns})
    classes = [SpeciesClass(3, ""), SpeciesClass(7, "")]
    return rows_by_recording(table, classes, ["rec", "quiet"])


def test_windows_follow_each_other_by_whole_cells_and_end_inside():
    assert window_starts(100, CONFIG).tolist() == [0, 16, 32, 48, 64]
    assert window_starts(32, CONFIG).tolist() == [0]
    assert window_starts(20, CONFIG).tolist() == [0]


@settings(max_examples=30)
@given(
    holds=st.lists(st.booleans(), min_size=1, max_size=60),
    name=st.text(min_size=1, max_size=8),
)
def test_windows_with_something_present_come_first_and_never_too_many(holds, name):
    probability = np.where(np.array(holds)[:, None], [0.9, 0.1], [0.2, 0.01])
    kept = choose_windows(probability, name, CONFIG)
    assert len(set(kept.tolist())) == len(kept) <= 8
    assert (np.diff(kept) > 0).all()
    present = sum(holds[k] for k in kept)
    background = len(kept) - present
    assert background == min(2, holds.count(False))
    assert present == min(8 - background, holds.count(True))
    np.testing.assert_array_equal(kept, choose_windows(probability, name, CONFIG))


def test_rows_have_their_say_about_windows_before_models():
    """Windows of 3.2 s from 0 and 1.6 s; species 3 and 7, all calls of 7 marked."""
    rows = rows_of_recording(
        t_min=[0.5, 3.0, 2.0], t_max=[1.0, 5.0, 2.5], species_id=[3, 7, 3], present=[1, 1, 0]
    )["rec"]
    said = say_rows_first(
        np.array([[0.2, 0.9], [0.7, 0.1], [0.6, 0.3], [0.4, 0.8]], np.float32),
        np.array([0, 16, 32, 64]),
        rows,
        np.array([0, 1]),
        np.float32([[0, 32], [0, 32]]),
        CONFIG,
    )
    # Of 7 a tenth lies in the first window, and no row says that it is all: models have the say.
    # In the second 3 is not at 2 s; from 3.2 s on no row speaks of it; from 6.4 s on none of 7.
    np.testing.assert_allclose(said, [[1, 0.9], [0, 1], [0.6, 1], [0.4, 0]])
    assert choose_windows(said, "rec", CONFIG).tolist() == [0, 1, 2, 3]
    # Without the rows the last window would count as one with a call.
    alone = CONFIG.model_copy(
        update={"pseudo": CONFIG.pseudo.model_copy(update={"background": 0.0})}
    )
    assert choose_windows(said, "rec", alone).tolist() == [0, 1, 2]


def test_a_crop_says_what_the_teacher_is_sure_of_and_carries_the_boxes_beside_it():
    spectrogram = np.arange(100 * 128, dtype=np.float16).reshape(100, 128)
    rows = rows_of_recording(
        t_min=[2.0, 8.0, 3.0],
        t_max=[2.5, 9.0, 3.5],
        species_id=[7, 7, 3],
        present=[True, True, False],
    )["rec"]
    probability = np.array([[0.5, 0.05], [0.3, 0.06]])
    first, second = cut_windows(
        spectrogram,
        probability,
        np.array([[0.5, 1.0], [0.3, 0.0]]),
        np.array([0, 32]),
        rows,
        np.array([0, 1]),
        "rec",
        4,
        [3, 7],
        CONFIG,
    )
    assert (first.kind, first.recording_id, first.fold) == ("pseudo", "rec", 4)
    # At the bounds a label counts as known.
    assert first.species_id == 7
    assert first.soft_known.tolist() == [1, 1]
    np.testing.assert_allclose(first.soft_target, [0.5, 0.05])
    assert second.species_id == -1
    assert second.soft_known.tolist() == [0, 0]
    # The first crop has no room for its left margin: the stored piece begins with the sound.
    assert (first.start_frame, second.start_frame) == (0, 22)
    assert first.spectrogram.shape == second.spectrogram.shape == (52, 128)
    np.testing.assert_array_equal(second.spectrogram, spectrogram[22:74])
    assert first.box == pytest.approx((0.0, 3.2, 0.0, 0.0))
    assert second.box == pytest.approx((3.2, 6.4, 0.0, 0.0))
    # Class indices, not species; the box at 8 s touches neither piece.
    assert first.box_classes.tolist() == [1, 0]
    assert first.box_present.tolist() == [1, 0]
    np.testing.assert_allclose(first.box_times_s, [[2.0, 2.5], [3.0, 3.5]])
    assert first.complete.tolist() == [0, 1]


def test_a_recording_without_rows_has_crops_without_boxes():
    [crop] = cut_windows(
        np.zeros((60, 128), np.float16),
        np.array([[0.9]]),
        np.array([[0.9]]),
        np.array([28]),
        rows_of_recording(t_min=[2.0], t_max=[2.5], species_id=[7], present=[True])["quiet"],
        np.array([0]),
        "r",
        -1,
        [0],
        CONFIG,
    )
    assert crop.box_times_s.shape == (0, 2)
    assert crop.fold == -1
    assert crop.start_frame == 60 - 52
