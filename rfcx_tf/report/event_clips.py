"""Some events -> cards to look at and to listen to, within so many bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr
from markupsafe import Markup

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.audio.excerpt import Excerpt, read_excerpt
from rfcx_tf.report.charts import LINES, QUIET, add_axes, data_uri, name_axes, new_figure, svg
from rfcx_tf.report.event_samples import SAMPLES
from rfcx_tf.report.page import fill_template
from rfcx_tf.report.window_curves import Curve, WindowCurves
from rfcx_tf.review.clips import draw_event, raise_peak

# A clip has so much sound before and behind an event; of a longer event it has only a part.
_CONTEXT_S = 1.0
_LONGEST_S = 12.0
# Sizes of a card's picture in pixels. The spectrogram has about twice as many columns, since a
# phone's screen has two dots for a pixel.
_WIDTH, _LEFT, _SPECTROGRAM_HEIGHT, _CURVE_HEIGHT = 360, 34, 150, 54
_COLUMNS = 640
# MP3 has these rates; others become the next higher one, or the highest.
_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class SpeciesCards:
    """The cards of a species.

    Attributes:
        column: of its class, s<id>.
        name: of the species.
        events: how many events it has.
        cards: by the kind that they were chosen as, of `SAMPLES`.
    """

    column: str
    name: str
    events: int
    cards: dict[str, list[Markup]]

    @property
    def shown(self) -> int:
        """How many cards there are."""
        return sum(map(len, self.cards.values()))


@dataclass(frozen=True)
class Clips:
    """Events with picture and sound, and what is not among them.

    Attributes:
        groups: of every species that has cards.
        left_out: events that would have made the page too large.
        failed: why recordings could not be read, by recording_id.
    """

    groups: list[SpeciesCards]
    left_out: int
    failed: dict[str, str]

    @property
    def shown(self) -> int:
        """How many cards there are."""
        return sum(group.shown for group in self.groups)


def event_clips(
    events: pd.DataFrame,
    names: Mapping[str, str],
    recordings: Mapping[str, Path],
    windows: WindowCurves | None,
    budget_bytes: int,
) -> Clips:
    """Draws and cuts the events that fit into so many bytes.

    Args:
        events: of `choose_events`.
        names: of species, by class column s<id>, in the order of the groups.
        recordings: paths by recording_id; events of others are passed over.
        windows: for curves below the spectrograms; None: none.
        budget_bytes: for all of them.
    """
    cards, failed, left_out = {}, {}, 0
    for event in events.itertuples():
        name = event.recording_id
        if name not in recordings or name in failed:
            continue
        try:
            card = event_card(event, recordings[name], windows)
        except AudioError as error:
            failed[name] = str(error)
            continue
        size = len(card.encode())
        if size > budget_bytes:
            left_out += 1
            continue
        budget_bytes -= size
        own = cards.setdefault(f"s{event.species_id}", {kind: [] for kind in SAMPLES})
        own[event.samples[0]].append(card)
    counts = events.groupby("species_id")["events"].first()
    groups = [
        SpeciesCards(column, name, counts[int(column[1:])], cards[column])
        for column, name in names.items()
        if column in cards
    ]
    return Clips(groups, left_out, failed)


def event_svg(event, excerpt: Excerpt, curve: Curve | None) -> Markup:
    """An event's spectrogram with its box, and the windows' scores below, as SVG.

    Args:
        event: a row of a table of events.
        excerpt: the sound from before its begin to after its end.
        curve: windows of the species; None: nothing is drawn below.
    """
    from matplotlib.ticker import FuncFormatter

    below = 0 if curve is None else 26 + _CURVE_HEIGHT
    figure = new_figure(_WIDTH, 20 + _SPECTROGRAM_HEIGHT + below + 20)
    axis = add_axes(figure, _LEFT, 20, _WIDTH - _LEFT - 8, _SPECTROGRAM_HEIGHT)
    draw_event(axis, event, excerpt, _COLUMNS)
    # The page scales the image's own pixels.
    axis.images[0].set_interpolation("none")
    name_axes(axis, y="kHz")
    axis.grid(False)
    axis.locator_params(nbins=4)
    if curve is not None:
        axis.set_xticks([])
        place = (_LEFT, 20 + _SPECTROGRAM_HEIGHT + 26, _WIDTH - _LEFT - 8, _CURVE_HEIGHT)
        axis = add_axes(figure, *place)
        if curve.threshold is not None:
            axis.axhline(curve.threshold, color=QUIET, linestyle=":", linewidth=1)
        axis.plot(curve.times_s, curve.values, color=LINES[0], linewidth=1.8)
        axis.set(xlim=(excerpt.begin_s, excerpt.end_s), ylim=(-0.03, 1.03), yticks=[0, 0.5, 1])
        name_axes(axis, y="probability" if curve.is_probability else "score")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock_text(seconds)))
    return svg(figure, _in_words(event, curve))


def _in_words(event, curve: Curve | None) -> str:
    band = ""
    if not np.isnan(event.low_hz):
        band = f", {event.low_hz / 1000:.1f} to {event.high_hz / 1000:.1f} kHz"
    text = (
        f"Spectrogram of {event.species} in {event.recording_id}: the event from "
        f"{clock_text(event.start_s)} to {clock_text(event.end_s)}{band} is boxed"
    )
    if curve is not None and len(curve.values):
        what = "probability" if curve.is_probability else "score"
        text += f". Highest {what} of a window here: {curve.values.max():.2f}"
    return text


def encode_mp3(excerpt: Excerpt) -> bytes:
    """Encodes an excerpt as MP3 of variable bit rate, mono, its peak raised to -3 dB.

    The gain is at most 40 dB. All browsers play MP3; 5 s at 24 kHz take about 30 kB, a quarter of
    their size as FLAC.
    """
    rate_hz = next((r for r in _RATES_HZ if r >= excerpt.sample_rate_hz), _RATES_HZ[-1])
    samples = excerpt.samples
    if rate_hz != excerpt.sample_rate_hz:
        samples = soxr.resample(samples, excerpt.sample_rate_hz, rate_hz)
    buffer = io.BytesIO()
    soundfile.write(buffer, raise_peak(samples), rate_hz, "MPEG_LAYER_III", format="MP3")
    return buffer.getvalue()


def clock_text(seconds: float) -> str:
    """Seconds to a tenth: as 12.5 s, or from ten minutes on as 1:02:03.5."""
    seconds = round(float(seconds), 1)
    if seconds < 600:
        return f"{seconds:g} s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}".removesuffix(".0")


def date_and_time(start_time: str) -> str:
    """An event's start_time without fractions of seconds and the offset from UTC."""
    return start_time[:19].replace("T", " ")


def event_card(event, path: Path, windows: WindowCurves | None) -> Markup:
    """The picture and the sound of an event, as a part of a page.

    Args:
        event: a row of `choose_events`.
        path: of its recording.
        windows: for a curve below the spectrogram; None: none.

    Raises:
        AudioError: if the recording cannot be read.
    """

    def curve(begin_s: float, end_s: float) -> Curve | None:
        if windows is None:
            return None
        return windows.curve(event.recording_id, event.species_id, begin_s, end_s)

    begin_s, end_s = _heard(event.start_s, event.end_s, curve(event.start_s, event.end_s))
    excerpt = read_excerpt(path, begin_s - _CONTEXT_S, end_s + _CONTEXT_S)
    return fill_template(
        "card.html",
        event=event,
        also=[SAMPLES[kind] for kind in event.samples[1:]],
        kind="score" if np.isnan(event.probability) else "probability",
        place=f"{event.recording_id}, {clock_text(event.start_s)} to {clock_text(event.end_s)}",
        time=date_and_time(event.start_time),
        picture=event_svg(event, excerpt, curve(excerpt.begin_s, excerpt.end_s)),
        # In percent of the picture's width.
        left=100 * _LEFT / _WIDTH,
        width=100 * (_WIDTH - _LEFT - 8) / _WIDTH,
        sound=data_uri(encode_mp3(excerpt), "audio/mpeg"),
    )


def _heard(begin_s: float, end_s: float, curve: Curve | None) -> tuple[float, float]:
    """Begin and end of an event, or of the part of a long one around its highest window."""
    if end_s - begin_s <= _LONGEST_S:
        return begin_s, end_s
    middle_s = (begin_s + end_s) / 2
    if curve is not None and len(curve.values):
        middle_s = float(curve.times_s[np.argmax(curve.values)])
    half_s = _LONGEST_S / 2
    middle_s = min(max(middle_s, begin_s + half_s), end_s - half_s)
    return middle_s - half_s, middle_s + half_s
