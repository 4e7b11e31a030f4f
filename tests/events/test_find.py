"""Events out of window scores: worked cases, and what must hold for any scores."""

import io
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.events.find import find_events
from rfcx_tf.events.table import EVENT_COLUMNS, EventRecording, csv_text, empty_events
from rfcx_tf.scoring.card import ModelCard

FROG = SpeciesClass(7, "Frog")
OWL = SpeciesClass(3, "Owl")


CARD = ModelCard(
    classes=(FROG,),
    sample_rate_hz=8000,
    window_s=1.0,
    hop_s=0.5,
    window_centre_s=(0.5,),
    mean_box_s=(0.2,),
    box_hz=((500.0, 2500.0),),
)
UNKNOWN_HZ = (np.nan, np.nan)


def find(
    scores,
    *,
    duration_s=60.0,
    start=None,
    thresholds=0.5,
    low_ratio=0.8,
    merge_gap_s=0.0,
    **changes,
):
    """Events of one class, windows of 1 s every 0.5 s, boxes of 0.2 s, unless changed.

    The centre of window k is at 0.5 + k / 2.
    """
    scores = np.asarray(scores, np.float32)
    scores = scores[:, None] if scores.ndim == 1 else scores
    recording = EventRecording("a", "audio/a.wav", duration_s, start)
    rules = {"low_ratio": low_ratio, "merge_gap_s": merge_gap_s}
    return find_events(recording, scores, CARD.replace(**changes), thresholds, **rules)


def spans(events):
    return [(round(a, 6), round(b, 6)) for a, b in events[["start_s", "end_s"]].to_numpy()]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0, 0, 0, 0], []),
        # At the threshold, not below it; from centre to centre, 1.0 to 2.5, less the 0.8 s that a
        # window is longer than a box.
        ([0, 0.5, 0.6, 0.9, 0.49], [(1.4, 2.1)]),
        # 0.41 keeps it alive (above 0.4), 0.39 does not; either side of the peak.
        ([0.41, 0.6, 0.41, 0.39], [(0.9, 1.1)]),
        # 0.41 alone starts nothing.
        ([0, 0.41, 0.45, 0], []),
        # Two calls 1.5 s apart; boxes of 0.2 s do not touch.
        ([0, 0, 0.9, 0.1, 0.1, 0.9, 0], [(1.4, 1.6), (2.9, 3.1)]),
        # A dip to 0.42 does not cut the call.
        ([0, 0, 0.9, 0.42, 0.42, 0.9, 0], [(1.9, 2.6)]),
    ],
)
def test_threshold_and_hysteresis(scores, expected):
    assert spans(find(scores)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # One window, centre 1.5, widened to the mean box.
        ({"mean_box_s": (1.2,)}, [(0.9, 2.1)]),
        # Cut at the beginning and at the end.
        ({"mean_box_s": (4.0,)}, [(0.0, 3.5)]),
        ({"mean_box_s": (4.0,), "duration_s": 3.0}, [(0.0, 3.0)]),
        # Without a box, the length of a window.
        ({"mean_box_s": (np.nan,)}, [(1.0, 2.0)]),
    ],
)
def test_an_event_is_at_least_as_long_as_the_mean_box(changes, expected):
    assert spans(find([0, 0, 0.9, 0, 0], **changes)) == expected


def test_gaps_up_to_the_limit_are_closed():
    scores = [0, 0, 0.9, 0.1, 0.1, 0.9, 0]  # 1.4 to 1.6 and 2.9 to 3.1: a gap of 1.3 s

    def with_gap(gap_s):
        return spans(find(scores, merge_gap_s=gap_s))

    assert with_gap(1.29) == [(1.4, 1.6), (2.9, 3.1)]
    assert with_gap(1.31) == [(1.4, 3.1)]
    # Boxes of 2 s overlap: one event, however small the gap may be.
    assert spans(find(scores, mean_box_s=(2.0,))) == [(0.5, 4.0)]


def test_a_window_beyond_the_end_counts_as_its_part_inside():
    # A recording of 0.4 s in a window of 1 s.
    assert spans(find([0.9], duration_s=0.4, mean_box_s=(0.1,))) == [(0.15, 0.25)]


def test_the_table_says_everything():
    start = datetime(2023, 4, 1, 23, 59, 58, tzinfo=UTC)
    scores = [[0.1, 0.2], [0.6, 0.2], [0.9, 0.2], [0.1, 0.95]]
    probabilities = np.array([[0.0, 0.0], [0.8, 0.0], [0.7, 0.0], [0.0, 0.9]])
    events = find(
        scores,
        start=start,
        thresholds=[0.5, 0.85],
        calibration=SimpleNamespace(probabilities=lambda scores: probabilities),
        classes=(OWL, FROG),
        window_centre_s=(0.5, 0.5),
        mean_box_s=(0.5, 0.5),
        box_hz=(UNKNOWN_HZ, (500.0, 2500.0)),
    )
    assert list(events.columns) == list(EVENT_COLUMNS)
    owl, frog = events.to_dict("records")
    assert owl["species"] == "Owl" and owl["species_id"] == 3
    assert (owl["start_s"], owl["end_s"]) == (1.0, 1.5)
    # The highest probability, and the raw score of that window.
    assert owl["probability"] == 0.8 and owl["score"] == pytest.approx(0.6)
    assert np.isnan(owl["low_hz"]) and np.isnan(owl["high_hz"])
    assert (frog["low_hz"], frog["high_hz"]) == (500, 2500)
    assert (frog["start_s"], frog["end_s"]) == (1.75, 2.25)
    assert frog["start_time"] == "2023-04-01T23:59:59.750+00:00"
    assert frog["end_time"] == "2023-04-02T00:00:00.250+00:00"
    assert (frog["recording_id"], frog["file"]) == ("a", "audio/a.wav")


def test_uncalibrated_events_have_no_probability_and_no_clock_without_a_start():
    (event,) = find([0, 0.9, 0]).to_dict("records")
    assert np.isnan(event["probability"])
    assert (event["start_time"], event["end_time"]) == ("", "")
    naive = find([0, 0.9, 0], start=datetime(2023, 4, 1)).loc[0, "start_time"]
    assert naive == "2023-04-01T00:00:00.900"


def test_seconds_and_time_of_day_are_rounded_alike():
    # Cells of 16 frames: their borders lie between milliseconds. The start is 07:00:00.250.
    start = datetime(2023, 4, 1, 7, 0, 0, 249_600)
    events = find([0.9, 0, 0] * 60, start=start, hop_s=16 * 512 / 48000)
    table = pd.read_csv(io.StringIO(csv_text(events, [], 24000)), dtype=str)
    assert len(table) == 60
    for row in table.itertuples():
        for seconds, clock in ((row.start_s, row.start_time), (row.end_s, row.end_time)):
            of_minute = Decimal(seconds) + Decimal("0.25")
            assert clock == f"2023-04-01T07:00:{of_minute:06.3f}"


def test_every_class_has_its_own_centre_and_events_that_begin_together_keep_their_order():
    def two(**changes):
        species = {"classes": (OWL, FROG), "mean_box_s": (0.2, 0.2), "box_hz": (UNKNOWN_HZ,) * 2}
        return find([[0.9, 0.9]], **species | changes)

    together = two(window_centre_s=(0.5, 0.5))
    assert together["species"].tolist() == ["Owl", "Frog"]
    apart = two(window_centre_s=(0.75, 0.25))
    assert apart["species"].tolist() == ["Frog", "Owl"]
    assert spans(apart) == [(0.15, 0.35), (0.65, 0.85)]


@pytest.mark.parametrize("threshold", [np.nan, np.inf])
def test_a_class_without_a_threshold_has_no_events(threshold):
    assert find([1.0, 1.0], thresholds=[threshold]).empty


@pytest.mark.filterwarnings("error")
def test_tables_without_events_join_others():
    none = find([0, 0])
    pd.testing.assert_frame_equal(none, empty_events())
    some = find([0, 0.9])
    both = pd.concat([empty_events(), none, some], ignore_index=True)
    pd.testing.assert_frame_equal(both, some)


def test_as_many_thresholds_as_classes():
    with pytest.raises(ValueError, match="broadcast"):
        find([0.9], thresholds=[0.5, 0.5])


@st.composite
def cases(draw):
    windows = draw(st.integers(1, 40))
    scores = draw(st.lists(st.integers(0, 16), min_size=windows, max_size=windows))
    hop_s = draw(st.sampled_from([0.1, 0.17, 0.5, 2.0]))
    window_s = draw(st.sampled_from([0.17, 1.0, 3.1]))
    changes = {
        "hop_s": hop_s,
        "window_s": window_s,
        "window_centre_s": (window_s / 2,),
        "mean_box_s": (draw(st.sampled_from([0.01, 0.4, 5.0])),),
        "duration_s": draw(st.sampled_from([0.5, 1.0, 1.5])) * windows * hop_s,
    }
    rules = {
        "low_ratio": draw(st.sampled_from([0.5, 0.8, 1.0])),
        "merge_gap_s": draw(st.sampled_from([0.0, 0.3, 1.0])),
    }
    # Sixteenths: exact in float32 too.
    return np.array(scores) / 16, draw(st.integers(1, 16)) / 16, changes, rules


@settings(max_examples=30)
@given(cases())
def test_what_holds_for_any_scores(case):
    scores, threshold, changes, rules = case
    events = find(scores, thresholds=threshold, **rules, **changes)
    duration_s, box_s = changes["duration_s"], changes["mean_box_s"][0]
    assert (events["start_s"] >= 0).all() and (events["end_s"] <= duration_s).all()
    lengths_s = events["end_s"] - events["start_s"]
    assert (lengths_s > 0).all()
    # Shorter than a box only where the recording ends.
    inside = (events["start_s"] > 0) & (events["end_s"] < duration_s)
    assert (lengths_s[inside] >= box_s - 1e-9).all()
    # In order, disjoint, and further apart than what is merged: merging again changes nothing.
    gaps_s = events["start_s"].to_numpy()[1:] - events["end_s"].to_numpy()[:-1]
    assert (gaps_s > rules["merge_gap_s"]).all()
    assert (events["score"] >= threshold).all()
    # In every window at the threshold lies an event, as near as calls lie to its middle.
    near_s = max(0.0, changes["window_s"] - box_s) / 2 + 1e-9
    begins_s = np.arange(len(scores)) * changes["hop_s"]
    centres_s = (
        np.minimum(begins_s, duration_s) + np.minimum(begins_s + changes["window_s"], duration_s)
    ) / 2
    for centre_s in centres_s[scores >= threshold]:
        inside = (events["start_s"] <= centre_s + near_s) & (events["end_s"] >= centre_s - near_s)
        assert inside.any()
    # A higher threshold finds no new places.
    if threshold < 1:
        fewer = find(scores, thresholds=threshold + 1 / 16, **rules, **changes)
        for row in fewer.itertuples():
            close = (events["start_s"] < row.end_s + near_s) & (
                events["end_s"] > row.start_s - near_s
            )
            assert close.any()


BOXED = ModelCard(
    classes=(FROG, OWL),
    sample_rate_hz=8000,
    window_s=2.0,
    hop_s=0.5,
    window_centre_s=(1.0, 1.0),
    mean_box_s=(0.2, 0.2),
    box_hz=((500.0, 2500.0), UNKNOWN_HZ),
)


def boxed(calls, windows=20, noise_s=0.0):
    """Scores and boxes [windows, 2, ...] of a model that hears calls perfectly.

    Calls are class, begin, end, low, high. A window scores 0.9 where half of a call lies in it and
    has the box of the call that is nearest to its middle.
    """
    random = np.random.default_rng(0)
    scores = np.full((windows, 2), 0.1, np.float32)
    boxes = np.zeros((windows, 2, 4), np.float32)
    for window in range(windows):
        begin_s = window * 0.5
        nearest = sorted(calls, key=lambda c: -abs((c[1] + c[2]) / 2 - begin_s - 1.0))
        for number, start, end, low, high in nearest:
            heard = min(end, begin_s + 2.0) - max(start, begin_s)
            if heard >= 0.5 * (end - start):
                scores[window, number] = 0.9
                moved = random.uniform(-noise_s, noise_s, 2)
                boxes[window, number] = start - begin_s, end - begin_s, low, high
                boxes[window, number, :2] += moved
    return scores, boxes


def find_boxed(scores, boxes, duration_s=11.5, **rules):
    recording = EventRecording("a", "a.wav", duration_s, None)
    return find_events(recording, scores, BOXED, 0.5, window_boxes=boxes, **rules)


def test_an_event_is_the_box_that_its_windows_agree_on():
    calls = [(0, 3.0, 3.4, 600, 900), (1, 3.2, 4.4, 2000, 3000), (0, 8.0, 9.0, 700, 800)]
    events = find_boxed(*boxed(calls))
    found = events[["species_id", "start_s", "end_s", "low_hz", "high_hz"]].to_numpy()
    expected = [(7, *calls[0][1:]), (3, *calls[1][1:]), (7, *calls[2][1:])]
    np.testing.assert_allclose(found.astype(float), expected, atol=1e-5)
    # Boxes that differ by less than a tenth of a call have their mean.
    events = find_boxed(*boxed(calls, noise_s=0.04))
    np.testing.assert_allclose(events["start_s"], [3.0, 3.2, 8.0], atol=0.04)


def test_calls_in_a_row_are_events_of_their_own():
    """Windows of 2 s score high from the first call to the last without a gap."""
    calls = [(0, t, t + 0.3, 600, 900) for t in (3.0, 3.7, 4.4)]
    scores, boxes = boxed(calls)
    assert spans(find_boxed(scores, boxes)) == [(3.0, 3.3), (3.7, 4.0), (4.4, 4.7)]
    assert spans(find_boxed(scores, boxes, merge_gap_s=0.5)) == [(3.0, 4.7)]


def test_what_is_found_of_a_sure_call_does_not_depend_on_the_threshold():
    """Unsure windows around a call, with boxes that overlap from one to the next."""
    scores, boxes = boxed([(0, 4.0, 5.0, 600, 900)])
    weak = scores[:, 0] < 0.5
    scores[weak, 0] = 0.3
    boxes[weak, 0] = 0.2, 1.7, 100, 4000
    sure = spans(find_boxed(scores, boxes))
    assert sure == [(4.0, 5.0)]
    recording = EventRecording("a", "a.wav", 11.5, None)
    events = find_events(recording, scores, BOXED, 0.05, window_boxes=boxes)
    assert len(events) > 1
    assert spans(events[events["score"] > 0.5]) == sure
    # About as sure, those that touch are one.
    scores[weak, 0] = 0.8
    assert len(find_boxed(scores, boxes, merge_gap_s=1.0)) == 1


def test_boxes_end_with_the_recording_and_weak_windows_start_nothing():
    scores, boxes = boxed([(0, -0.2, 0.6, 600, 900), (0, 9.0, 12.0, 600, 900)])
    assert spans(find_boxed(scores, boxes)) == [(0.0, 0.6), (9.0, 11.5)]
    assert find_boxed(0.4 * scores, boxes).empty


def test_windows_without_a_box_are_found_as_those_of_models_without_boxes():
    scores, boxes = boxed([(0, 3.0, 3.4, 600, 900)])
    unknown = np.full_like(boxes, np.nan)
    recording = EventRecording("a", "a.wav", 11.5, None)
    pd.testing.assert_frame_equal(
        find_boxed(scores, unknown), find_events(recording, scores, BOXED, 0.5)
    )
