"""The surest events -> cards to look at and to listen to, within so many bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.report.data_table import filter_field
from rfcx_tf.report.event_choice import best_events
from rfcx_tf.report.event_picture import clock_text, data_uri, draw_event
from rfcx_tf.report.event_sound import encode_mp3
from rfcx_tf.report.markup import Html, element, join
from rfcx_tf.report.window_curves import Curve, WindowCurves
from rfcx_tf.review.clips import read_excerpt

# Around an event; and of a longer one only so much is heard, around its surest window.
_CONTEXT_S = 1.0
_LONGEST_S = 12.0


@dataclass(frozen=True)
class Clips:
    """Events with picture and sound, and what is not among them.

    Attributes:
        content: of the section.
        shown: how many events it has.
        left_out: events that would have made the page too large.
        failed: a line for every recording that could not be read.
    """

    content: Html
    shown: int
    left_out: int
    failed: list[str]


def event_clips(
    events: pd.DataFrame,
    names: Mapping[str, str],
    recordings: Mapping[str, Path],
    windows: WindowCurves | None,
    *,
    per_class: int,
    budget_bytes: int,
) -> Clips:
    """Draws and cuts the best events, as far as they fit into so many bytes.

    The best of every species come before the second best of any.

    Args:
        events: a table of `EVENT_COLUMNS`.
        names: of species, by class column s<id>, in the order of the section.
        recordings: paths by recording_id; events of others are passed over.
        windows: for curves below the spectrograms; None: none.
        per_class: at most so many of a species.
        budget_bytes: for all of them.
    """
    cards, failed, used, left_out = {}, {}, 0, 0
    for _, event in best_events(events, per_class).iterrows():
        name = event.recording_id
        if name not in recordings or name in failed:
            continue
        try:
            card = _card(event, recordings[name], windows)
        except AudioError as error:
            failed[name] = str(error)
            continue
        if used + len(card.encode()) > budget_bytes:
            left_out += 1
            continue
        used += len(card.encode())
        cards.setdefault(f"s{event.species_id}", []).append(card)
    counts = events["species_id"].value_counts()
    groups = []
    for column, name in names.items():
        if column in cards:
            of = f"{len(cards[column])} of {counts[int(column[1:])]}"
            heading = element("h3", f"{name} ", element("small", of))
            group = element("div", *cards[column], class_="events")
            groups.append(element("div", heading, group, data_text=f"{name} {column}".casefold()))
    words = (
        "The surest events of each species. The box spans the event and the species' usual band; "
        "sound is raised to be audible, by 40 dB at most."
    )
    if windows is not None:
        words += " Below: the species' windows; dotted: the threshold, where it is known."
    if left_out:
        words += f" {left_out} more were left out to keep the page small (--max-mb)."
    search = filter_field("clips", "Filter by species") if len(groups) > 1 else ""
    content = join([element("p", words), search, element("div", *groups, id="clips")])
    return Clips(content, sum(map(len, cards.values())), left_out, list(failed.values()))


def _card(event: pd.Series, path: Path, windows: WindowCurves | None) -> Html:
    def curve(begin_s: float, end_s: float) -> Curve | None:
        if windows is None:
            return None
        return windows.curve(event.recording_id, event.species_id, begin_s, end_s)

    begin_s, end_s = _heard(event.start_s, event.end_s, curve(event.start_s, event.end_s))
    excerpt = read_excerpt(path, begin_s - _CONTEXT_S, end_s + _CONTEXT_S)
    picture = draw_event(event, excerpt, curve(excerpt.begin_s, excerpt.end_s))
    kind = "score" if np.isnan(event.probability) else "probability"
    place = f"{event.recording_id}, {clock_text(event.start_s)} to {clock_text(event.end_s)}"
    # Without fractions of seconds and the offset from UTC.
    time = event.start_time[:19].replace("T", " ")
    caption = element(
        "figcaption",
        element("strong", f"{event[kind]:.3f} {kind}"),
        join([", ", element("span", time, class_="when")]) if time else "",
        element("br"),
        place,
    )
    audio = element(
        "audio",
        controls=True,
        preload="none",
        src=data_uri(encode_mp3(excerpt), "audio/mpeg"),
        aria_label=f"{event.species}, {place}",
    )
    return element("figure", caption, picture, audio, class_="event")


def _heard(begin_s: float, end_s: float, curve: Curve | None) -> tuple[float, float]:
    """All of an event, or of a long one what lies around its highest window, or its middle."""
    if end_s - begin_s <= _LONGEST_S:
        return begin_s, end_s
    middle_s = (begin_s + end_s) / 2
    if curve is not None and len(curve.values):
        middle_s = float(curve.times_s[np.argmax(curve.values)])
    half_s = _LONGEST_S / 2
    middle_s = min(max(middle_s, begin_s + half_s), end_s - half_s)
    return middle_s - half_s, middle_s + half_s
