"""Clips are the recording's own samples; pictures show sound and box where they are."""

import io
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import soundfile
from matplotlib.colors import to_rgb

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.audio.excerpt import Excerpt, read_excerpt
from rfcx_tf.review.clips import event_png, write_clip

RATE_HZ = 8000


def event(*values):
    return SimpleNamespace(
        **dict(zip(("start_s", "end_s", "low_hz", "high_hz"), values, strict=True))
    )


def test_a_clip_holds_the_mean_of_the_channels_at_the_files_rate(tmp_path):
    recording, clip = tmp_path / "r.flac", tmp_path / "clips" / "c.wav"
    channels = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE_HZ * 3, 2))
    soundfile.write(recording, channels, RATE_HZ, "PCM_24")
    excerpt = read_excerpt(recording, 1.25, 2.0)
    write_clip(excerpt, clip)
    info = soundfile.info(clip)
    assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
    wanted = channels[10000:16000].mean(axis=1)
    assert soundfile.read(clip)[0] == pytest.approx(wanted, abs=1.01 / 2**15)
    assert (excerpt.begin_s, excerpt.end_s) == (1.25, 2.0)


def test_context_ends_with_the_recording(tmp_path):
    recording = tmp_path / "r.wav"
    soundfile.write(recording, np.zeros(RATE_HZ), RATE_HZ)
    excerpt = read_excerpt(recording, -1, 5)
    assert (excerpt.begin_s, excerpt.end_s) == (0, 1)
    with pytest.raises(AudioError, match=r"r\.wav must be the one"):
        read_excerpt(recording, 1.5, 2)
    recording.write_text("no sound")
    with pytest.raises(AudioError, match="not readable as"):
        read_excerpt(recording, 0, 1)


def test_the_picture_shows_sound_and_box_at_their_places():
    times_s = np.arange(4 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.001, len(times_s))
    tone = np.sin(2 * np.pi * 1500 * times_s) + noise
    excerpt = Excerpt(tone.astype(np.float32), RATE_HZ, 10.0)
    # The picture reaches to 2 * 1200 Hz; $_ would be a mistake in a formula.
    png = event_png(event(11.0, 13.0, 600.0, 1200.0), excerpt, "$_")
    pixels = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    height, width = pixels.shape[:2]
    left, bottom, across, up = 0.08, 0.14, 0.9, 0.76
    inside = pixels[int((1 - bottom - up) * height) + 3 : int((1 - bottom) * height) - 3]
    inside = inside[:, int(left * width) + 3 : int((left + across) * width) - 3]
    of_box = np.abs(inside - to_rgb("#56B4E9")).max(axis=-1) < 0.1
    rows, columns = np.nonzero(of_box)
    found_s = 10 + 4 * columns / of_box.shape[1]
    assert [found_s.min(), found_s.max()] == pytest.approx([11, 13], abs=0.05)
    found_hz = 2400 * (1 - rows / of_box.shape[0])
    assert [found_hz.min(), found_hz.max()] == pytest.approx([600, 1200], abs=40)
    brightest = np.argmax(inside.sum(axis=-1).mean(axis=1))
    assert 2400 * (1 - brightest / len(inside)) == pytest.approx(1500, abs=40)


@pytest.mark.parametrize("samples", [np.zeros(10), np.zeros(RATE_HZ)])
def test_silence_and_the_shortest_sound_can_be_drawn(samples):
    excerpt = Excerpt(samples.astype(np.float32), RATE_HZ, 0.0)
    assert event_png(event(0, 1, np.nan, np.nan), excerpt, "").startswith(b"\x89PNG")
