"""Events and the calls that are there -> how well they fit: F1 at overlaps and at a collar, PSDS.

Calls are all boxes of all species, with boxes of a species that are at most 0.5 s apart taken as
one. Events and calls are compared within a recording and a species. Tables have the columns
recording_id, species_id, begin_s, end_s, low_hz, high_hz (NaN where the band is not known), and
events a value. Figures:

    overlap F1  events and calls are matched one to one, the largest overlap first; a match
                counts if its overlap, intersection over union in time, reaches a bound
    collar F1   an event is right if its begin is at most `collar_s` off, and its end as well, or
                by a fifth of the call's length (Mesaros et al. 2016), matched one to one
    PSDS        polyphonic sound detection score (Bilen et al. 2020): the area below the curve of
                the rate of calls found against wrong detections per hour. Here with the
                intersections of DCASE's first scenario, 0.7 of each, no cost of confusions, and
                the spread between species subtracted.

References:
    Mesaros, Heittola & Virtanen 2016, "Metrics for polyphonic sound event detection", Applied
        Sciences 6.
    Bilen, Ferroni, Tuveri, Azcarreta & Krstulović 2020, "A framework for the robust evaluation of
        sound event detection", ICASSP.
    Ebbers, Serizel & Haeb-Umbach 2022, "Threshold-independent evaluation of sound event
        detection scores", ICASSP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from rfcx_tf.core.csv_tables import read_csv, read_number, read_whole_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.box_fit import interval_iou

OVERLAPS = (0.5, 0.7)
_SAME_CALL_S = 0.5
_KEY = ["recording_id", "species_id"]
# A collar may be this part of a long call at its end.
_PART_OF_CALL = 0.2
# Of PSDS: the least part of an event in calls, and of a call in events; wrong events an hour at
# which the curve ends; how much the spread between species costs.
_IN_CALLS = _IN_EVENTS = 0.7
_WORST_PER_HOUR, _SPREAD_COST = 100.0, 1.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class EventFigures:
    """How well events fit.

    Attributes:
        table: DataFrame, a row for every class and a last row `all`: class, name, calls, events,
            found (calls with a matched event of any overlap), f1 (any overlap), f1_iou50,
            f1_iou70, f1_collar, median_iou (of the matches), median_band_iou (of the matches'
            bands, where both are known), psds (of the class: without a cost of spread). NaN
            where there is nothing to divide by.
        best: of all classes together, at the threshold of the values with the highest f1_iou50:
            threshold, events, f1, f1_iou50, f1_iou70, f1_collar, median_iou.
    """

    table: pd.DataFrame
    best: dict[str, float]

    @property
    def text(self) -> str:
        """The table and the best threshold, for a terminal."""
        table = self.table.copy()
        width = table["class"].str.len().max() + 2
        labels = table[["class", "name"]].itertuples(index=False)
        table.index = [f"{class_.ljust(width)}{name}" for class_, name in labels]
        table = table.drop(columns=["class", "name"])
        best = self.best
        return (
            f"{table.to_string(float_format='{:.3f}'.format, na_rep='-')}\n\n"
            f"At threshold {best['threshold']:g}, the best for overlaps of 0.5: {best['events']} "
            f"events, F1 {best['f1']:.3f} of any overlap, {best['f1_iou50']:.3f} from 0.5 on, "
            f"{best['f1_iou70']:.3f} from 0.7 on, {best['f1_collar']:.3f} at the collar; median "
            f"overlap {best['median_iou']:.3f}."
        )


def calls_of_boxes(boxes: pd.DataFrame, gap_s: float = _SAME_CALL_S) -> pd.DataFrame:
    """Boxes as calls: those of a recording and species that are at most `gap_s` apart are one.

    Args:
        boxes: recording_id, species_id, t_min, t_max, and f_min, f_max in Hz, or not.
        gap_s: between the end of one and the begin of the next.

    Returns:
        DataFrame recording_id, species_id, begin_s, end_s, low_hz, high_hz, in order.
    """
    rows = []
    has_band = {"f_min", "f_max"} <= set(boxes)
    for key, own in boxes.groupby(_KEY, sort=True):
        spans: list[list[float]] = []
        for box in own.sort_values(["t_min", "t_max"]).itertuples():
            low_hz, high_hz = (box.f_min, box.f_max) if has_band else (np.nan, np.nan)
            if spans and box.t_min - spans[-1][1] <= gap_s:
                last = spans[-1]
                last[1], last[2] = max(last[1], box.t_max), min(last[2], low_hz)
                last[3] = max(last[3], high_hz)
            else:
                spans.append([box.t_min, box.t_max, low_hz, high_hz])
        rows += [(*key, *span) for span in spans]
    columns = [*_KEY, "begin_s", "end_s", "low_hz", "high_hz"]
    return pd.DataFrame(rows, columns=columns)


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Reads all boxes of recordings, in Kaggle's columns, for `calls_of_boxes`.

    Raises:
        UserError: naming file and line of the first row that cannot be a box, or if there is none.
    """
    times = ("t_min", "t_max")
    header, rows = read_csv(path, (*_KEY, *times), numbers=(*times, "f_min", "f_max"))
    columns = [*times, *(["f_min", "f_max"] if {"f_min", "f_max"} <= set(header) else [])]
    boxes = []
    for place, cells in rows:
        values = {name: read_number(place, name, cells[name]) for name in columns}
        if not 0 <= values["t_min"] < values["t_max"]:
            raise UserError(f"{place}: a box must end after it begins, at 0 or later.")
        species_id = read_whole_number(place, "species_id", cells["species_id"])
        boxes.append({"recording_id": cells["recording_id"], "species_id": species_id} | values)
    if not boxes:
        raise UserError(f"The boxes of recordings must be listed. {path} has none.")
    return pd.DataFrame(boxes)


def events_to_compare(events: pd.DataFrame) -> pd.DataFrame:
    """A table of events with the columns that are compared.

    Args:
        events: of `EVENT_COLUMNS` (`rfcx_tf.events.table`).

    Returns:
        DataFrame recording_id, species_id, begin_s, end_s, low_hz, high_hz, value (probability,
        or score where there is none).
    """
    value = events["probability"].fillna(events["score"])
    table = events[[*_KEY, "start_s", "end_s", "low_hz", "high_hz"]].assign(value=value)
    return table.rename(columns={"start_s": "begin_s"}).reset_index(drop=True)


def match_events(events: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """Matches events and calls one to one, the largest overlap first.

    Returns:
        DataFrame, a row for every match: event and call (numbers of their rows), species_id, iou
        (of time, above 0), band_iou (of the bands; NaN where one is not known).
    """
    matches = []
    event_spans, call_spans = _spans(events), _spans(calls)
    for (_, species_id), of_events, of_calls in _pairs(events, calls):
        mine, theirs = event_spans[of_events], call_spans[of_calls]
        overlap = interval_iou(mine[:, None], theirs[None])
        # Of equal overlaps the first event and call.
        order = np.argsort(-overlap, axis=None, kind="stable")
        free_events, free_calls = np.full(len(mine), True), np.full(len(theirs), True)
        for event, call in zip(*np.unravel_index(order, overlap.shape), strict=True):
            if overlap[event, call] <= 0:
                break
            if free_events[event] and free_calls[call]:
                free_events[event] = free_calls[call] = False
                row = (of_events[event], of_calls[call], species_id, overlap[event, call])
                matches.append(row)
    table = pd.DataFrame(matches, columns=["event", "call", "species_id", "iou"])
    bands = ["low_hz", "high_hz"]
    mine = events[bands].to_numpy(float)[table["event"].to_numpy(int)]
    theirs = calls[bands].to_numpy(float)[table["call"].to_numpy(int)]
    return table.assign(band_iou=interval_iou(mine, theirs))


def collar_matches(
    events: pd.DataFrame, calls: pd.DataFrame, collar_s: float = 0.2
) -> pd.DataFrame:
    """As many pairs as can be of events and calls that begin and end together, one to one.

    Args:
        events, calls: tables as above.
        collar_s: how far begins may be apart; ends also by a fifth of the call's length.

    Returns:
        DataFrame event, call, species_id.
    """
    matches = []
    event_spans, call_spans = _spans(events), _spans(calls)
    for (_, species_id), of_events, of_calls in _pairs(events, calls):
        mine, theirs = event_spans[of_events, None], call_spans[None, of_calls]
        off = np.abs(mine - theirs)
        length_s = theirs[..., 1] - theirs[..., 0]
        right = off[..., 0] <= collar_s + _ROUNDING
        right &= off[..., 1] <= np.maximum(collar_s, _PART_OF_CALL * length_s) + _ROUNDING
        partner = maximum_bipartite_matching(csr_array(right), perm_type="column")
        matches += [
            (of_events[event], of_calls[call], species_id)
            for event, call in enumerate(partner)
            if call >= 0
        ]
    return pd.DataFrame(matches, columns=["event", "call", "species_id"])


def psds(
    events: pd.DataFrame, calls: pd.DataFrame, hours: float, spread_cost: float = _SPREAD_COST
) -> float:
    """The polyphonic sound detection score of events by their values, in [0, 1].

    The curve has a point for every value of an event: an event of a species is right if calls
    of it cover 0.7 of it; a call is found if right events cover 0.7 of it; the others are wrong
    events. It ends at 100 wrong events an hour.

    Args:
        events, calls: tables as above; events of a species in a recording do not overlap.
        hours: of sound in which they were searched and are.
        spread_cost: of the standard deviation between species, subtracted at every rate.

    Returns:
        NaN without calls.
    """
    if calls.empty or not hours > 0:
        return float("nan")
    curves = []
    for species_id, own_calls in calls.groupby("species_id"):
        own = events[events["species_id"] == species_id]
        curves.append(_found_by_wrong(own, own_calls, hours))
    edges = np.unique(np.concatenate([*(x for x, _ in curves), [0.0, _WORST_PER_HOUR]]))
    edges = edges[edges <= _WORST_PER_HOUR]
    rates = np.array([y[np.searchsorted(x, edges, side="right") - 1] for x, y in curves])
    height = np.maximum(0, rates.mean(axis=0) - spread_cost * rates.std(axis=0))
    return float((height[:-1] * np.diff(edges)).sum() / _WORST_PER_HOUR)


def event_figures(
    events: pd.DataFrame,
    calls: pd.DataFrame,
    names: Sequence[tuple[int, str]],
    *,
    hours: float | None = None,
    collar_s: float = 0.2,
) -> EventFigures:
    """Compares events with the calls that are there.

    Args:
        events: of `events_to_compare`.
        calls: of `calls_of_boxes`: all of the recordings that were searched.
        names: species_id and name of the classes, in the order of the table.
        hours: of sound that was searched, for PSDS; None: none.
        collar_s: see `collar_matches`.
    """
    matches, at_collar = match_events(events, calls), collar_matches(events, calls, collar_s)
    rows = []
    for species_id, name in names:
        of_class = [t[t["species_id"] == species_id] for t in (events, calls, matches, at_collar)]
        rows.append({"class": f"s{species_id}", "name": name} | _figures(*of_class, hours, 0.0))
    every = {"class": "all", "name": ""}
    rows.append(every | _figures(events, calls, matches, at_collar, hours, _SPREAD_COST))
    best: dict[str, float] = {}
    # Hundredths from 0.05 up, as the values are read.
    for threshold in np.round(np.arange(0.05, 1, 0.05), 2):
        kept = events[events["value"] >= threshold].reset_index(drop=True)
        kept_matches = match_events(kept, calls)
        found = _figures(kept, calls, kept_matches, collar_matches(kept, calls, collar_s))
        if not best or found["f1_iou50"] > best["f1_iou50"]:
            best = {"threshold": float(threshold)} | found
    return EventFigures(pd.DataFrame(rows), best)


def _figures(
    events: pd.DataFrame,
    calls: pd.DataFrame,
    matches: pd.DataFrame,
    at_collar: pd.DataFrame,
    hours: float | None = None,
    spread_cost: float = 0.0,
) -> dict[str, float]:
    def f1(right: int) -> float:
        both = len(events) + len(calls)
        return 2 * right / both if both else float("nan")

    iou = matches["iou"].to_numpy(float)
    band_iou = matches["band_iou"].dropna()
    return {
        "calls": len(calls),
        "events": len(events),
        "found": len(iou),
        "f1": f1(len(iou)),
        **{f"f1_iou{100 * bound:.0f}": f1(int((iou >= bound).sum())) for bound in OVERLAPS},
        "f1_collar": f1(len(at_collar)),
        "median_iou": float(np.median(iou)) if len(iou) else float("nan"),
        "median_band_iou": float(band_iou.median()) if len(band_iou) else float("nan"),
        "psds": psds(events, calls, hours, spread_cost) if hours else float("nan"),
    }


def _pairs(events: pd.DataFrame, calls: pd.DataFrame):
    """Recordings and species that have both: their key, rows of events and rows of calls."""
    of_events, of_calls = events.groupby(_KEY).indices, calls.groupby(_KEY).indices
    for key in sorted(of_events.keys() & of_calls.keys()):
        yield key, of_events[key], of_calls[key]


def _spans(table: pd.DataFrame) -> np.ndarray:
    """Begins and ends in seconds, float [rows, 2]."""
    return table[["begin_s", "end_s"]].to_numpy(float)


def _found_by_wrong(
    events: pd.DataFrame, calls: pd.DataFrame, hours: float
) -> tuple[np.ndarray, np.ndarray]:
    """The curve of one species: wrong events an hour, ascending from 0, and calls found there."""
    length_s = (events["end_s"] - events["begin_s"]).to_numpy()
    in_calls = np.zeros(len(events))
    # By call: the values of the events in it and how long they are there.
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    of_events = events.groupby("recording_id").indices
    begin_s, end_s = events["begin_s"].to_numpy(), events["end_s"].to_numpy()
    for call in calls.itertuples():
        own = of_events.get(call.recording_id, np.array([], int))
        shared_s = np.minimum(end_s[own], call.end_s) - np.maximum(begin_s[own], call.begin_s)
        shared_s = np.maximum(0, shared_s)
        in_calls[own] += shared_s
        parts.append((own, shared_s / (call.end_s - call.begin_s)))
    right = in_calls >= _IN_CALLS * length_s - _ROUNDING
    value = events["value"].to_numpy()
    # A call is found from the value down to which right events cover enough of it.
    found_from = []
    for own, part in parts:
        kept = right[own] & (part > 0)
        order = np.argsort(-value[own][kept], kind="stable")
        covered = np.cumsum(part[kept][order]) >= _IN_EVENTS - _ROUNDING
        found_from.append(value[own][kept][order][covered.argmax()] if covered.any() else -np.inf)
    thresholds = np.unique(value)[::-1]
    wrong = np.sort(value[~right])
    found_from = np.sort(found_from)
    per_hour = (len(wrong) - np.searchsorted(wrong, thresholds)) / hours
    found = (len(calls) - np.searchsorted(found_from, thresholds)) / len(calls)
    # Of thresholds with as many wrong events the lowest, which finds most.
    x = np.concatenate([[0.0], per_hour])
    y = np.concatenate([[0.0], found])
    last = np.append(np.diff(x) > 0, True)
    return x[last], np.maximum.accumulate(y[last])
