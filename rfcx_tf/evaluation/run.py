"""A run folder's out-of-fold predictions -> the write-up's monitors by fold, and LWLRAP."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rfcx_tf.evaluation.box_fit import box_figures, events_without_row
from rfcx_tf.evaluation.crop_table import label_matrix, read_crops
from rfcx_tf.evaluation.metrics import fp_log_loss, single_label_lrap, tp_log_loss
from rfcx_tf.evaluation.recordings import Evaluation, evaluate_scores, truth_of_recordings
from rfcx_tf.runs.kept import OOF_SCORES, of_run
from rfcx_tf.runs.open import Run
from rfcx_tf.scoring.score_table import class_columns, read_scores


def evaluate_run(
    run: Run, truth: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, Evaluation | None]:
    """Evaluates the finished folds of a run on what they did not see.

    Args:
        run: the run.
        truth: recording_id and s<id> columns of 0/1, complete. Recordings of unfinished folds
            are left out.

    Returns:
        crops: DataFrame, a row for every finished fold and a last row `all`: fold, tp_crops,
            fp_crops, absent_crops (where there are any), tp_log_loss (over known-present labels),
            fp_log_loss (over known-absent ones), lrap (mean reciprocal rank of the present species
            of TP crops); of runs that keep boxes event_f1, median_iou, median_band_iou (see
            `box_figures`).
        recordings: LWLRAP of the whole held-out recordings; None without truth.

    Raises:
        UserError: if no fold is finished, or the truth has other classes or recordings.
    """
    table = read_crops(run)
    rows = [_monitors(group, str(fold)) for fold, group in table.groupby("fold")]
    crops = pd.DataFrame([*rows, _monitors(table, "all")])
    if truth is None:
        return crops, None
    scores = read_scores(of_run(run.path / OOF_SCORES))
    truth = truth_of_recordings(truth, scores["recording_id"])
    names = {c.column: c.name for c in run.info.classes}
    return crops, evaluate_scores(scores, truth, names)


def _monitors(table: pd.DataFrame, fold: str) -> dict:
    columns = class_columns(table)
    probability = table[columns].to_numpy(float)
    present, absent = (label_matrix(table[name], columns) for name in ("present", "absent"))
    known = present | absent
    is_tp, is_absent = ((table["kind"] == kind).to_numpy() for kind in ("tp", "absent"))
    figures = {
        "fold": fold,
        "tp_crops": int(is_tp.sum()),
        "fp_crops": int((table["kind"] == "fp").sum()),
        **({"absent_crops": int(is_absent.sum())} if is_absent.any() else {}),
        "tp_log_loss": tp_log_loss(present, known, probability),
        "fp_log_loss": fp_log_loss(present, known, probability),
        "lrap": single_label_lrap(present[is_tp], probability[is_tp]),
    }
    if "iou" in table:
        # Absent crops are of no species, and have no box.
        column = table["species_id"].map(lambda i: 0 if i < 0 else columns.index(f"s{i}"))
        own = np.arange(len(table)), column
        wrong = events_without_row(~is_absent, absent, probability)
        figures |= box_figures(is_tp, absent[own], probability[own], table, wrong)
    return figures
