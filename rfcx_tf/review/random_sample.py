"""Events -> a random sample of them to judge, that says what the rest is like.

Unlike what `selection` picks, a sample stands for all events: each was drawn with a known
probability, which is kept beside it. It is stratified by species and, within a species, by score
into halves: the lower half of its events, the next quarter, the next eighth and the highest eighth
(Navine et al. 2024), since thresholds are high and most events low. Species take turns, and so do
the strata of a species, so that a rare one is judged as often as a common one if it has the events.

Reference:
    Navine, Denton, Weldy & Hart 2024, "All thresholds barred: direct estimation of call density
        in bioacoustic data", Frontiers in Bird Science 3.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rfcx_tf.review.selection import middle_parts

# Shares of a species' events that lie below the bounds of its strata.
_BOUNDS = (0.5, 0.75, 0.875)


def sample_events(
    events: pd.DataFrame, count: int, *, longest_s: float = 10.0, seed: int = 0
) -> pd.DataFrame:
    """Draws a sample; the order of the rows in `events` does not matter.

    Args:
        events: of `EVENT_COLUMNS` (`rfcx_tf.events.table`).
        count: how many to draw; all where there are no more.
        longest_s: a longer event is cut to its middle.
        seed: of the draw.

    Returns:
        Rows of `events` in random order, with the columns `reason` (random) and `inclusion` (the
        probability of the event to be drawn).
    """
    order = ["species_id", "score", "recording_id", "start_s", "end_s"]
    events = events.sort_values(order, kind="stable", ignore_index=True)
    random = np.random.default_rng(seed)
    # A place at random among equal scores: which of them falls into which stratum is chance.
    lot = pd.Series(random.random(len(events)))
    place = (
        pd.DataFrame({"species": events["species_id"], "score": events["score"], "lot": lot})
        .sort_values(["species", "score", "lot"], kind="stable")
        .groupby("species")
        .cumcount()
        .reindex(events.index)
    )
    of_species = events.groupby("species_id")["score"].transform("size")
    stratum = np.searchsorted(_BOUNDS, (place + 0.5) / of_species, side="right")
    strata = {
        species: [np.array(own.index[stratum[own.index] == s]) for s in range(len(_BOUNDS) + 1)]
        for species, own in events.groupby("species_id")
    }
    counts = _share_out(
        {s: [len(rows) for rows in own] for s, own in strata.items()}, count, random
    )
    rows, inclusion = [], []
    for species, own in strata.items():
        for members, drawn in zip(own, counts[species], strict=True):
            rows += random.choice(members, drawn, replace=False).tolist() if drawn else []
            inclusion += [drawn / max(1, len(members))] * drawn
    picks = middle_parts(events.iloc[rows], longest_s)
    picks["reason"], picks["inclusion"] = "random", inclusion
    # In any other order who judges would learn what to expect.
    return picks.iloc[random.permutation(len(picks))].reset_index(drop=True)


def _share_out(
    sizes: dict[int, list[int]], count: int, random: np.random.Generator
) -> dict[int, list[int]]:
    """How many to draw of every stratum: one after the other, the emptiest of a species first."""
    taken = {species: [0] * len(own) for species, own in sizes.items()}
    left = min(count, sum(map(sum, sizes.values())))
    while left:
        for species in random.permutation(sorted(sizes)):
            own = taken[species]
            free = [s for s, size in enumerate(sizes[species]) if own[s] < size]
            if free and left:
                # Of equals the highest scores: thresholds lie there.
                own[min(free, key=lambda s: (own[s], -s))] += 1
                left -= 1
    return taken
