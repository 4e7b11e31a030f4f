"""Score tables: what is written is read back; bad tables are refused with file and line."""

import numpy as np
import pandas as pd
import pytest
from refused import refused

from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.score_table import (
    order_like_submission,
    read_scores,
    read_truth,
    write_scores,
)


@pytest.fixture
def csv_file(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


# Reading and writing


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_come_back_bit_for_bit(tmp_path, dtype):
    values = np.random.default_rng(0).random((5, 2)).astype(dtype)
    scores = pd.DataFrame(values, columns=["s0", "s10"])
    scores.insert(0, "recording_id", ["0012", "1e5", "nan", "b", "ä b"])
    write_scores(scores, tmp_path / "new folder" / "scores.csv")
    read = read_scores(tmp_path / "new folder" / "scores.csv")
    assert read.columns.tolist() == ["recording_id", "s0", "s10"]
    assert read["recording_id"].tolist() == ["0012", "1e5", "nan", "b", "ä b"]
    np.testing.assert_array_equal(read[["s0", "s10"]].to_numpy().astype(dtype), values)


def test_other_columns_blank_lines_and_a_byte_order_mark_are_passed_over(csv_file):
    read = read_scores(csv_file("\ufeffrecording_id,site,s1,s0,score\na,x,1,0.5,?\n\n"))
    expected = pd.DataFrame({"recording_id": ["a"], "s1": [1.0], "s0": [0.5]})
    pd.testing.assert_frame_equal(read, expected)


def test_truth_is_boolean(csv_file):
    read = read_truth(csv_file("recording_id,s0,s1\na,1,0\nb,0.0,1.0\n"))
    assert read["s0"].tolist() == [True, False]
    assert read["s1"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("recording,s0\na,1\n", ["must name recording_id", "recording, s0"]),
        ("recording_id,species\na,1\n", ["s<species_id>", "recording_id,species"]),
        ("recording_id,s0,s0\na,1,1\n", ["one column s0", "Found 2"]),
        ("recording_id,s0\na,0\nb,0\n\na,1\n", ["table.csv:5", "a is also in", "table.csv:2"]),
        ("recording_id,s0,s1\na,0,1\nb,0,nan\n", ["table.csv:3", "'nan'", "s1"]),
        ("recording_id,s0\na,inf\n", ["table.csv:2", "'inf'", "s0"]),
        ("recording_id,s0\na,high\n", ["table.csv:2", "'high'", "s0"]),
        ("recording_id,s0\na,\n", ["table.csv:2", "''", "s0"]),
        (
            "recording_id,s0\na,1,2\n",
            ["table.csv:2", "no more cells than the header (2)", "Received: 3"],
        ),
        ("recording_id,s0\n", ["at least one recording"]),
    ],
)
def test_bad_scores_are_refused_in_one_line(csv_file, text, words):
    message = refused(read_scores, csv_file(text))
    assert "table.csv" in message
    for word in words:
        assert word in message


def test_truth_takes_nothing_between_present_and_absent(csv_file):
    with pytest.raises(UserError, match=r"table\.csv:2: s1 must be 0 .*'0\.5'"):
        read_truth(csv_file("recording_id,s0,s1\na,1,0.5\n"))


# Submissions


def test_a_submission_has_the_sample_s_rows_and_columns(csv_file):
    sample = csv_file("recording_id,s2,s0\nb,0,0\na,0,0\n")
    scores = pd.DataFrame(
        {"recording_id": ["a", "x", "b"], "s0": [1, 2, 3], "s1": [4, 5, 6], "s2": [7, 8, 9]}
    )
    expected = pd.DataFrame({"recording_id": ["b", "a"], "s2": [9, 7], "s0": [3, 1]})
    pd.testing.assert_frame_equal(order_like_submission(scores, sample), expected)


def test_an_incomplete_submission_is_refused(csv_file):
    sample = csv_file("recording_id,s0,s1\nd,0,0\nc,0,0\nb,0,0\na,0,0\n")
    with pytest.raises(UserError, match=r"every class .* lack 1 \(s1\)"):
        order_like_submission(pd.DataFrame({"recording_id": ["a"], "s0": [1.0]}), sample)
    with pytest.raises(UserError, match=r"every recording .* lack 3 \(d, c, b\)"):
        order_like_submission(
            pd.DataFrame({"recording_id": ["a"], "s0": [1.0], "s1": [1.0]}), sample
        )
