"""An event -> its spectrogram with the box around it, and the windows' scores below."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import pandas as pd

from rfcx_tf.report.charts import Axis, Frame, Line, drawing, number
from rfcx_tf.report.markup import Html, element
from rfcx_tf.report.window_curves import Curve
from rfcx_tf.review.clips import Excerpt, spectrogram_db

_WIDTH, _LEFT, _RIGHT = 360, 34, 8
_SPECTROGRAM_HEIGHT, _CURVE_HEIGHT = 150, 54
_RANGE_DB = 70.0
# Of the picture, which a page shows about half as wide; a phone's screen has two dots for one.
_COLUMNS = 640
_QUALITY = 40


def draw_event(event: pd.Series, excerpt: Excerpt, curve: Curve | None) -> Html:
    """Draws an event as SVG, the sound in it as a WebP picture.

    Without a band (low_hz, high_hz) the box reaches over all frequencies. The line that page.js
    moves while sound is played has the class `playhead`.

    Args:
        event: a row of a table of events.
        excerpt: the sound from before its begin to after its end.
        curve: windows of the species; None: nothing is drawn below.
    """
    picture, top_hz = _picture(excerpt, event.high_hz)
    times = Axis(excerpt.begin_s, excerpt.end_s)
    width = _WIDTH - _LEFT - _RIGHT
    frame = Frame(_LEFT, 20, width, _SPECTROGRAM_HEIGHT, times, Axis(0, top_hz / 1000, "kHz", 3))
    parts = [
        frame.y_axis(),
        element(
            "image",
            href=data_uri(picture, "image/webp"),
            x=_LEFT,
            y=frame.top,
            width=width,
            height=frame.height,
            preserveAspectRatio="none",
        ),
        _box(event, frame),
    ]
    last = frame
    if curve is not None:
        y = Axis(0, 1, "probability" if curve.is_probability else "score", 2)
        top = frame.top + frame.height + 26
        last = Frame(_LEFT, top, width, _CURVE_HEIGHT, times, y)
        parts.append(last.y_axis())
        if curve.threshold is not None:
            at = number(last.at_y(curve.threshold))
            parts.append(
                element("line", x1=_LEFT, x2=_LEFT + width, y1=at, y2=at, class_="threshold")
            )
        inside = (curve.times_s >= times.low) & (curve.times_s <= times.high)
        line = Line("", curve.times_s[inside], curve.values[inside])
        parts.append(last.polyline(line))
    parts.append(last.x_axis(clock_text))
    bottom = last.top + last.height
    parts.append(
        element(
            "line",
            x1=_LEFT,
            x2=_LEFT,
            y1=frame.top,
            y2=bottom,
            class_="playhead",
            data_left=_LEFT,
            data_width=width,
        )
    )
    return drawing(_name(event, curve), _WIDTH, bottom + 20, *parts)


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def clock_text(seconds: float) -> str:
    """Seconds to a tenth: as 12.5 s, or from ten minutes on as 1:02:03.5."""
    seconds = round(float(seconds), 1)
    if seconds < 600:
        return f"{seconds:g} s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}".removesuffix(".0")


def _picture(excerpt: Excerpt, high_hz: float) -> tuple[bytes, float]:
    """A WebP and the frequency at its top: twice the box's, at most half the sample rate."""
    import matplotlib
    import matplotlib.image

    hz, _, level_db = spectrogram_db(excerpt, _COLUMNS)
    half_hz = excerpt.sample_rate_hz / 2
    top_hz = half_hz if math.isnan(high_hz) else min(half_hz, max(2 * high_hz, 2000.0))
    shown = level_db[hz <= top_hz]
    # A little of the background stays visible, so that faint calls can be told from it.
    darkest = max(np.percentile(shown, 20), shown.max() - _RANGE_DB)
    share = (shown - darkest) / max(shown.max() - darkest, 1e-3)
    pixels = matplotlib.colormaps["magma"](share[::-1], bytes=True)[..., :3]
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, pixels, format="webp", pil_kwargs={"quality": _QUALITY})
    return buffer.getvalue(), top_hz


def _box(event: pd.Series, frame: Frame) -> Html:
    low_hz = 0.0 if math.isnan(event.low_hz) else event.low_hz
    high_hz = frame.y.high * 1000 if math.isnan(event.high_hz) else event.high_hz
    # A long event reaches beyond the excerpt, a box of another sample rate beyond its top.
    left, right = np.clip(
        frame.at_x([event.start_s, event.end_s]), frame.left, frame.left + frame.width
    )
    top, bottom = np.clip(
        frame.at_y(np.array([high_hz, low_hz]) / 1000), frame.top, frame.top + frame.height
    )
    return element(
        "rect",
        x=number(left),
        y=number(top),
        width=number(right - left),
        height=number(bottom - top),
        class_="box",
    )


def _name(event: pd.Series, curve: Curve | None) -> str:
    band = ""
    if not math.isnan(event.low_hz):
        band = f", {event.low_hz / 1000:.1f} to {event.high_hz / 1000:.1f} kHz"
    text = (
        f"Spectrogram of {event.species} in {event.recording_id}: the event from "
        f"{clock_text(event.start_s)} to {clock_text(event.end_s)}{band} is boxed"
    )
    if curve is not None and len(curve.values):
        what = "probability" if curve.is_probability else "score"
        text += f". Highest {what} of a window here: {curve.values.max():.2f}"
    return text
