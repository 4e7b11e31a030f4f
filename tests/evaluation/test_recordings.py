"""Evaluation against scikit-learn, with rows matched by recording and columns by class."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    roc_auc_score,
)

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.recordings import evaluate_scores, format_evaluation

COLUMNS = ["s0", "s1", "s2", "s5"]
NAMES = {"s0": "Coqui", "s1": "Owl", "s2": "Very long name of a frog", "s5": "Toad"}


def as_table(values, prefix="r"):
    table = pd.DataFrame(values, columns=COLUMNS)
    table.insert(0, "recording_id", [f"{prefix}{row}" for row in range(len(values))])
    return table


@pytest.fixture
def case():
    """Scores and truth of 30 recordings as arrays: s5 is in none, s2 in all but r0."""
    rng = np.random.default_rng(5)
    present = rng.random((30, 4)) < 0.4
    present[:, 3] = False
    present[:, 2] = True
    present[0] = False
    values = rng.random((30, 4)) + 0.5 * present
    return values, present


def test_figures_agree_with_scikit_learn_whatever_the_order(case):
    values, present = case
    scores = pd.concat([as_table(values), as_table(values[:2], prefix="other")])
    scores = scores.sample(frac=1, random_state=0)[["s5", "s1", "recording_id", "s0", "s2"]]
    result = evaluate_scores(scores, as_table(present.astype(int)), NAMES)

    expected = label_ranking_average_precision_score(
        present, values, sample_weight=present.sum(axis=1)
    )
    assert result.lwlrap == pytest.approx(expected)
    assert (result.recordings, result.silent_recordings, result.ignored_recordings) == (30, 1, 2)

    table = result.per_class.set_index("class")
    assert table.index.tolist() == COLUMNS
    assert table["name"].to_dict() == NAMES
    assert table["positives"].tolist() == present.sum(axis=0).tolist()
    for column, labels, column_scores in zip(COLUMNS[:3], present.T, values.T, strict=False):
        precision = average_precision_score(labels, column_scores)
        assert table.loc[column, "average_precision"] == pytest.approx(precision)
        auc = roc_auc_score(labels, column_scores)
        assert table.loc[column, "roc_auc"] == pytest.approx(auc)
    assert table.loc["s5", ["lwlrap", "average_precision", "roc_auc"]].isna().all()
    weighted = (table["lwlrap"] * table["positives"]).sum() / table["positives"].sum()
    assert weighted == pytest.approx(expected)


def test_roc_auc_needs_a_recording_without_the_class():
    table = evaluate_scores(as_table([[0.5] * 4]), as_table([[1, 0, 0, 0]])).per_class
    assert table["average_precision"][0] == 1
    assert table["roc_auc"].isna().all()


def test_recordings_of_the_truth_without_scores_are_refused(case):
    values, present = case
    with pytest.raises(UserError, match=r"must have scores.* 28 \(r2, r3, r4, \.\.\.\)"):
        evaluate_scores(as_table(values[:2]), as_table(present))


def test_classes_that_differ_are_refused(case):
    values, present = case
    scores = as_table(values).rename(columns={"s5": "s3"})
    with pytest.raises(UserError, match=r"truth: 1 \(s5\); only in the scores: 1 \(s3\)"):
        evaluate_scores(scores, as_table(present))


def test_a_truth_without_any_species_is_refused(case):
    values, present = case
    with pytest.raises(UserError, match="none in 30 recordings"):
        evaluate_scores(as_table(values), as_table(present & False))


def test_the_text_puts_the_worst_class_first_and_lines_up(case):
    values, present = case
    result = evaluate_scores(as_table(values), as_table(present), NAMES)
    text = format_evaluation(result)
    lines = text.splitlines()
    assert lines[0] == f"LWLRAP {result.lwlrap:.4f} (chance {result.chance:.4f})"
    rows = lines[lines.index("Worst classes first:") + 2 :]
    order = result.per_class.sort_values("lwlrap")["class"].tolist()
    assert [row.split()[0] for row in rows] == [*order, "all"]
    assert order[-1] == "s5", "a class without positives has no LWLRAP and comes last"
    assert len({len(row) for row in rows}) == 1
    assert "nan" not in text.lower()


def test_the_table_ends_with_the_overall_figures(case):
    values, present = case
    result = evaluate_scores(as_table(values), as_table(present))
    saved = result.table
    assert saved["class"].tolist() == [*COLUMNS, "all"]
    assert "name" not in saved
    last = saved.iloc[-1]
    assert last["positives"] == present.sum()
    assert last["lwlrap"] == pytest.approx(result.lwlrap)
    mean_precision = result.per_class["average_precision"][:3].mean()
    assert last["average_precision"] == pytest.approx(mean_precision)
