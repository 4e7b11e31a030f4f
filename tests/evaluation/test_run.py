"""A run's out-of-fold figures against numbers worked out by hand."""

import io

import numpy as np
import pandas as pd
import pytest
from made_runs import make_run

from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.run import evaluate_run

CROPS = """\
recording_id,fold,kind,species_id,t_min,t_max,present,absent,s2,s15,s5
001,0,tp,2,0.0,1.0,2,,0.5,0.25,0.75
001,0,fp,15,2.0,3.0,,15,0.9,0.2,0.1
007,1,tp,15,0.0,1.0,15;2,5,0.4,0.8,0.1
007,1,fp,5,4.0,5.0,,2;5,0.5,0.9,0.25
"""
SCORES = "recording_id,s2,s15,s5\n001,0.9,0.2,0.3\n007,0.1,0.6,0.8\n"


@pytest.fixture
def run(tmp_path):
    tables = (pd.read_csv(io.StringIO(text), dtype=str) for text in (CROPS, SCORES))
    return make_run(tmp_path / "run", *tables)


def test_figures_by_fold_and_over_all(run):
    crops = evaluate_run(run)[0].set_index("fold")
    assert crops.index.to_list() == ["0", "1", "all"]
    assert crops["tp_crops"].to_list() == crops["fp_crops"].to_list() == [1, 1, 2]
    # Present labels: 0.5 in fold 0, 0.8 and 0.4 in fold 1.
    of_present = [-np.log(0.5), -np.log(0.8 * 0.4) / 2, -np.log(0.5 * 0.8 * 0.4) / 3]
    np.testing.assert_allclose(crops["tp_log_loss"], of_present, rtol=1e-9)
    # Absent labels: 0.2 in fold 0; 0.1 of the TP crop, 0.5 and 0.25 of the FP crop in fold 1.
    of_absent = [-np.log(0.8), -np.log(0.9 * 0.5 * 0.75) / 3, -np.log(0.8 * 0.9 * 0.5 * 0.75) / 4]
    np.testing.assert_allclose(crops["fp_log_loss"], of_absent, rtol=1e-9)
    # Ranks of the present species of TP crops: 2 in fold 0; 1 and 2 in fold 1.
    np.testing.assert_allclose(crops["lrap"], [1 / 2, (1 + 1 / 2) / 2, (1 / 2 + 1 + 1 / 2) / 3])


def test_boxes_of_rows_are_judged_by_their_own_species(run, tmp_path):
    """Scores of the rows' species: 0.5, 0.2 (FP), 0.8, 0.25 (FP); calls fit by 0.4 and 0.9."""
    path = run.path / "oof_crops.csv"
    assert "event_f1" not in evaluate_run(run)[0]
    crops = pd.read_csv(path, dtype=str, keep_default_na=False)
    crops.assign(iou=[0.4, 0.9, 0.9, 0.9], band_iou=[0.5, 0, 0.7, 0]).to_csv(path, index=False)
    crops = evaluate_run(run)[0].set_index("fold")
    assert crops["event_f1"].to_list() == [0.0, 1.0, 2 * 1 / (2 + 2)]
    np.testing.assert_allclose(crops["median_iou"], [0.4, 0.9, 0.65])
    np.testing.assert_allclose(crops["median_band_iou"], [0.5, 0.7, 0.6])


def test_events_of_absent_species_in_crops_without_rows_are_wrong(run):
    """Of three species two are known to be absent, and one of them is heard."""
    path = run.path / "oof_crops.csv"
    table = CROPS + "001,0,absent,-1,5.0,6.0,,2;15,0.5,0.4,0.9\n"
    crops = pd.read_csv(io.StringIO(table), dtype=str, keep_default_na=False)
    crops.assign(iou=[0.9, 0, 0.9, 0, ""], band_iou=[0.5, 0, 0.7, 0, ""]).to_csv(path, index=False)
    crops = evaluate_run(run)[0].set_index("fold")
    assert crops["event_f1"].to_list() == [2 / (2 + 1), 1.0, 2 * 2 / (3 + 2)]


def test_lwlrap_of_held_out_recordings(run):
    """001 holds s2 (rank 1) and s15 (rank 3: precision 2/3), 007 holds s15 (rank 2)."""
    truth = pd.DataFrame(
        {"recording_id": ["007", "001", "none"], "s2": [0, 1, 1], "s15": [1, 1, 0], "s5": [0, 0, 0]}
    )
    recordings = evaluate_run(run, truth)[1]
    assert recordings.lwlrap == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert recordings.recordings == 2
    assert recordings.per_class.set_index("class").loc["s5", "name"] == "high"


def test_truth_of_other_recordings_is_refused(run):
    truth = pd.DataFrame({"recording_id": ["x"], "s2": [1], "s15": [0], "s5": [0]})
    with pytest.raises(UserError, match=r"It names none of the 2 \(001, 007\)"):
        evaluate_run(run, truth)


def test_a_run_without_a_finished_fold_is_refused(run):
    for fold in (0, 1):
        (run.fold(fold) / "done.json").unlink()
    with pytest.raises(UserError, match="at least one finished fold"):
        evaluate_run(run)


def test_a_fold_without_present_labels_has_no_tp_figures(run):
    lines = CROPS.splitlines(keepends=True)
    (run.path / "oof_crops.csv").write_text(lines[0] + lines[2])
    crops = evaluate_run(run)[0].set_index("fold")
    assert np.isnan(crops.loc["all", "tp_log_loss"])
    assert np.isnan(crops.loc["all", "lrap"])
    assert crops.loc["all", "fp_log_loss"] == pytest.approx(-np.log(0.8))
