"""Sites are compared by the sound that they have."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.report.sites import site_of, site_table, species_by_site

EVENTS = pd.DataFrame(
    [("a/1", 1), ("a/1", 1), ("a/2", 2), ("b/x/1", 1)], columns=["recording_id", "species_id"]
)
RECORDINGS = ["a/1", "a/2", "b/x/1", "b/x/2", "c/1"]


def test_a_site_is_the_first_folder():
    assert [site_of(name) for name in ("a/b/c", "a/b", "a")] == ["a", "a", ""]


def test_sites_have_their_hours_days_and_events():
    durations_s = dict.fromkeys(RECORDINGS, 1800.0)
    starts = {"a/1": datetime(2021, 1, 1), "a/2": datetime(2021, 1, 1, 5)}
    table = site_table(EVENTS, RECORDINGS, durations_s, starts, ["c/1", "c/9", "c/9", ""])
    assert table.index.tolist() == ["a", "b", "c"]
    assert table["recordings"].tolist() == [2, 2, 1]
    assert table["hours"].tolist() == [1, 1, 0.5]
    assert table["days"].tolist() == [1, 0, 0]
    assert table["events"].tolist() == [3, 1, 0]
    assert table["species"].tolist() == [2, 1, 0]
    assert table["per_hour"].tolist() == [3, 1, 0]
    assert table["unused"].tolist() == [0, 0, 2]
    species = species_by_site(EVENTS, {"s1": "one", "s2": "two"}, table)
    assert species["name"].tolist() == ["one", "two"]
    assert species["all"].tolist() == [3, 1]
    values = species[["site0", "site1", "site2"]].to_numpy()
    assert values == pytest.approx(np.array([[2, 1, 0], [1, 0, 0]]))
    # Quarters of the row's most.
    assert species[["shade0", "shade1", "shade2"]].to_numpy().tolist() == [[4, 2, 0], [4, 0, 0]]


def test_without_lengths_events_are_counted():
    table = site_table(EVENTS, [], {}, {}, [])
    assert table.columns.tolist() == ["recordings", "unused", "species", "events"]
    species = species_by_site(EVENTS, {"s1": "one", "s2": "two"}, table)
    assert species[["site0", "site1"]].to_numpy().tolist() == [[2, 1], [1, 0]]


def test_one_site_is_not_compared():
    assert site_table(EVENTS[:3], ["a/1"], {}, {}, []).empty
    assert site_table(EVENTS[:0], [], {}, {}, []).empty
