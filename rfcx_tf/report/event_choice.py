"""Events -> those that a page shows, the surest of every species first."""

from __future__ import annotations

import pandas as pd


def event_values(events: pd.DataFrame) -> pd.Series:
    """What events are ranked by: the probability where they have one, else the score."""
    return events["probability"].fillna(events["score"])


def best_events(events: pd.DataFrame, per_class: int) -> pd.DataFrame:
    """The best events of every species, in rounds.

    Args:
        events: a table of `rfcx_tf.events.find.EVENT_COLUMNS`.
        per_class: at most so many of a species.

    Returns:
        Rows of `events` with a column `place`, 1 for the best of its species. All the best come
        first, then all the second best, and so on: what is cut off the end leaves something of
        every species.
    """
    ranked = events.assign(value=event_values(events)).sort_values(
        ["value", "recording_id", "start_s"], ascending=[False, True, True], kind="stable"
    )
    ranked["place"] = ranked.groupby("species_id").cumcount() + 1
    chosen = ranked[ranked["place"] <= per_class]
    return chosen.sort_values(["place", "species_id"], kind="stable").drop(columns="value")
