"""The finished folds of a run taken together: joined out-of-fold tables, and one summary."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.evaluation.run import evaluate_run
from rfcx_tf.runs.run import RunFolder

_FIGURES = ["tp_log_loss", "fp_log_loss", "lrap"]
_HEADER = [
    "| fold | epochs | seconds | checkpoint | TP log loss | FP log loss | LRAP | recordings |",
    "|---|---|---|---|---|---|---|---|",
]


def join_out_of_fold(run: RunFolder) -> None:
    """Joins the out-of-fold tables of all finished folds in the run folder."""
    for name in ("oof_scores.csv", "oof_crops.csv"):
        parts = [
            pd.read_csv(run.fold(fold) / name, dtype={"recording_id": str}, keep_default_na=False)
            for fold in run.finished_folds
        ]
        with atomic_file(run.path / name) as temporary:
            pd.concat(parts).to_csv(temporary, index=False)


def summarise_folds(run: RunFolder) -> pd.DataFrame:
    """What the finished folds took and how well they predict what they held out.

    Args:
        run: a run whose out-of-fold tables are joined.

    Returns:
        A row a finished fold, then `mean` and `sd` (over folds, with n - 1; NaN for a single
        fold), then `all` (of all held-out crops together, where a fold counts by its crops):
        fold, epochs, seconds, checkpoint, tp_log_loss, fp_log_loss, lrap, recordings (predicted
        whole; of `all`: their sum). NaN or None where a row has no such figure.

    Raises:
        UserError: if no fold is finished.
    """
    crops = evaluate_run(run).crops.set_index("fold")
    rows = []
    for fold in run.finished_folds:
        done = json.loads((run.fold(fold) / "done.json").read_text(encoding="utf-8"))
        rows.append(
            {
                "fold": str(fold),
                "epochs": done["epochs"],
                "seconds": done["seconds"],
                # What the choice means is in done.json, and under the table.
                "checkpoint": done["checkpoint"].partition(" (")[0],
                **crops.loc[str(fold), _FIGURES],
                "recordings": done["recordings_predicted"],
            }
        )
    folds = pd.DataFrame(rows)
    numbers = folds[["epochs", "seconds", *_FIGURES, "recordings"]]
    together = {
        "fold": "all",
        **crops.loc["all", _FIGURES],
        "recordings": folds["recordings"].sum(),
    }
    over_folds = [{"fold": "mean", **numbers.mean()}, {"fold": "sd", **numbers.std()}]
    return pd.DataFrame([*rows, *over_folds, together], columns=folds.columns)


def format_summary(run: RunFolder, summary: pd.DataFrame) -> str:
    """The summary as Markdown, with the folds that are missing."""
    finished, total = run.finished_folds, run.config.training.folds
    missing = [str(fold) for fold in range(total) if fold not in finished]
    monitor = run.config.training.monitor
    lines = [
        f"# Folds of {run.path.resolve().name}",
        "",
        f"{len(finished)} of {total} folds finished"
        + (f"; missing: {', '.join(missing)}." if missing else "."),
        "",
        *_HEADER,
        *(_line(row) for row in summary.to_dict("records")),
        "",
        "Figures of held-out crops: log loss over known-present labels (TP) and known-absent ones "
        "(FP) in nats, and the mean reciprocal rank of the present species of TP crops (LRAP). "
        "`mean` and `sd` are over folds, `all` is of all held-out crops together. Recordings: "
        "held out and predicted whole.",
    ]
    if monitor != "last":
        lines.append(
            f"The epoch was chosen by {monitor} of the same crops, which flatters them a little."
        )
    return "\n".join(lines) + "\n"


def write_summary(run: RunFolder) -> str:
    """Writes `summary.md` of a run whose out-of-fold tables are joined; returns its text.

    Raises:
        UserError: if no fold is finished.
    """
    text = format_summary(run, summarise_folds(run))
    atomic_write_text(run.path / "summary.md", text)
    return text


def _line(row: dict) -> str:
    def cell(value: float, form: str) -> str:
        return "" if np.isnan(value) else f"{value:{form}}"

    # Means of counts are no whole numbers.
    count = ".1f" if row["fold"] in ("mean", "sd") else ".0f"
    cells = [
        row["fold"],
        cell(row["epochs"], count),
        cell(row["seconds"], ".0f"),
        row["checkpoint"] if isinstance(row["checkpoint"], str) else "",
        *(cell(row[name], ".4f") for name in _FIGURES),
        cell(row["recordings"], count),
    ]
    return f"| {' | '.join(cells)} |"
