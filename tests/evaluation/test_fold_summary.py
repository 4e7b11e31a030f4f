"""The summary of a run's folds against figures worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.fold_summary import summarise_folds, write_summary
from rfcx_tf.runs.join import join_out_of_fold
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import Manifest

CLASSES = [SpeciesClass(2, "low"), SpeciesClass(5, "high")]
HEADER = "recording_id,fold,kind,species_id,t_min,t_max,present,absent,s2,s5\n"
# One present label of 0.5 at rank 1 and one absent label of 0.2 in fold 0; two present labels of
# 0.8 and 0.2 (ranks 1 and 2) and an absent one of 0.5 in fold 2.
CROPS = {
    0: "001,0,tp,2,0.0,1.0,2,,0.5,0.25\n001,0,fp,5,2.0,3.0,,5,0.9,0.2\n",
    2: "007,2,tp,2,0.0,1.0,2;5,,0.8,0.2\n007,2,fp,2,4.0,5.0,,2,0.5,0.9\n",
}
DONE = {
    0: {"epochs": 4, "seconds": 100.4, "checkpoint": "epoch 4, the last (a): b"},
    2: {"epochs": 7, "seconds": 300.0, "checkpoint": "epoch 5, best by val_lrap (0.5) on it"},
}


def finish(run, fold):
    folder = run.fold(fold)
    folder.mkdir()
    (folder / "oof_crops.csv").write_text(HEADER + CROPS[fold])
    recording = CROPS[fold][:3]
    (folder / "oof_scores.csv").write_text(f"recording_id,s2,s5\n{recording},0.25,0.5\n")
    done = {"fold": fold, "recordings_predicted": fold + 1, **DONE[fold]}
    (folder / "done.json").write_text(json.dumps(done))
    join_out_of_fold(run)


@pytest.fixture
def run(tmp_path):
    manifest = Manifest(CLASSES, {}, {}, "", 64, 32, 4, 0, "", {}, {}, {}, "", {})
    config = Config.model_validate({"training": {"folds": 4, "monitor": "val_lrap"}})
    return RunFolder.create(tmp_path / "run", config, manifest, tmp_path)


def test_folds_their_mean_and_all_crops_together(run):
    finish(run, 2)
    finish(run, 0)
    table = summarise_folds(run).set_index("fold")
    assert table.index.to_list() == ["0", "2", "mean", "sd", "all"]
    of_folds = [np.log(2), -np.log(0.8 * 0.2) / 2]
    together = -np.log(0.5 * 0.8 * 0.2) / 3
    expected = [*of_folds, np.mean(of_folds), abs(np.diff(of_folds)[0]) / np.sqrt(2), together]
    np.testing.assert_allclose(table["tp_log_loss"], expected)
    np.testing.assert_allclose(table["lrap"], [1, 0.75, 0.875, 0.25 / np.sqrt(2), 2.5 / 3])
    of_absent = [-np.log(0.8), np.log(2)]
    np.testing.assert_allclose(
        table["fp_log_loss"].iloc[[0, 1, 4]], [*of_absent, np.mean(of_absent)]
    )
    assert table["epochs"].to_list()[:3] == [4, 7, 5.5]
    assert table["recordings"].to_list()[:3] == [1, 3, 2]
    assert table["recordings"]["all"] == 4
    scores = pd.read_csv(run.path / "oof_scores.csv", dtype={"recording_id": str})
    assert scores["recording_id"].to_list() == ["001", "007"]


def test_the_file_names_missing_folds_and_follows_later_ones(run):
    finish(run, 2)
    text = write_summary(run)
    assert "IoU" not in text
    assert text == (run.path / "summary.md").read_text()
    assert "1 of 4 folds finished; missing: 0, 1, 3." in text
    # One fold has no standard deviation.
    assert "| sd |  |  |  |  |  |  |  |" in text
    assert "chosen by val_lrap of the same crops" in text
    finish(run, 0)
    lines = write_summary(run).splitlines()
    assert "2 of 4 folds finished; missing: 1, 3." in lines
    assert "| 0 | 4 | 100 | epoch 4, the last | 0.6931 | 0.2231 | 1.0000 | 1 |" in lines
    assert "| 2 | 7 | 300 | epoch 5, best by val_lrap | 0.9163 | 0.6931 | 0.7500 | 3 |" in lines
    assert "| mean | 5.5 | 200 |  | 0.8047 | 0.4581 | 0.8750 | 2.0 |" in lines
    assert "| all |  |  |  | 0.8419 | 0.4581 | 0.8333 | 4 |" in lines


def test_boxes_of_a_fold_beside_one_of_an_earlier_version(run):
    """In fold 0 the call is found and fits, and the FP row is an event; fold 2 kept no boxes."""
    finish(run, 2)
    finish(run, 0)
    path = run.fold(0) / "oof_crops.csv"
    crops = pd.read_csv(path, dtype=str, keep_default_na=False)
    crops.assign(s5=["0.25", "0.6"], iou=["0.75", "0.2"], band_iou=["0.5", "0.4"]).to_csv(
        path, index=False
    )
    join_out_of_fold(run)
    lines = write_summary(run).splitlines()
    assert "| LRAP | event F1 | IoU | band IoU | recordings |" in lines[4]
    assert lines[6].endswith("| 1.0000 | 0.6667 | 0.7500 | 0.5000 | 1 |")
    assert lines[7].endswith("| 0.7500 |  |  |  | 3 |")
    assert lines[8].endswith("| 0.8750 | 0.6667 | 0.7500 | 0.5000 | 2.0 |")
    assert lines[10].endswith("| 0.6667 | 0.7500 | 0.5000 | 4 |")
    assert "median overlaps with TP rows" in lines[-2]


def test_nothing_finished_is_refused(run):
    with pytest.raises(UserError, match="at least one finished fold"):
        write_summary(run)
    assert not (run.path / "summary.md").exists()
