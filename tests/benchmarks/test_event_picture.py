"""Which calls are drawn, and what is compared with them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_cards import CARD

from benchmarks.event_picture import best_iou, draw_calls, find_all
from rfcx_tf.events.table import EventRecording
from rfcx_tf.events.window_table import RecordingWindows

CALLS = pd.DataFrame(
    [("a", 4, 1.0, 2.0), ("a", 4, 5.0, 6.0), ("b", 4, 1.0, 2.0), ("b", 30, 3.0, 4.0)],
    columns=["recording_id", "species_id", "begin_s", "end_s"],
)


def test_species_take_turns():
    drawn = draw_calls(CALLS, 3, seed=0)
    assert drawn["species_id"].tolist() == [4, 30, 4]
    assert not drawn.index.has_duplicates
    assert len(draw_calls(CALLS, 10, seed=0)) == 4


def test_a_box_beside_the_stretch_of_windows_that_heard_it():
    """Windows of 2 s every half second. Two of them hear a call from 1.75 to 2.25 s."""
    scores = np.zeros((6, 3), np.float32)
    scores[[1, 2], 0] = 0.9
    boxes = np.full((6, 3, 4), np.nan, np.float32)
    boxes[1, 0], boxes[2, 0] = (1.25, 1.75, 100, 200), (0.75, 1.25, 100, 200)
    windows = [RecordingWindows(EventRecording("a", "a.wav", 10.0), scores, boxes)]
    spans = {
        kind: find_all(windows, CARD, 0.5, kind)[["start_s", "end_s"]].to_numpy().tolist()
        for kind in ("box", "stretch of windows")
    }
    # Around the middle of the centres at 1.5 and 2.0 s.
    assert spans == {"box": [[1.75, 2.25]], "stretch of windows": [[0.75, 2.75]]}


def test_the_overlap_of_a_call_is_the_best_of_its_species_there():
    call = SimpleNamespace(recording_id="a", species_id=4, begin_s=1.5, end_s=2.5)
    assert best_iou(call, CALLS) == pytest.approx(0.5 / 1.5)
    assert best_iou(call, CALLS.iloc[2:]) == 0.0
