"""Out-of-fold tables of made-up runs: what is joined, left out and refused."""

import numpy as np
import pandas as pd
from made_runs import CLASSES, COLUMNS, made_tables, make_run
from refused import refused

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.held_out import parts_to_leave_out, read_held_out


def test_a_run_is_read_and_several_are_averaged(tmp_path):
    crops, scores = made_tables()
    one = make_run(tmp_path / "a", crops, scores)
    read = read_held_out([one])
    np.testing.assert_array_equal(read.present[:2], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(read.absent[:2], [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(read.scores, crops[COLUMNS])
    np.testing.assert_allclose(read.recordings[COLUMNS], scores[COLUMNS])
    assert read.members == [{"run": "a", "weight": 1.0, "folds": [0, 1]}]
    assert (read.columns, read.names) == (COLUMNS, ["low", "middle", "high"])
    other = crops.assign(**{column: 1 - crops[column] for column in COLUMNS})
    both = read_held_out([one, make_run(tmp_path / "b", other, scores)], [0.75, 0.25])
    np.testing.assert_allclose(both.scores, 0.25 + 0.5 * crops[COLUMNS])
    np.testing.assert_array_equal(both.present, read.present)
    np.testing.assert_allclose(both.recordings[COLUMNS], scores[COLUMNS])
    assert both.members[1] == {"run": "b", "weight": 0.25, "folds": [0, 1]}


def test_crops_that_all_held_out_are_joined_in_any_order(tmp_path):
    """One has finished fold 0 only, the other lists its crops and recordings backwards."""
    crops, scores = made_tables()
    of_fold_0 = crops["fold"] == 0
    some = make_run(tmp_path / "some", crops[of_fold_0], scores[::2])
    every = make_run(tmp_path / "every", crops[::-1], scores[::-1])
    held_out = read_held_out([some, every])
    assert held_out.left_out_crops == [0, 8]
    assert held_out.recordings["recording_id"].to_list() == ["000", "002", "004", "006"]
    np.testing.assert_allclose(held_out.member_scores[0], crops.loc[of_fold_0, COLUMNS])
    np.testing.assert_array_equal(held_out.member_scores[1], held_out.member_scores[0])
    np.testing.assert_array_equal(held_out.member_recordings[1], held_out.member_recordings[0])
    # No fold to leave out: recordings are.
    assert parts_to_leave_out(held_out.crops)[1] == "part of the recordings (of 4)"
    assert parts_to_leave_out(read_held_out([every]).crops)[1] == "fold"


def test_labels_on_which_members_do_not_agree_are_left_out(tmp_path):
    """A longer crop knows more; another part of it may even be absent where this is present."""
    crops, scores = made_tables()
    other = crops.copy()
    other.loc[0, ["present", "absent"]] = ["2", "15;5"]
    other.loc[1, ["present", "absent"]] = ["", "15"]
    other.loc[2, "absent"] = ""
    runs = [make_run(tmp_path / "a", crops, scores), make_run(tmp_path / "b", other, scores)]
    held_out = read_held_out(runs)
    assert held_out.left_out_labels == 4
    present = [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]]
    absent = [[0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal(held_out.present[:4], present)
    np.testing.assert_array_equal(held_out.absent[:4], absent)


def test_rows_that_agree_in_everything_are_told_apart(tmp_path):
    crops, scores = made_tables()
    twice = pd.concat([crops, crops[:1].assign(s2=0.25)])
    held_out = read_held_out([make_run(tmp_path / name, twice, scores) for name in "ab"])
    assert len(held_out.crops) == 17
    np.testing.assert_array_equal(held_out.member_scores[0], held_out.member_scores[1])


def test_runs_that_do_not_go_together_are_refused(tmp_path):
    crops, scores = made_tables()
    run = make_run(tmp_path / "run", crops, scores)
    moved = make_run(tmp_path / "moved", crops.assign(fold=1 - crops["fold"]), scores)
    text = refused(read_held_out, [run, moved])
    assert f"000 is in fold 0 of {run.path} and in fold 1 of {moved.path}" in text
    renamed = [*CLASSES[:2], SpeciesClass(5, "owl")]
    other = make_run(tmp_path / "other", crops, scores, renamed)
    text = refused(read_held_out, [run, other])
    assert f"only in {run.path}: 1 (s5 high); only in {other.path}: 1 (s5 owl)" in text
    turned = make_run(tmp_path / "turned", crops, scores, CLASSES[::-1])
    assert "in another order" in refused(read_held_out, [run, turned])
    strange = crops.assign(recording_id="x" + crops["recording_id"])
    strange = make_run(tmp_path / "strange", strange, scores)
    assert "There is none" in refused(read_held_out, [run, strange])
    (run.path / "oof_crops.csv").unlink()
    assert f"{run.path} has no oof_crops.csv" in refused(read_held_out, [moved, run])
