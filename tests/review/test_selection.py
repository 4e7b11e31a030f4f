"""Which events are picked: the rule by hand, and what holds for all events and budgets."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.events.table import EVENT_COLUMNS
from rfcx_tf.review.selection import PickRules, not_judged_yet, pick_events

KEY = ["recording_id", "species_id", "start_s"]


def table(*rows):
    """Events of rows (recording, species, start, end, score[, probability[, start_time]])."""
    events = []
    for recording, species, start_s, end_s, score, *others in rows:
        probability, clock = [*others, *(np.nan, "")[len(others) :]]
        values = (recording, "", species, f"s{species}", start_s, end_s, 1.0, 2.0)
        events.append((*values, score, probability, clock, ""))
    return pd.DataFrame(events, columns=list(EVENT_COLUMNS)).astype(EVENT_COLUMNS)


def test_near_the_threshold_and_over_the_scale_in_turn():
    values = (0.05, 0.12, 0.45, 0.52, 0.58, 0.95)
    events = table(*((f"r{i}", 3, 1, 2, value) for i, value in enumerate(values)))
    picks = pick_events(events, PickRules(minutes=100))
    assert picks["score"].to_list()[:3] == [0.52, 0.95, 0.45]
    assert picks["score"].iloc[3] in (0.05, 0.12)
    assert picks["reason"].to_list()[:5] == [
        *("uncertain", "spread 0.8-1.0", "uncertain", "spread 0.0-0.2", "uncertain")
    ]
    assert len(picks) == len(values)
    # A probability comes before a score, a calibrated threshold before a half.
    events["probability"] = 1 - events["score"]
    first = pick_events(events, PickRules(minutes=100), {3: 0.9}).iloc[0]
    assert (first["score"], first["reason"]) == (0.12, "uncertain")


def test_other_recordings_and_other_hours_come_first():
    rules = PickRules(minutes=100)
    events = table(("a", 1, 0, 1, 0.50), ("a", 1, 5, 6, 0.51), ("b", 1, 0, 1, 0.56))
    assert pick_events(events, rules)["recording_id"].to_list() == ["a", "b", "a"]
    events = table(("a", 1, 0, 1, 0.50), ("a", 1, 5, 6, 0.51), ("a", 1, 3600, 3601, 0.56))
    assert pick_events(events, rules)["start_s"].to_list() == [0, 3600, 5]
    dawn, dusk = "2023-04-01T05:30:00.000", "2023-04-01T18:10:00.000"
    events = table(
        ("a", 1, 0, 1, 0.50, np.nan, dawn),
        ("b", 1, 0, 1, 0.51, np.nan, dawn.replace("04-01", "04-02")),
        ("c", 1, 0, 1, 0.515, np.nan, dusk),
    )
    assert pick_events(events, rules)["recording_id"].to_list() == ["a", "c", "b"]


def test_an_hour_of_a_recording_gives_no_more_than_its_share():
    events = table(*(("a", 1, i, i + 0.5, 0.5) for i in range(9)), ("b", 1, 0, 1, 0.9))
    picks = pick_events(events, PickRules(minutes=100, per_recording=2))
    assert sorted(picks["recording_id"]) == ["a", "a", "b"]


def test_the_middle_of_a_long_event_is_judged():
    picks = pick_events(table(("a", 1, 100, 160, 0.5)), PickRules(longest_s=8))
    assert picks[["start_s", "end_s"]].to_numpy().tolist() == [[126, 134]]


def test_a_rare_class_gets_as_many_as_a_common_one():
    events = table(
        *((f"r{i}", 1, 0, 2, 0.5) for i in range(200)), *((f"r{i}", 2, 0, 2, 0.5) for i in range(5))
    )
    # 9 s an event: 2 s of it, twice 1 s around it, 5 s to decide.
    picks = pick_events(events, PickRules(minutes=1.5, per_class=50))
    assert picks["species_id"].to_list() == [1] * 5 + [2] * 5


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(0, 3),
        st.integers(0, 9000),
        st.floats(0.5, 20),
        st.floats(0, 1),
        st.one_of(st.just(np.nan), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda e: e[:3],
)


@settings(max_examples=25)
@given(
    EVENTS,
    st.builds(
        PickRules,
        minutes=st.floats(0.1, 20),
        per_class=st.integers(1, 6),
        per_recording=st.integers(1, 3),
        longest_s=st.floats(1, 15),
        seed=st.integers(0, 5),
    ),
    st.randoms(use_true_random=False),
)
def test_what_holds_for_all_events_and_budgets(rows, rules, random):
    events = table(*((a, b, c, c + d, *rest) for a, b, c, d, *rest in rows))
    picks = pick_events(events, rules)
    clips_s = np.minimum((picks["end_s"] - picks["start_s"]).to_numpy(), rules.longest_s) + 2
    assert (clips_s + 5).sum() <= rules.minutes * 60 + 1e-6
    assert not picks.duplicated(["recording_id", "species_id", "start_s", "end_s"]).any()
    for pick in picks.itertuples():
        of_it = events[(events["recording_id"] == pick.recording_id)]
        of_it = of_it[of_it["species_id"] == pick.species_id]
        inside = (of_it["start_s"] <= pick.start_s + 1e-6) & (of_it["end_s"] >= pick.end_s - 1e-6)
        assert (inside & (of_it["score"] == pick.score)).any()
    assert picks.groupby("species_id").size().max() <= rules.per_class or picks.empty
    places = picks.groupby(["species_id", "recording_id"]).size()
    # 9000 s are at most three hours of a recording.
    assert picks.empty or places.max() <= 3 * rules.per_recording
    dearest_s = rules.longest_s + 2 + 5
    if rules.minutes * 60 >= dearest_s * events["species_id"].nunique():
        assert set(picks["species_id"]) == set(events["species_id"])
    shuffled = random.sample(range(len(events)), len(events))
    pd.testing.assert_frame_equal(pick_events(events.iloc[shuffled], rules), picks)


def test_other_seeds_pick_others():
    events = table(*((f"r{i}", 1, 0, 1, 0.9) for i in range(100)))
    picked = {
        tuple(pick_events(events, PickRules(per_class=5, seed=seed))["recording_id"])
        for seed in range(3)
    }
    assert len(picked) == 3


def test_what_rows_judge_is_left_out():
    events = table(
        ("a", 1, 10, 14, 0.5),  # judged by a box inside
        ("a", 2, 10, 14, 0.5),  # of another species
        ("b", 1, 10, 14, 0.5),  # in another recording
        ("a", 1, 12.9, 17, 0.5),  # shares too little
    )
    rows = pd.DataFrame(
        [("a", 1, 11.0, 13.0)], columns=["recording_id", "species_id", "t_min", "t_max"]
    )
    left = not_judged_yet(events, rows)
    assert left[KEY].to_numpy().tolist() == events[KEY].iloc[1:].to_numpy().tolist()
