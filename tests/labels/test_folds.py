"""Folds: no recording on both sides of a split, every species on both."""

import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.folds import assign_folds

one_row = st.tuples(st.integers(0, 12), st.integers(0, 4), st.booleans())


def table(rows):
    """Rows of (recording, species, present)."""
    frame = pd.DataFrame(rows, columns=["recording_id", "species_id", "present"])
    return frame.astype({"recording_id": str, "present": bool})


def like_the_competition(recordings=300, species=24, seed=0):
    """About 50 TP and 150 FP rows a species; a recording has a few rows."""
    random = np.random.default_rng(seed)
    rows = []
    for present, count in ((True, 50), (False, 150)):
        for species_id in range(species):
            for recording in random.integers(0, recordings, count):
                rows.append((f"r{recording:04d}", species_id, present))
    return table(rows)


@pytest.mark.parametrize("folds", [2, 5])
def test_rows_of_every_species_are_spread_over_the_folds(folds):
    rows = like_the_competition()
    fold_of = assign_folds(rows, sorted(set(rows["recording_id"])), folds, seed=3)
    for present, count in ((True, 50), (False, 150)):
        kind = rows[rows["present"] == present]
        for _, own in kind.groupby("species_id"):
            per_fold = Counter(own["recording_id"].map(fold_of))
            counts = [per_fold[fold] for fold in range(folds)]
            assert sum(counts) == count
            # Folds drawn by lot differ by 0.2 to 0.3 here in the worst species.
            assert max(counts) - min(counts) <= 0.12 * count
    recordings_per_fold = Counter(fold_of.values())
    assert max(recordings_per_fold.values()) - min(recordings_per_fold.values()) <= 10


@settings(max_examples=40)
@given(st.lists(one_row, min_size=1, max_size=40), st.integers(2, 5), st.integers(0, 9))
def test_every_recording_gets_one_fold_and_every_fold_an_annotated_recording(rows, folds, seed):
    rows = table(rows)
    recordings = [str(number) for number in range(15)]
    annotated = set(rows["recording_id"])
    if len(annotated) < folds:
        with pytest.raises(UserError):
            assign_folds(rows, recordings, folds, seed)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold_of = assign_folds(rows, recordings, folds, seed)
    assert fold_of.keys() == set(recordings)
    assert {fold_of[name] for name in annotated} == set(range(folds))
    others = Counter(fold_of[name] for name in set(recordings) - annotated)
    counts = [others[fold] for fold in range(folds)]
    assert max(counts) - min(counts) <= 1, "recordings without rows are not dealt out evenly"


def test_folds_are_repeatable_and_depend_on_the_seed():
    rows = like_the_competition(recordings=60, species=5)
    recordings = [f"r{number:04d}" for number in range(80)]
    first = assign_folds(rows, recordings, 4, seed=1)
    assert assign_folds(rows, recordings, 4, seed=1) == first
    assert assign_folds(rows, recordings[::-1], 4, seed=1) == first
    assert assign_folds(rows, recordings, 4, seed=2) != first


def test_a_species_with_fewer_rows_than_folds_does_no_harm():
    rows = table([(f"r{n}", 0, True) for n in range(20)] + [("r0", 7, True), ("r3", 8, False)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold_of = assign_folds(rows, [f"r{n}" for n in range(20)], 5, seed=0)
    sizes = Counter(fold_of.values()).values()
    assert len(sizes) == 5
    assert max(sizes) - min(sizes) <= 2


def test_rows_of_recordings_that_are_not_there_do_not_count():
    rows = table([("here", 0, True), ("gone", 0, True), ("lost", 1, False)])
    with pytest.raises(UserError, match="Found 1 annotated"):
        assign_folds(rows, ["here", "silent", "still"], 2, seed=0)
