"""The finished folds of a run -> `summary.md`: what each took, and how well it predicts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.evaluation.run import evaluate_run
from rfcx_tf.runs.run import RunFolder

_FIGURES = {
    "tp_log_loss": "TP log loss",
    "fp_log_loss": "FP log loss",
    "lrap": "LRAP",
    "event_f1": "event F1",
    "median_iou": "IoU",
    "median_band_iou": "band IoU",
}
_LEGEND = (
    "\nFigures of held-out crops: log loss over known-present labels (TP) and known-absent ones "
    "(FP) in nats, and the mean reciprocal rank of the present species of TP crops (LRAP). "
    "`mean` and `sd` are over folds, `all` is of all held-out crops together. Recordings: "
    "held out and predicted whole.\n"
)
_BOX_LEGEND = (
    "Boxes found in these crops: event F1 from a score of 0.5 and an overlap of 0.5 in time on, "
    "where an event on an FP row, or of a species that is known to be absent from a crop without "
    "rows, is wrong and a TP row without one is missed; IoU and band IoU: median overlaps with TP "
    "rows in time and in frequency.\n"
)


def summarise_folds(run: RunFolder) -> pd.DataFrame:
    """What the finished folds took and how well they predict what they held out.

    Args:
        run: a run whose out-of-fold tables are joined.

    Returns:
        A row a finished fold, then `mean` and `sd` (over folds, with n - 1; NaN for a single
        fold), then `all` (of all held-out crops together, where a fold counts by its crops):
        fold, epochs, seconds, checkpoint, the figures of `evaluate_run`, recordings (predicted
        whole; of `all`: their sum). NaN where a row has no such figure.

    Raises:
        UserError: if no fold is finished.
    """
    crops = evaluate_run(run)[0].set_index("fold")
    figures = [name for name in _FIGURES if name in crops]
    rows = []
    for fold in run.finished_folds:
        done = run.figures(fold)
        rows.append(
            {
                "fold": str(fold),
                "epochs": done["epochs"],
                "seconds": done["seconds"],
                # done.json also says what the choice means.
                "checkpoint": done["checkpoint"].partition(" (")[0],
                **crops.loc[str(fold), figures],
                "recordings": done["recordings_predicted"],
            }
        )
    folds = pd.DataFrame(rows)
    numbers = folds[["epochs", "seconds", *figures, "recordings"]]
    over_folds = [{"fold": "mean", **numbers.mean()}, {"fold": "sd", **numbers.std()}]
    together = {**crops.loc["all", figures], "recordings": folds["recordings"].sum()}
    return pd.DataFrame([*rows, *over_folds, {"fold": "all", **together}], columns=folds.columns)


def write_summary(run: RunFolder) -> str:
    """Writes `summary.md` of a run whose out-of-fold tables are joined; returns its text.

    Raises:
        UserError: if no fold is finished.
    """
    table = summarise_folds(run)
    finished, total = run.finished_folds, run.config.training.folds
    missing = ", ".join(str(fold) for fold in range(total) if fold not in finished)
    text = f"# Folds of {run.path.resolve().name}\n\n{len(finished)} of {total} folds finished"
    text += f"; missing: {missing}.\n\n" if missing else ".\n\n"
    text += f"| {' | '.join(_FIGURES.get(name, name) for name in table)} |\n"
    text += f"|{'---|' * len(table.columns)}\n"
    text += "".join(map(_line, table.to_dict("records"))) + _LEGEND
    text += _BOX_LEGEND if "event_f1" in table else ""
    monitor = run.config.training.monitor
    if monitor != "last":
        text += (
            f"The epoch was chosen by {monitor} of the same crops, which flatters them a little.\n"
        )
    atomic_write_text(run.path / "summary.md", text)
    return text


def _line(row: dict) -> str:
    # Means of counts are no whole numbers.
    count = ".1f" if row["fold"] in ("mean", "sd") else ".0f"
    forms = {"epochs": count, "seconds": ".0f", "recordings": count}
    forms |= dict.fromkeys(_FIGURES, ".4f")
    cells = [
        value if isinstance(value, str) else "" if np.isnan(value) else f"{value:{forms[name]}}"
        for name, value in row.items()
    ]
    return f"| {' | '.join(cells)} |\n"
