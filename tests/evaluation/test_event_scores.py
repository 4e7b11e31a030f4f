"""How well events fit: sed_scores_eval, a matcher written apart, and cases worked by hand.

The figures of sed_scores_eval 0.0.4 (github.com/fgnt/sed_scores_eval) are kept as numbers: it
compiles from source, brings sed_eval and dcase_util and does not run with pandas 3 as it is. Its
scores were those of the events below, as steps of height `value`.
"""

import math
from random import Random

import numpy as np
import pandas as pd
import pytest
from made_events import event
from refused import refused

from rfcx_tf.cli.main import main
from rfcx_tf.evaluation.event_scores import (
    calls_of_boxes,
    collar_matches,
    event_figures,
    match_events,
    psds,
    read_boxes,
)

COLUMNS = ["recording_id", "species_id", "begin_s", "end_s", "low_hz", "high_hz"]
BOX_COLUMNS = ["recording_id", "species_id", "t_min", "t_max", "f_min", "f_max"]
NAMES = [(0, "a"), (1, "b"), (2, "c")]


def made_events_and_boxes():
    """Events and calls of three species in twelve recordings of 40 s; events do not overlap."""
    # Of the standard library, whose numbers stay from version to version.
    random = Random(0)
    events, boxes = [], []
    for number in range(36):
        recording, species = f"r{number // 3}", number % 3
        now_s, free_s = 0.0, 0.0
        for _ in range(random.randrange(6)):
            begin_s = now_s + 0.6 + 3 * random.random()
            end_s = begin_s + 0.3 + 2 * random.random()
            if random.random() < 0.8:
                boxes.append((recording, species, begin_s, end_s, 100.0, 200.0))
            begin_s, now_s = max(free_s, begin_s + 0.4 * random.random() - 0.2), end_s
            free_s = end_s + 0.4 * random.random() - 0.2
            if random.random() < 0.8:
                value = round(random.random(), 4)
                events.append((recording, species, begin_s, free_s, 100.0, 220.0, value))
                free_s += 0.01
    events = pd.DataFrame(events, columns=[*COLUMNS, "value"])
    return events, calls_of_boxes(pd.DataFrame(boxes, columns=BOX_COLUMNS))


def test_psds_is_that_of_sed_scores_eval():
    """intersection_based.psds(..., dtc 0.7, gtc 0.7, alpha_ct 0, alpha_st 1, 100 an hour)."""
    events, calls = made_events_and_boxes()
    hours = 12 * 40 / 3600
    assert psds(events, calls, hours) == pytest.approx(0.47460080144569344, abs=1e-9)
    table = event_figures(events, calls, NAMES, hours=hours).table
    expected = [0.475, 0.5473684210526316, 0.6632352941176469, 0.47460080144569344]
    assert table["psds"].to_list() == pytest.approx(expected, abs=1e-9)


def test_collar_f1_is_that_of_sed_scores_eval():
    """collar_based.fscore(..., onset_collar 0.2, offset_collar 0.2, offset_collar_rate 0.2)."""
    events, calls = made_events_and_boxes()
    for threshold, of_all, of_classes in (
        (0.3, 0.6458333333333333, [0.5333333333333333, 0.7567567567567567, 0.6206896551724139]),
        (0.5, 0.5454545454545454, [0.5, 0.5625, 0.5714285714285714]),
        (0.7, 0.3188405797101449, [0.2608695652173913, 0.32, 0.38095238095238093]),
    ):
        kept = events[events["value"] > threshold].reset_index(drop=True)
        found = event_figures(kept, calls, NAMES).table["f1_collar"]
        assert found.to_list() == pytest.approx([*of_classes, of_all], abs=1e-9)


def test_overlaps_are_those_of_a_matcher_written_apart():
    events, calls = made_events_and_boxes()
    best = event_figures(events, calls, NAMES).best
    assert (len(calls), best["threshold"], best["events"]) == (53, 0.05, 61)
    found = [round(best[name], 3) for name in ("f1", "f1_iou50", "f1_iou70", "median_iou")]
    assert found == [0.754, 0.719, 0.649, 0.890]


def test_by_hand():
    boxes = pd.DataFrame(
        [
            ("x", 1, 0.0, 1.0, 100.0, 200.0),
            ("x", 1, 1.5, 2.0, 150.0, 300.0),
            ("x", 1, 10.0, 12.0, 100.0, 200.0),
            ("y", 1, 0.0, 1.0, 100.0, 200.0),
        ],
        columns=BOX_COLUMNS,
    )
    calls = calls_of_boxes(boxes)
    # 0.5 s apart is one call, of both bands.
    assert calls.to_numpy().tolist()[0] == ["x", 1, 0.0, 2.0, 100.0, 300.0]
    assert len(calls) == 3
    events = pd.DataFrame(
        [
            ("x", 1, 0.0, 1.0, 100.0, 200.0, 0.9),
            ("x", 1, 1.0, 3.0, 100.0, 200.0, 0.8),
            ("x", 1, 10.1, 12.35, np.nan, np.nan, 0.7),
            ("y", 2, 0.0, 1.0, 100.0, 200.0, 0.6),
        ],
        columns=[*COLUMNS, "value"],
    )
    matches = match_events(events, calls)
    # The second event would have shared 1 of 3 s with the first call, the first shares 1 of 2.
    assert matches[["event", "call"]].to_numpy().tolist() == [[2, 1], [0, 0]]
    assert matches["iou"].to_list() == pytest.approx([1.9 / 2.35, 0.5])
    assert math.isnan(matches["band_iou"][0]) and matches["band_iou"][1] == pytest.approx(0.5)
    # A fifth of 2 s at the end: 0.35 s off is right there, 0.1 s at the begin.
    assert collar_matches(events, calls)[["event", "call"]].to_numpy().tolist() == [[2, 1]]
    table = event_figures(events, calls, [(1, "one"), (2, "two"), (3, "three")]).table
    assert table["f1_iou50"].to_list()[:2] == pytest.approx([4 / 6, 0])
    assert math.isnan(table["f1_iou50"][2]) and table["psds"].isna().all()
    assert table["found"].to_list() == [2, 0, 0, 2]


def test_the_verb_prints_and_writes_them(tmp_path, capsys):
    boxes, events, out = (tmp_path / name for name in ("boxes.csv", "events.csv", "out.csv"))
    boxes.write_text("recording_id,species_id,t_min,t_max\nx,2,0,2\nx,5,4,5\n")
    rows = [event("x", 2, 0.0, 1.5, 0.9), event("x", 9, 0.0, 1.0, 0.4)]
    pd.DataFrame(rows).to_csv(events, index=False)
    options = ["--events", str(events), "--boxes", str(boxes), "--hours", "0.1", "--out", str(out)]
    assert main(["evaluate", *options]) == 0
    text = capsys.readouterr().out
    assert "s9   high" in text and "At threshold 0.45" in text
    table = pd.read_csv(out).set_index("class")
    assert table.loc["all", "f1_iou70"] == pytest.approx(2 / 4)
    assert table["psds"].to_dict() == pytest.approx(
        {"s2": 1, "s5": 0, "s9": np.nan, "all": 0}, nan_ok=True
    )
    assert main(["evaluate", "--events", str(events)]) == 2
    assert "Add --boxes CSV" in capsys.readouterr().err
    assert main(["evaluate", "--run", "x", "--hours", "1"]) == 2
    assert "--hours is for events" in capsys.readouterr().err
    boxes.write_text("recording_id,species_id,t_min,t_max\nx,2,2,2\n")
    assert f"{boxes}:2: a box must end" in refused(read_boxes, boxes)
