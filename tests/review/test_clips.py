"""Clips are the recording's own samples; pictures show sound and box where they are."""

import io
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure

from rfcx_tf.audio.decode import AudioError
from rfcx_tf.audio.excerpt import Excerpt, read_excerpt
from rfcx_tf.review.clips import draw_event, spectrogram_png, write_clip

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
    mean = channels[10000:16000].mean(axis=1)
    # Its peak at -3 dB.
    wanted = mean * 10 ** (-3 / 20) / np.abs(mean).max()
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


def test_what_is_quiet_becomes_louder_but_not_noise(tmp_path):
    clip = tmp_path / "c.wav"
    write_clip(Excerpt(np.float32([0, 1e-4, -1e-4]), RATE_HZ, 0.0), clip)
    assert soundfile.read(clip)[0] == pytest.approx([0, 0.01, -0.01], abs=1e-4)
    # Browsers' players do not take what bat detectors write.
    write_clip(Excerpt(np.zeros(250_000, np.float32), 250_000, 0.0), clip)
    info = soundfile.info(clip)
    assert (info.samplerate, info.frames) == (48000, 48000)


def test_the_picture_shows_sound_at_its_place():
    """Without axes: the page says where an event lies."""
    times_s = np.arange(4 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.001, len(times_s))
    tone = np.sin(2 * np.pi * 1500 * times_s) * ((times_s > 1) & (times_s < 2)) + noise
    png = spectrogram_png(Excerpt(tone.astype(np.float32), RATE_HZ, 10.0), 2400.0)
    bright = matplotlib.image.imread(io.BytesIO(png))[..., :3].sum(axis=-1)
    height, width = bright.shape
    assert 2400 * (1 - np.argmax(bright.mean(axis=1)) / height) == pytest.approx(1500, abs=40)
    loud = np.nonzero(bright.max(axis=0) > 0.9 * bright.max())[0]
    assert [4 * loud.min() / width, 4 * loud.max() / width] == pytest.approx([1, 2], abs=0.05)


def test_the_box_of_an_event_is_drawn_where_it_lies():
    axis = Figure().subplots()
    excerpt = Excerpt(np.zeros(4 * RATE_HZ, np.float32), RATE_HZ, 10.0)
    draw_event(axis, event(11.0, 13.0, 600.0, 1200.0), excerpt)
    assert axis.patches[0].get_bbox().extents == pytest.approx([11, 0.6, 13, 1.2])
    # Up to twice its upper bound.
    assert (*axis.get_xlim(), *axis.get_ylim()) == (10, 14, 0, 2.4)


@pytest.mark.parametrize("samples", [np.zeros(10), np.zeros(RATE_HZ)])
def test_silence_and_the_shortest_sound_can_be_drawn(samples):
    excerpt = Excerpt(samples.astype(np.float32), RATE_HZ, 0.0)
    assert spectrogram_png(excerpt, 4000.0).startswith(b"\x89PNG")
    draw_event(Figure().subplots(), event(0, 1, np.nan, np.nan), excerpt)
