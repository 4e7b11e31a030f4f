"""Events -> those that a person should judge: uncertain, diverse, some of every class.

The *value* of an event is its probability, or its score where it has none. Two rules pick events
of a class in turn:

    uncertain  takes the event whose value is nearest to the class's threshold (0.5 without a
               calibration): where the model knows least, a verdict teaches most
    spread     takes a random event from a fifth of the scale, the fifths in the order 0.8-1, 0-0.2,
               0.6-0.8, 0.2-0.4, 0.4-0.6: verdicts over the whole scale show whether values mean
               what they say

Both avoid what was picked before. Every earlier pick of the class adds to an event's distance: 0.1
from the same hour of the same recording, 0.02 at the same hour of the day. One hour of a recording
gives at most `per_recording` events of a class.

Classes take turns in a random order until the minutes are spent. So every class gets some, a rare
one as many as a common one, if there is a minute for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

# Of sound in a clip, before and behind the event.
CONTEXT_S = 1.0
# What a person needs to look, decide and type, beside the time that a clip plays.
_DECISION_S = 5.0

_FIFTHS = ((0.8, 1.0), (0.0, 0.2), (0.6, 0.8), (0.2, 0.4), (0.4, 0.6))
_SAME_PLACE, _SAME_HOUR_OF_DAY = 0.1, 0.02


@dataclass(frozen=True)
class PickRules:
    """How many events are picked.

    Attributes:
        minutes: a person's time; an event takes its clip's length and 5 s more.
        per_class: the most events of a class.
        per_recording: the most events of a class from one hour of a recording.
        longest_s: a longer event is cut to its middle.
        seed: of all random choices.
    """

    minutes: float = 30.0
    per_class: int = 20
    per_recording: int = 3
    longest_s: float = 10.0
    seed: int = 0

    def seconds(self, events: pd.DataFrame) -> np.ndarray:
        """The time that it takes to judge each event, float [events]."""
        length_s = (events["end_s"] - events["start_s"]).to_numpy()
        return np.minimum(length_s, self.longest_s) + 2 * CONTEXT_S + _DECISION_S


def pick_events(
    events: pd.DataFrame, rules: PickRules, thresholds: Mapping[int, float] | None = None
) -> pd.DataFrame:
    """Picks events to judge; the order of the rows in `events` does not matter.

    Args:
        events: of `EVENT_COLUMNS` (`rfcx_tf.events.table`).
        rules: how many.
        thresholds: values from which a class counts as detected, by species id; others have 0.5.

    Returns:
        Rows of `events`, cut to `longest_s`, with a column `reason`: `uncertain`, or `spread
        0.8-1.0` and so on. They are in order of species_id, then of picking, so that the first of
        a class matter most.
    """
    order = ["species_id", "recording_id", "start_s", "end_s"]
    events = events.sort_values(order, kind="stable", ignore_index=True)
    seconds = rules.seconds(events)
    queues = {}
    for species_id, own in events.groupby("species_id"):
        threshold = (thresholds or {}).get(int(species_id), 0.5)
        queues[species_id] = _choose(own, threshold, rules)
    picked = _take_turns(queues, seconds, rules)
    rows = [row for row, _ in picked]
    picks = middle_parts(events.iloc[rows], rules.longest_s)
    picks["reason"] = pd.Series([reason for _, reason in picked], picks.index, dtype=str)
    return picks.reset_index(drop=True)


def middle_parts(events: pd.DataFrame, longest_s: float) -> pd.DataFrame:
    """Events, of which those that last longer are cut to their middle."""
    events = events.copy()
    middle_s = (events["start_s"] + events["end_s"]) / 2
    long = events["end_s"] - events["start_s"] > longest_s
    events.loc[long, "start_s"] = (middle_s - longest_s / 2)[long]
    events.loc[long, "end_s"] = (middle_s + longest_s / 2)[long]
    return events


def not_judged_yet(events: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Leaves out the events that rows of a data folder already judge.

    A row judges an event of its species and recording if they share at least half of the
    shorter one.

    Args:
        events: of `EVENT_COLUMNS`.
        rows: `Annotations.rows`.
    """
    boxes = {
        key: own[["t_min", "t_max"]].to_numpy()
        for key, own in rows.groupby(["recording_id", "species_id"])
    }
    judged = np.zeros(len(events), bool)
    for i, event in enumerate(events.itertuples()):
        box = boxes.get((event.recording_id, event.species_id))
        if box is not None:
            shared_s = np.minimum(box[:, 1], event.end_s) - np.maximum(box[:, 0], event.start_s)
            shorter_s = np.minimum(box[:, 1] - box[:, 0], event.end_s - event.start_s)
            judged[i] = (shared_s >= shorter_s / 2).any()
    return events[~judged].reset_index(drop=True)


def _choose(own: pd.DataFrame, threshold: float, rules: PickRules) -> list[tuple[int, str]]:
    """The events of one class in the order in which they are picked: row and reason."""
    value = own["probability"].fillna(own["score"]).to_numpy()
    places = own["recording_id"] + "/" + (own["start_s"] // 3600).astype(int).astype(str)
    place = pd.factorize(places)[0]
    # 05 of 2023-04-01T05:30:00; without a clock all events count as of the same hour.
    hour = pd.factorize(own["start_time"].str[11:13])[0]
    lot = np.random.default_rng([rules.seed, int(own["species_id"].iloc[0])]).random(len(own))
    fifth = np.minimum(value * 5, 4).astype(int)
    fifths = itertools.cycle(_FIFTHS)
    from_place, from_hour = np.zeros(place.max() + 1, int), np.zeros(hour.max() + 1, int)
    free = np.ones(len(own), bool)
    chosen = []
    while free.any() and len(chosen) < rules.per_class:
        distance = _SAME_PLACE * from_place[place] + _SAME_HOUR_OF_DAY * from_hour[hour]
        candidates = free
        if len(chosen) % 2 == 0:
            distance = distance + np.abs(value - threshold)
            reason = "uncertain"
        else:
            while True:
                low, high = next(fifths)
                candidates = free & (fifth == round(low * 5))
                if candidates.any():
                    break
            reason = f"spread {low:.1f}-{high:.1f}"
        order = np.lexsort((lot, distance))
        row = order[candidates[order]][0]
        chosen.append((int(own.index[row]), reason))
        from_place[place[row]] += 1
        from_hour[hour[row]] += 1
        free[row] = False
        if from_place[place[row]] == rules.per_recording:
            free[place == place[row]] = False
    return chosen


def _take_turns(
    queues: Mapping[int, list[tuple[int, str]]], seconds: np.ndarray, rules: PickRules
) -> list[tuple[int, str]]:
    """Takes an event of every queue in turn while the minutes last; gives them by class."""
    random = np.random.default_rng(rules.seed)
    left_s = rules.minutes * 60
    taken: dict[int, list[tuple[int, str]]] = {species_id: [] for species_id in queues}
    for turn in range(rules.per_class):
        for species_id in random.permutation(sorted(queues)):
            queue = queues[species_id]
            if turn < len(queue) and seconds[queue[turn][0]] <= left_s:
                left_s -= seconds[queue[turn][0]]
                taken[species_id].append(queue[turn])
    return list(itertools.chain.from_iterable(taken[species_id] for species_id in sorted(taken)))
