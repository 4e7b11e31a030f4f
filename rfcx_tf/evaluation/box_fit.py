"""Boxes that a network finds in the crops of annotated rows -> how well they fit those rows.

Rows say where some calls are and where some are not. The rest of a recording is unknown, so not
every event can be judged by them, as `rfcx_tf.evaluation.event_scores` does by all calls. What can
be judged is what a network finds in the crop of a row, of the row's species: the box of the crop's
surest window (`FOUND`), and whether its score makes an event of it. Crops without a row, of
completely annotated recordings, hold none of many species: an event of one of these is wrong.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rfcx_tf.scoring.card import UNCALIBRATED_THRESHOLD

# What was found in the crop of a row: a box, in seconds of the recording, and its intersection over
# union with the row's, in time and in frequency.
FOUND = ["begin_s", "end_s", "low_hz", "high_hz", "iou", "band_iou"]
FIGURES = ["event_f1", "median_iou", "median_band_iou"]
# From here on an event fits a call.
_FITS = 0.5
_ROUNDING = 1e-9


def interval_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of intervals [..., 2]; NaN where a bound is."""
    shared = np.minimum(one[..., 1], other[..., 1]) - np.maximum(one[..., 0], other[..., 0])
    shared = np.maximum(0, shared)
    union = np.diff(one)[..., 0] + np.diff(other)[..., 0] - shared
    return shared / np.maximum(union, _ROUNDING)


def found_boxes(found: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
    """What was found in crops of rows.

    Args:
        found, rows: the boxes that were found and those of the rows, float [crops, 4]: begin and
            end in seconds of the recording, low and high in Hz.

    Returns:
        DataFrame of the columns `FOUND`, a line a crop.
    """
    fit = [interval_iou(found[:, part], rows[:, part]) for part in (slice(0, 2), slice(2, 4))]
    return pd.DataFrame(np.column_stack([found, *fit]), columns=FOUND)


def events_without_row(has_row: np.ndarray, absent: np.ndarray, scores: np.ndarray) -> int:
    """Counts events in crops without a row, of species that are known to be absent from them.

    Args:
        has_row: bool [crops].
        absent: bool [crops, classes].
        scores: [crops, classes].
    """
    return int((absent & (scores >= UNCALIBRATED_THRESHOLD))[~has_row].sum())


def box_figures(
    is_tp: np.ndarray,
    is_absent: np.ndarray,
    score: np.ndarray,
    found: pd.DataFrame,
    wrong_elsewhere: int = 0,
) -> dict[str, float]:
    """How well what was found in crops fits the rows that they were cut for.

    A box is an event of its row if its score reaches 0.5, where events of a run begin that is not
    calibrated, and it overlaps the row in time; another lies on sound that nobody has judged. The
    event of a TP row is right if their overlap reaches one half. That of an FP row is wrong, if
    nothing else in the crop says that the species calls there.

    Args:
        is_tp: bool [crops], cut for a TP row.
        is_absent: bool [crops], the row's species is known to be absent from the crop.
        score: [crops], of the row's species.
        found: DataFrame with `iou` and `band_iou`, NaN where there is no box.
        wrong_elsewhere: events of `events_without_row`.

    Returns:
        event_f1: 2 x right events / (events + TP rows).
        median_iou, median_band_iou: of the boxes in crops of TP rows, whatever their score.
        NaN where there is no TP row with a box.
    """
    iou = found["iou"].to_numpy(float)
    has_box = ~np.isnan(iou)
    call, rejected = is_tp & has_box, is_absent & has_box & ~is_tp
    if not call.any():
        return dict.fromkeys(FIGURES, float("nan"))
    is_event = (call | rejected) & (score >= UNCALIBRATED_THRESHOLD) & (iou > 0)
    right = is_event & call & (iou >= _FITS)
    return {
        "event_f1": 2 * float(right.sum()) / float(is_event.sum() + wrong_elsewhere + call.sum()),
        "median_iou": float(np.median(iou[call])),
        "median_band_iou": float(np.median(found["band_iou"].to_numpy(float)[call])),
    }
