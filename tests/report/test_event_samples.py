"""Which events of a species are looked at."""

import pandas as pd

from rfcx_tf.report.event_samples import choose_events

EVENTS = pd.DataFrame(
    {
        "recording_id": list("abcdef"),
        "species_id": [1, 1, 1, 2, 2, 3],
        "start_s": 0.0,
        "value": [0.9, 0.8, 0.7, 0.4, 0.9, 0.1],
    }
)
MANY = pd.DataFrame(
    {
        "recording_id": [f"r{number:03d}" for number in range(100)],
        "species_id": 1,
        "start_s": 0.0,
        "value": [number / 100 for number in range(100)],
    }
)


def test_the_surest_of_every_species_come_before_the_second_surest():
    chosen = choose_events(EVENTS, 2, 0, {})
    assert chosen["recording_id"].tolist() == ["a", "e", "f", "b", "d"]
    assert chosen["events"].tolist() == [3, 2, 1, 3, 2]
    assert set(chosen["samples"]) == {("surest",)}
    assert choose_events(EVENTS, 0, 0, {}).empty
    assert choose_events(EVENTS[:0], 2, 2, {}).empty


def test_an_event_is_shown_once_and_says_all_that_it_is():
    chosen = choose_events(EVENTS, 2, 3, {1: 0.79})
    assert not chosen.index.has_duplicates
    samples = dict(zip(chosen["recording_id"], chosen["samples"], strict=True))
    assert samples["a"] == samples["b"] == ("surest", "random", "threshold")
    assert samples["c"] == ("random", "threshold")
    assert chosen["recording_id"].tolist()[0] == "a"


def test_nearest_the_threshold_is_on_both_sides_or_else_least_sure():
    def near(thresholds):
        chosen = choose_events(MANY, 0, 3, thresholds)
        rows = [row.recording_id for row in chosen.itertuples() if "threshold" in row.samples]
        return sorted(rows)

    assert near({1: 0.504}) == ["r049", "r050", "r051"]
    assert near({}) == ["r000", "r001", "r002"]


def test_the_random_sample_is_of_all_events_and_the_same_again():
    ranks = pd.Series(range(2000)) % 10
    many = pd.DataFrame(
        {
            "recording_id": ranks.map(str),
            "species_id": pd.Series(range(2000)) // 10,
            "start_s": 0.0,
            "value": ranks / 10,
        }
    )
    chosen = choose_events(many, 1, 2, {})
    drawn = chosen[["random" in samples for samples in chosen["samples"]]]
    # Two of ten of each of 200 species: 40 of a rank, give or take 6.
    assert len(drawn) == 400
    assert drawn["value"].value_counts().between(20, 60).sum() == 10
    assert chosen.equals(choose_events(many.sample(frac=1, random_state=1), 1, 2, {}))
