"""Kept window scores: what comes back, in small, and the events that are made of it."""

import tracemalloc
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from made_cards import CALIBRATION, CARD
from refused import refused
from scipy.special import expit

from rfcx_tf.events import window_table
from rfcx_tf.events.find import find_events
from rfcx_tf.events.rules import EventRules
from rfcx_tf.events.table import EventRecording
from rfcx_tf.events.window_table import (
    RecordingWindows,
    open_window_table,
    rounded_scores,
    write_window_scores,
)
from rfcx_tf.scoring.calibration import Calibration, write_calibration


def made_recordings(windows=(40, 1, 90, 7), seed=0):
    """Recordings with scores that swing slowly between sure and not."""
    random = np.random.default_rng(seed)
    zone = timezone(timedelta(hours=-4))
    for number, count in enumerate(windows):
        start = datetime(2024, 5, 1, number, 30, 0, 250_000, zone) if number % 2 else None
        duration_s = 2 + 0.5 * (count - 1) + 0.3
        recording = EventRecording(f"site/{number}", f"/far/{number}.wav", duration_s, start)
        steps = np.cumsum(random.normal(0, 1.5, (count, 3)), axis=0)
        scores = expit(5 * np.sin(steps)).astype(np.float32)
        begin = random.uniform(0, 1, (count, 3)).round(2)
        low = 10 * random.integers(10, 90, (count, 3))
        boxes = np.stack([begin, begin + 0.5, low, low + 500], axis=2).astype(np.float32)
        yield RecordingWindows(recording, scores, boxes)


def test_recordings_come_back_over_any_batches(tmp_path, monkeypatch):
    path = tmp_path / "windows.parquet"
    for rows_at_once in (1 << 16, 13, 1):
        monkeypatch.setattr(window_table, "_ROWS_AT_ONCE", rows_at_once)
        hours = write_window_scores(made_recordings(), path, CARD)
        assert hours == pytest.approx(sum(r.duration_s for r, *_ in made_recordings()) / 3600)
        with open_window_table(path) as table:
            assert table.card == CARD
            assert (table.windows, table.count_recordings()) == (138, 4)
            found = list(table.recordings())
        for (recording, scores, boxes), made in zip(found, made_recordings(), strict=True):
            assert recording == made.recording
            np.testing.assert_array_equal(scores, rounded_scores(made.scores))
            expected = np.where(made.scores[..., np.newaxis] < 0.01, np.nan, made.boxes)
            np.testing.assert_allclose(boxes, expected, rtol=1e-6)
    names = pyarrow.parquet.read_schema(path).metadata[b"rfcx_tf.names"]
    assert names == b'{"s4": "Ara ara", "s1": "=rain", "s30": "Boana"}'


def test_rounding_is_small_wherever_a_score_is():
    scores = np.array([0, 1e-9, 1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 0.99999, 1])
    rounded = rounded_scores(scores).astype(float)
    inside = slice(2, -1)
    odds, before = (values[inside] / (1 - values[inside]) for values in (rounded, scores))
    # Half a step, and float32 near 1.
    np.testing.assert_allclose(odds, before, rtol=np.expm1(1 / 128) + 3e-3)
    np.testing.assert_allclose(rounded, scores, atol=0.002)
    assert rounded[5] == 0.5 and (np.diff(rounded) >= 0).all()


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_events_are_those_of_the_scores(tmp_path, calibration):
    """By thresholds between the steps of the rounding, all events are the same."""
    path, card = tmp_path / "windows.parquet", CARD.replace(calibration=calibration)
    recordings = [made._replace(scores=rounded_scores(made.scores)) for made in made_recordings()]
    write_window_scores(recordings, path, card)
    rules = EventRules(threshold=0.501, low_ratio=0.9, merge_gap=0.25, min_s=0.6)
    with open_window_table(path) as table:
        found, there = rules.of_model(table.card).events(table.recordings())
    assert there == [made.recording for made in recordings]
    expected = pd.concat(
        find_events(
            recording, scores, card, 0.501, window_boxes=boxes, low_ratio=0.9, merge_gap_s=0.25
        )
        for recording, scores, boxes in recordings
    )
    expected = expected[expected["end_s"] - expected["start_s"] >= 0.6]
    assert len(expected) > 5
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))


def test_other_start_times_go_first(tmp_path):
    path = tmp_path / "windows.parquet"
    write_window_scores(made_recordings(), path, CARD)
    noon = datetime(2024, 6, 1, 12)
    with open_window_table(path, {"site/1": noon}) as table:
        starts = [made.recording.start for made in table.recordings()]
    assert starts[1] == noon
    assert starts[3] == list(made_recordings())[3].recording.start


def test_a_table_of_an_earlier_version_opens(tmp_path):
    path = tmp_path / "old.parquet"
    write_window_scores(made_recordings(), path, CARD)
    table = pyarrow.parquet.read_table(path)
    newer = [name for name in table.column_names if name.endswith(("_s", "_hz"))]
    newer = [name for name in newer if name not in ("start_s", "end_s", "duration_s")]
    old = table.drop_columns(["file", "duration_s", "start_time", *newer])
    pyarrow.parquet.write_table(old, path)
    with open_window_table(path) as opened:
        assert not opened.has_recordings
        found = list(opened.recordings())
    for (recording, scores, boxes), (expected, exact, _) in zip(
        found, made_recordings(), strict=True
    ):
        assert boxes is None
        assert recording.recording_id == expected.recording_id and recording.file == ""
        # Up to the last window's end; the sound went on for 0.3 s.
        assert recording.duration_s == pytest.approx(expected.duration_s - 0.3)
        np.testing.assert_array_equal(scores, rounded_scores(exact))


def test_memory_does_not_grow_with_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr(window_table, "_ROWS_AT_ONCE", 1 << 11)

    def recordings(count):
        for number in range(count):
            recording = EventRecording(f"r{number}", "", 500.0)
            boxes = np.ones((1000, 3, 4), np.float32)
            yield RecordingWindows(recording, np.full((1000, 3), 0.3, np.float32), boxes)

    def peak(count):
        path = tmp_path / f"{count}.parquet"
        tracemalloc.start()
        write_window_scores(recordings(count), path, CARD)
        with open_window_table(path) as table:
            assert sum(len(made.scores) for made in table.recordings()) == 1000 * count
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(5)
    assert peak(80) < 1.3 * peak(20)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.parquet"
    path.write_text("no table")

    def opened():
        with open_window_table(path):
            pass

    assert "cannot be read" in refused(opened)
    pyarrow.parquet.write_table(pa.table({"recording_id": ["a"]}), path)
    assert "rfcx_tf.card" in refused(opened)
    schema = {"rfcx_tf.card": CARD.to_json()}
    pyarrow.parquet.write_table(
        pa.table({"recording_id": ["a"]}).replace_schema_metadata(schema), path
    )
    assert "lacks end_s, s1, s30, s4" in refused(opened)


# Rules


def thresholds(card=CARD, **options):
    return EventRules(**options).of_model(card).thresholds.tolist()


def test_thresholds_by_species(tmp_path):
    infinity = float("inf")
    assert thresholds() == [0.5] * 3
    assert thresholds(threshold=0.25, species=["ara  ARA", "30"]) == [0.25, infinity, 0.25]
    path = tmp_path / "thresholds.csv"
    path.write_text("species,threshold\nBoana,0.75\n'=rain,0.125\n")
    assert thresholds(thresholds=path) == [0.5, 0.125, 0.75]
    assert thresholds(thresholds=path, threshold=0.25) == [0.25, 0.125, 0.75]
    path.write_text("species_id;threshold\n1;0,25\n")
    assert thresholds(thresholds=path) == [0.5, 0.25, 0.5]


def test_thresholds_of_a_calibration_mean_the_same_scores(tmp_path):
    """A probability of 0.6 is half the logit: odds of 1.5 are those of a score of 2.25 to 1."""
    path = tmp_path / "other.yaml"
    write_calibration(CALIBRATION, path)
    assert thresholds(calibration=path) == np.float32([0.5, 0.6, 0.7]).tolist()
    of_scores = [odds / (1 + odds) for odds in (1, 1.5**2, (7 / 3) ** 2)]
    np.testing.assert_allclose(thresholds(thresholds=path), of_scores, atol=1e-6)
    twice = Calibration(
        CARD.columns,
        CALIBRATION.score_logits,
        np.float32([[-20, 20]] * 3),
        np.float32([0.9] * 3),
        CALIBRATION.rows,
        "",
    )
    card = CARD.replace(calibration=twice)
    np.testing.assert_allclose(thresholds(card, thresholds=path), of_scores, atol=1e-6)


def test_rules_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "thresholds.csv"
    path.write_text("species,threshold\nBoana,1.5\n")
    assert f"{path}:2: threshold" in refused(thresholds, thresholds=path)
    path.write_text("species,threshold\nTyto,0.5\n")
    assert "Received: 'Tyto'; it has 3 (Ara ara, " in refused(thresholds, thresholds=path)
    path.write_text("threshold\n0.5\n")
    assert "column species_id or species" in refused(thresholds, thresholds=path)
    assert "--species" in refused(thresholds, species=["Tyto"])
    assert "--low-ratio" in refused(thresholds, low_ratio=1.5)
    assert "Received: 0." in refused(thresholds, threshold=0)
