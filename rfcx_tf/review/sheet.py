"""Picked events -> a folder for the person who judges them: review.csv, clips, pictures, a page.

review.csv has a row for every event; its column `verdict` is empty. That of a random sample has a
column `inclusion`. The page works without a server, so that the folder can be given away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.audio.excerpt import read_excerpt
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text, check_writable
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.review.clips import event_band_hz, spectrogram_png, view_top_hz, write_clip
from rfcx_tf.review.page import given_away_page
from rfcx_tf.review.selection import CONTEXT_S
from rfcx_tf.review.sheet_rows import COLUMNS, event_cells, sheet_text


def check_review_folder(out: str | Path) -> None:
    """Refuses, before long work, a folder that holds a review.

    Raises:
        UserError: if it does, or cannot be written to.
    """
    sheet = Path(out) / "review.csv"
    if sheet.exists():
        raise UserError(
            f"A review is never written over, since verdicts may be in it. {sheet} is there; "
            "name another folder."
        )
    check_writable(sheet)


def begin_sheet(
    picks: pd.DataFrame,
    recordings: Mapping[str, Path],
    path: str | Path,
    highest_hz: Callable[[Path], float],
) -> None:
    """Writes review.csv alone, for a page that makes sound and pictures when they are asked for.

    Args:
        picks: of `pick_events`.
        recordings: sound files by recording_id.
        path: of review.csv.
        highest_hz: gives the highest frequency of a recording, for events without a band.
    """
    rows = []
    for event in picks.itertuples():
        file = recordings[event.recording_id]
        no_band = np.isnan(event.low_hz) or np.isnan(event.high_hz)
        band_hz = event_band_hz(event, highest_hz(file) if no_band else np.nan)
        cells = event_cells(event, os.path.abspath(file), band_hz)
        rows.append(cells | {"reason": event.reason})
    atomic_write_text(path, sheet_text(COLUMNS, rows))


def write_review(
    picks: pd.DataFrame, recordings: Mapping[str, Path], out: str | Path, *, progress: bool = True
) -> list[str]:
    """Cuts and draws every picked event; review.csv comes last, when all is there.

    Args:
        picks: of `pick_events` or `sample_events`.
        recordings: sound files by recording_id.
        out: the folder.
        progress: whether to show a progress bar.

    Returns:
        A line for every event whose recording could not be read.

    Raises:
        UserError: if the folder holds a review or cannot be written to, or no recording can
            be read.
    """
    out = Path(out)
    check_review_folder(out)
    rows, views, failed = [], [], []
    header = list(COLUMNS)
    if "inclusion" in picks:
        # Of a random sample: how likely the event was to be in it.
        header.insert(header.index("reason") + 1, "inclusion")
    events = picks.itertuples()
    for event in progress_bar(events, total=len(picks), shown=progress, unit="clip"):
        path = recordings[event.recording_id]
        number = f"{len(rows) + 1:04d}"
        clip, picture = f"clips/{number}.wav", f"pictures/{number}.png"
        try:
            excerpt = read_excerpt(path, event.start_s - CONTEXT_S, event.end_s + CONTEXT_S)
        except AudioError as error:
            failed.append(str(error))
            continue
        write_clip(excerpt, out / clip)
        band_hz = event_band_hz(event, excerpt.sample_rate_hz / 2)
        top_hz = view_top_hz(band_hz[1], excerpt.sample_rate_hz / 2)
        # Without the score: who knows it judges by it.
        with atomic_file(out / picture) as temporary:
            temporary.write_bytes(spectrogram_png(excerpt, top_hz))
        views.append([excerpt.begin_s, excerpt.end_s, top_hz])
        cells = event_cells(event, os.path.abspath(path), band_hz)
        cells |= {"reason": event.reason, "clip": clip, "picture": picture}
        if "inclusion" in picks:
            cells["inclusion"] = f"{event.inclusion:.6g}"
        rows.append(cells)
    if not rows:
        raise UserError(f"A review needs recordings that can be read. None could: {failed[0]}")
    atomic_write_text(out / "index.html", given_away_page(header, rows, views))
    atomic_write_text(out / "review.csv", sheet_text(header, rows))
    return failed
