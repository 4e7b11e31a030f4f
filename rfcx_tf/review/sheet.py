"""Picked events -> a folder for the person who judges them: review.csv, clips, pictures, a page.

review.csv has a row for every event; its column `verdict` is empty. That of a random sample has a
column `inclusion`. It begins with a byte order
mark, without which Excel mistakes its encoding, and holds no text that a spreadsheet program would
run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.audio.excerpt import read_excerpt
from rfcx_tf.core.csv_tables import spreadsheet_text
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text, check_writable
from rfcx_tf.core.names import readable
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.review.clips import event_band_hz, event_png, write_clip
from rfcx_tf.review.selection import CONTEXT_S


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
    rows, failed = [], []
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
        low_hz, high_hz = event_band_hz(event, excerpt)
        write_clip(excerpt, out / clip)
        # Without the score: who knows it judges by it.
        title = f"{number}  {event.species}  in {event.recording_id}"
        with atomic_file(out / picture) as temporary:
            temporary.write_bytes(event_png(event, excerpt, title))
        rows.append(
            {
                "recording_id": event.recording_id,
                "species_id": str(event.species_id),
                "species": event.species,
                "t_min": f"{event.start_s:.3f}",
                "t_max": f"{event.end_s:.3f}",
                "f_min": f"{low_hz:.1f}",
                "f_max": f"{high_hz:.1f}",
                "score": f"{event.score:.6f}",
                "probability": "" if np.isnan(event.probability) else f"{event.probability:.6f}",
                "reason": event.reason,
                # Of a random sample: how likely the event was to be in it.
                **({"inclusion": f"{event.inclusion:.6g}"} if "inclusion" in picks else {}),
                "clip": clip,
                "picture": picture,
                "verdict": "",
                "comment": "",
                "file": readable(os.path.abspath(path)),
            }
        )
    if not rows:
        raise UserError(f"A review needs recordings that can be read. None could: {failed[0]}")
    atomic_write_text(out / "index.html", review_page(rows))
    table = pd.DataFrame(rows).map(spreadsheet_text).to_csv(index=False, lineterminator="\n")
    atomic_write_text(out / "review.csv", "\ufeff" + table)
    return failed


def review_page(rows: list[dict[str, str]]) -> str:
    """The page that plays the clips and takes verdicts.

    It shows clips and pictures by their paths beside it, and needs no network.

    Args:
        rows: of review.csv, as text by column.
    """
    content = {"columns": list(rows[0]), "rows": rows}
    # Browsers keep verdicts by this name, so that no other review takes them for its own.
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return jinja2.Template(template, autoescape=True).render(review=content | {"id": name})
