"""Pictures, sound and curves are those of the event."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import soundfile
from made_events import event
from page_reader import Page, points
from PIL import Image

from rfcx_tf.audio.excerpt import Excerpt
from rfcx_tf.core.errors import UserError
from rfcx_tf.report.event_clips import clock_text, encode_mp3, event_svg
from rfcx_tf.report.window_curves import Curve, WindowCurves
from rfcx_tf.scoring.calibration import Calibration

RATE_HZ = 24000


def tone(hz, seconds=3.0, rate_hz=RATE_HZ, level=0.05):
    times_s = np.arange(int(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).normal(0, level / 1000, len(times_s))
    return Excerpt(np.float32(level * np.sin(2 * np.pi * hz * times_s) + noise), rate_hz, 10.0)


@pytest.mark.parametrize(
    ("rate_hz", "wanted_hz"), [(24000, 24000), (20000, 22050), (192000, 48000)]
)
def test_sound_is_mp3_of_the_same_length_and_pitch_made_loud(rate_hz, wanted_hz):
    content = encode_mp3(tone(1500, rate_hz=rate_hz))
    samples, found_hz = soundfile.read(io.BytesIO(content))
    assert found_hz == wanted_hz
    assert len(samples) == pytest.approx(3 * wanted_hz, abs=wanted_hz // 20)
    spectrum = np.abs(np.fft.rfft(samples[: 2 * wanted_hz]))
    assert np.argmax(spectrum) / 2 == pytest.approx(1500, abs=2)
    middle = samples[wanted_hz : 2 * wanted_hz]
    assert np.abs(middle).max() == pytest.approx(10 ** (-3 / 20), rel=0.05)
    assert len(content) < 3 * wanted_hz / 2


def test_silence_is_raised_by_40_db_and_no_further():
    samples, _ = soundfile.read(io.BytesIO(encode_mp3(tone(1500, level=0.0005))))
    assert np.abs(samples[RATE_HZ:]).max() == pytest.approx(0.05, rel=0.1)
    encode_mp3(Excerpt(np.zeros(100, np.float32), RATE_HZ, 0.0))


def boxed(low_hz=1000.0, high_hz=2000.0, end_s=12.0):
    return pd.Series(event("r", 2, 11.0, end_s, 0.5, band=(low_hz, high_hz)))


def drawn(event):
    """The picture of a tone at 1.5 kHz: page, image [left, top, width, height], corners of box."""
    page = Page(event_svg(event, tone(1500), None))
    (image,) = page.of("image")
    # The picture's first row is its lowest.
    across, _, _, up, left, bottom = map(float, re.findall(r"[-\d.]+", image["transform"]))
    width, height = across * float(image["width"]), -up * float(image["height"])
    place = [left, bottom - height, width, height]
    (box,) = (p for p in page.of("path") if p.get("stroke") == "#56b4e9")
    return page, image, place, points(box)


def test_the_picture_has_the_tone_in_its_box():
    page, image, place, box = drawn(boxed())
    left, top, width, height = 34, 20, 318, 150
    assert place == pytest.approx([left, top, width, height], abs=1)
    kind, content = image["href"].split(";base64,")
    assert kind == "data:image/webp"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), float)
    # From 0 to twice the box's upper end, 4 kHz.
    bright = 4000 * np.argmax(pixels.sum(axis=(1, 2))) / len(pixels)
    assert bright == pytest.approx(1500, abs=60)
    assert box.min(axis=0) == pytest.approx([left + width / 3, top + height / 2], abs=0.11)
    assert np.ptp(box, axis=0) == pytest.approx([width / 3, height / 4], abs=0.11)
    assert "11 s to 12 s, 1.0 to 2.0 kHz is boxed" in page.text


def test_a_box_without_a_band_reaches_over_all_and_never_beyond_the_picture():
    _, _, (left, top, width, height), box = drawn(boxed(low_hz=np.nan, high_hz=np.nan, end_s=99.0))
    assert box[:, 1].min() == pytest.approx(top, abs=0.11)
    assert box.max(axis=0) == pytest.approx([left + width, top + height], abs=0.11)


def test_a_curve_lies_below_the_picture_with_its_threshold():
    curve = Curve(np.array([10.0, 11.5, 13.0]), np.array([0.0, 0.5, 1.0]), 0.25, True)
    page = Page(event_svg(boxed(), tone(1500), curve))
    lines = {p["stroke"]: points(p) for p in page.of("path") if "stroke" in p}
    # The panel is 54 high, 26 below the picture; 0 and 1 are 3 % of its scale from its ends.
    low, high = 250 - 54 * 0.03 / 1.06, 196 + 54 * 0.03 / 1.06
    wanted = [[34, low], [34 + 159, (low + high) / 2], [34 + 318, high]]
    assert lines["var(--line0)"] == pytest.approx(np.array(wanted), abs=0.11)
    assert lines["var(--quiet)"][:, 1] == pytest.approx(low + (high - low) / 4, abs=0.11)
    assert "Highest probability of a window here: 1.00" in page.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (12.345, "12.3 s"),
        (599.96, "0:10:00"),
        (3723.5, "1:02:03.5"),
        (86400, "24:00:00"),
    ],
)
def test_times_are_short(seconds, text):
    assert clock_text(seconds) == text


def windows(folder):
    values = np.linspace(0.1, 0.9, 9, dtype=np.float32)
    table = pd.DataFrame({"recording_id": "r", "start_s": np.arange(9) * 0.5})
    table["end_s"] = table["start_s"] + 1.0
    table["s2"], table["s5"] = values, values[::-1]
    other = table.assign(recording_id="other", s2=0.0)
    path = folder / "windows.parquet"
    pd.concat([other, table]).to_parquet(path, index=False)
    return path, values


def test_curves_hold_the_windows_around_a_stretch(tmp_path):
    path, values = windows(tmp_path)
    curves = WindowCurves(path, ["r"])
    # Without events there is nothing to draw, and no error.
    assert WindowCurves(path, []).curve("r", 2, 0.0, 1.0) is None
    curve = curves.curve("r", 2, 1.4, 2.6)
    # Middles at 1.5, 2 and 2.5 s lie inside; one more on either side.
    assert curve.times_s.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert curve.values == pytest.approx(values[1:6])
    assert (curve.threshold, curve.is_probability) == (None, False)
    assert curves.curve("other", 2, 0, 9) is None
    assert curves.curve("r", 3, 0, 9) is None


def test_curves_are_probabilities_where_there_is_a_calibration(tmp_path):
    path, values = windows(tmp_path)
    # Log odds halved: p = sqrt(s / (1 - s)) / (1 + sqrt(s / (1 - s))).
    ends = np.float32([[-20, 20]])
    calibration = Calibration(["s2"], ends, ends / 2, np.float32([0.6]), [{}], "F1")
    curves = WindowCurves(path, ["r"], calibration)
    curve = curves.curve("r", 2, 0, 9)
    root = np.sqrt(values / (1 - values))
    assert curve.values == pytest.approx(root / (1 + root), abs=1e-5)
    assert curve.threshold == pytest.approx(0.6)
    assert not curves.curve("r", 5, 0, 9).is_probability


def test_what_is_no_table_of_windows_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"recording_id": ["r"]}).to_parquet(path)
    with pytest.raises(UserError, match="lacks end_s, start_s"):
        WindowCurves(path, ["r"])
    path.write_text("no table")
    with pytest.raises(UserError, match=r"x\.parquet cannot be read"):
        WindowCurves(path, ["r"])
