"""Facts -> what a person should look at before training on them, by kind, a line each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rfcx_tf.check.facts import Facts

# Seconds by which a box may reach beyond the end of its recording, as when shards are made.
_END_TOLERANCE_S = 0.1
# Part by which it may reach beyond half its file's sample rate: programs round.
_NYQUIST_TOLERANCE = 0.01
# Two TP boxes of a species that share so much of their time are one call drawn twice, perhaps.
_NEARLY_DOUBLED = 0.8
# A TP and an FP box of a species that share so much of the shorter one contradict each other.
_CONTRADICTING = 0.5
# A box so many times as long as the species' median was drawn over something else, perhaps.
_TIMES_MEDIAN = 10.0
# Shorter than a frame of any recipe here: nothing can be seen in it.
_SHORTEST_S = 0.005


def find_suspicious(facts: Facts) -> dict[str, list[str]]:
    """What is missing, damaged or doubtful: lines by kind; kinds of which there is none are not
    there.

    A line begins with where a row stands, `file:line`, where it is about rows.
    """
    rows, pairs = facts.rows, _pairs(facts.rows)
    sounds = facts.sounds.set_index("recording_id")
    duration_s = rows["recording_id"].map(sounds["duration_s"])
    nyquist_hz = rows["recording_id"].map(sounds["rate_hz"]) / 2
    length_s = rows["t_max"] - rows["t_min"]
    median_s = length_s.where(rows["present"]).groupby(rows["species_id"]).transform("median")
    outside = rows["t_max"] > duration_s + _END_TOLERANCE_S
    above = rows["f_max"] > nyquist_hz * (1 + _NYQUIST_TOLERANCE)
    short = length_s < _SHORTEST_S
    long = length_s > _TIMES_MEDIAN * median_s
    found = {
        "Recordings that are named and not there": [
            f"{name}: {count} rows" for name, count in _rows_of(facts, facts.missing)
        ],
        "Recordings that are damaged": list(facts.damaged),
        "Could not be used": list(facts.left_out),
        "Rows that are wrong or doubled": [problem.text for problem in facts.problems],
        "Boxes outside their recording": [
            f"{row.source}: {row.recording_id} is {end_s:.2f} s long, the box is from "
            f"{row.t_min:g} to {row.t_max:g} s."
            for row, end_s in _with(rows, outside, duration_s)
        ],
        "Boxes above half the sample rate of their file": [
            f"{row.source}: {row.recording_id} has sound up to {top_hz:g} Hz, the box is from "
            f"{row.f_min:g} to {row.f_max:g} Hz."
            for row, top_hz in _with(rows, above, nyquist_hz)
        ],
        "Boxes that nothing can be seen in": [
            f"{row.source}: the box is {row.t_max - row.t_min:.4f} s long."
            for row in rows[short].itertuples()
        ],
        "Boxes much longer than their species' other ones": [
            f"{row.source}: {row.t_max - row.t_min:.1f} s, where the median of the species is "
            f"{usual_s:.1f} s."
            for row, usual_s in _with(rows, long, median_s)
        ],
        "TP and FP boxes of a species that overlap (present wins)": [
            f"{pair.source_a} (FP) and {pair.source_b} (TP) share {pair.shared_s:.2f} s of "
            f"{pair.recording_id}."
            for pair in pairs[pairs["contradict"]].itertuples()
        ],
        "TP boxes that may be one call drawn twice": [
            f"{pair.source_b} is nearly the box of {pair.source_a}."
            for pair in pairs[pairs["doubled"]].itertuples()
        ],
        "Species that cannot be learned or tested": list(_lone_species(facts.species)),
    }
    return {kind: lines for kind, lines in found.items() if lines}


def _with(rows: pd.DataFrame, chosen: pd.Series, values: pd.Series) -> Iterator[tuple]:
    """The chosen rows, each with its value."""
    return zip(rows[chosen].itertuples(), values[chosen], strict=True)


def _rows_of(facts: Facts, names) -> list[tuple[str, int]]:
    counts = facts.rows["recording_id"].value_counts()
    return [(name, int(counts.get(name, 0))) for name in names]


def _lone_species(species: pd.DataFrame) -> Iterator[str]:
    for row in species.itertuples():
        if row.tp == 0:
            yield f"{row.name}: no TP row. Its scores will mean nothing."
        elif row.recordings == 1:
            yield (
                f"{row.name}: all {row.tp} TP rows are in one recording, so it is either learned "
                "or tested, never both. Mark it in a second one."
            )


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of rows of one species and songtype that overlap in one recording, of which one is TP.

    Columns: recording_id, source_a, source_b, shared_s; contradict, doubled (bool). Of one TP and
    one FP row, a is the FP row.
    """
    keys = ["recording_id", "species_id", "songtype_id"]
    tp = rows[rows["present"]].assign(number=lambda table: np.arange(len(table)))
    others = pd.concat([tp, rows[~rows["present"]].assign(number=-1)])
    pairs = others.merge(tp, on=keys, suffixes=("_a", "_b"))
    pairs = pairs[pairs["number_a"] < pairs["number_b"]]
    begin = np.maximum(pairs["t_min_a"], pairs["t_min_b"])
    end = np.minimum(pairs["t_max_a"], pairs["t_max_b"])
    low = np.maximum(pairs["f_min_a"], pairs["f_min_b"])
    high = np.minimum(pairs["f_max_a"], pairs["f_max_b"])
    shared_s = (end - begin).where(high > low, 0).clip(lower=0)
    length_a, length_b = (pairs[f"t_max_{x}"] - pairs[f"t_min_{x}"] for x in "ab")
    union_s = length_a + length_b - shared_s
    shorter_s = np.minimum(length_a, length_b)
    # The same box as both TP and FP, or twice, is an error in the rows already.
    same = (shared_s == union_s) & (pairs["f_min_a"] == pairs["f_min_b"])
    same &= pairs["f_max_a"] == pairs["f_max_b"]
    is_fp = ~pairs["present_a"]
    return pairs.assign(
        shared_s=shared_s,
        contradict=is_fp & ~same & (shared_s >= _CONTRADICTING * shorter_s),
        doubled=~is_fp & ~same & (shared_s >= _NEARLY_DOUBLED * union_s),
    )
