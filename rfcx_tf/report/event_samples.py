"""Events -> those to look at: the surest, some drawn at random, and those nearest the threshold.

The surest show what a species sounds like to the model, a random sample how often it is right, and
what is near the threshold whether that is too low.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

# What an event may be shown as, and how a card says so. In this order on a page.
SAMPLES = {
    "surest": "among the surest",
    "random": "in the random sample",
    "threshold": "near the threshold",
}
_SEED = 0


def choose_events(
    events: pd.DataFrame, surest: int, sampled: int, thresholds: Mapping[int, float]
) -> pd.DataFrame:
    """Chooses events of every species.

    The random sample is drawn from all events of the species, whatever else they are shown as,
    and is the same for the same events.

    Args:
        events: a table of `EVENT_COLUMNS`, and `value`, by which events are ranked.
        surest: at most so many of a species.
        sampled: at most so many at random, and so many nearest the threshold.
        thresholds: by species_id, as `value`. Of a species without one, its least sure events are
            the nearest.

    Returns:
        Rows of `events`, each once, with the columns `samples`, a tuple of keys of `SAMPLES`, and
        `events`, how many there are of the species. The first of every species and sample come
        first, then all the second ones, and so on: what is cut off the end leaves something of
        each.
    """
    ranked = events.sort_values(
        ["value", "recording_id", "start_s"], ascending=[False, True, True], kind="stable"
    )
    random = np.random.default_rng(_SEED)
    chosen: dict[object, tuple[tuple[int, int], list[str]]] = {}
    for species_id, own in ranked.groupby("species_id"):
        near = (own["value"] - thresholds.get(species_id, own["value"].min())).abs()
        rows = {
            "surest": own.index[:surest],
            "random": random.permutation(own.index)[:sampled],
            # Of equals the least sure, which come last.
            "threshold": near[::-1].sort_values(kind="stable").index[:sampled],
        }
        for kind, indices in rows.items():
            for place, index in enumerate(indices):
                rank, kinds = chosen.setdefault(index, ((place, len(chosen)), []))
                chosen[index] = (min(rank, (place, rank[1])), [*kinds, kind])
    order = sorted(chosen, key=lambda index: chosen[index][0])
    counts = events.groupby("species_id")["value"].transform("size")
    return events.loc[order].assign(
        events=counts.loc[order],
        samples=pd.Series([tuple(chosen[index][1]) for index in order], order, dtype=object),
    )
