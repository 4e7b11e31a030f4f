"""The GPU trials' crops in NumPy against the rules of `rfcx_tf.shards` and cases by hand."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.gpu_crops import Sound, _labels, _mixed_labels, draw_examples
from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.shards.augment import mixup
from rfcx_tf.shards.cut import label_crop

CONFIG = Config.model_validate(
    {
        "frontend": {
            "sample_rate_hz": 8000,
            "n_fft": 256,
            "win_length": 256,
            "hop_length": 128,
            "n_mels": 32,
            "compression": "log",
        },
        "crops": {"crop_s": 1.024, "margin_s": 0.8},
        "augment": {"tp_shift_s": 0.2, "stretch": 0.1, "frequency_masks": 2},
    }
)
CLASSES = 3


@pytest.fixture(scope="module")
def sound():
    random = np.random.default_rng(0)
    rows, frames = 60, np.array([500, 300, 700, 400])
    recording = random.integers(0, 4, rows)
    length_s = frames[recording] * CONFIG.frontend.frame_s
    begin_s = random.uniform(0, length_s - 1.2)
    low_hz = random.uniform(100, 2000, rows)
    end_s = begin_s + random.uniform(0.05, 1.2, rows)
    return Sound(
        spectrograms=random.integers(0, 256, (frames.sum(), 32)).astype(np.uint8),
        low=5.0,
        step=0.05,
        first_frame=np.cumsum(frames) - frames,
        frames=frames,
        folds=np.array([0, 1, 1, 1]),
        truth=np.ones((4, CLASSES), bool),
        classes=[SpeciesClass(number, "") for number in range(CLASSES)],
        mean_box_s=dict.fromkeys(range(CLASSES), 0.5),
        recording=recording,
        species=random.integers(0, CLASSES, rows),
        present=random.random(rows) < 0.5,
        boxes=np.stack([begin_s, end_s, low_hz, low_hz + 800], 1),
    )


def test_labels_of_crops_are_those_of_shards(sound):
    random = np.random.default_rng(1)
    spans = np.float32([[0, 64], [8, 40], [16, 48]])
    recording = random.integers(0, 4, 40)
    first_s, frame_s = random.uniform(0, 4, 40), 0.016 * random.uniform(0.9, 1.1, 40)
    present, absent, partly = _labels(sound, recording, first_s, frame_s, spans)
    seen = np.zeros(3, int)
    for n in range(40):
        own = sound.recording == recording[n]
        boxes = (sound.boxes[own, :2] - first_s[n]) / frame_s[n]
        arguments = sound.species[own].astype(np.int64), sound.present[own].astype(np.int64), spans
        expected = label_crop(tf.constant(boxes, tf.float32), *arguments)
        found = present[n], present[n] | (absent[n] & ~partly[n]), partly[n]
        np.testing.assert_array_equal(np.float32(found), np.stack(expected))
        seen += np.sum(found, axis=1)
    assert (seen > 5).all()


def test_labels_of_mixes_are_those_of_shards():
    random = np.random.default_rng(2)
    sides = random.random((2, 3, 200, CLASSES)) < 0.4
    # Nothing is partly heard and present.
    own, other = ([p, a, t & ~p] for p, a, t in sides)
    target, known, partly = _mixed_labels(own, other, np.ones((200, 1), bool))
    examples = [
        {
            "target": tf.constant(np.float32(p)),
            "known": tf.constant(np.float32(p | (a & ~t))),
            "partly": tf.constant(np.float32(t)),
            "pseudo": tf.constant(0.0),
            "spectrogram": tf.zeros([2, 2, 1]),
            # Trials have no boxes.
            "box_class": tf.constant(-1.0),
            "box_frames": tf.zeros([2]),
            "box_bands": tf.zeros([2]),
            "inside": tf.zeros([1, CLASSES]),
        }
        for p, a, t in (own, other)
    ]
    expected = mixup(*examples, 0.7)
    for name, found in (("target", target), ("known", known), ("partly", partly)):
        np.testing.assert_array_equal(np.float32(found), expected[name])


def test_crops_stay_in_stored_pieces_of_training_recordings_and_show_their_rows(sound):
    examples = draw_examples(sound, CONFIG, 0, 0, 400)
    first, last = examples["begin"] + examples["part"], examples["last"]
    assert (first >= sound.first_frame[1]).all()
    # The last frame is repeated where a piece ends, at most by rounding.
    assert (first + examples["rate"] * (CONFIG.crop_frames - 1) <= last + 2).all()
    rate = examples["rate"]
    assert (rate >= 1 / 1.1 - 1e-6).all() and (rate <= 1.1 + 1e-6).all()
    assert rate.std() > 0.03
    # Half are drawn from TP rows, whose class stays known.
    assert (examples["target"].any(1)).mean() > 0.45
    assert examples["known"].any(1).mean() > 0.9
    assert not (examples["partly"] * examples["known"]).any()
