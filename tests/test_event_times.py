"""Where windows lie, across rooms: the label rule of training and the events of prediction."""

import numpy as np
import pytest
import tensorflow as tf

from rfcx_tf.core.config import load_config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import class_window_cells, crop_spans, crop_windows
from rfcx_tf.events.find import find_events
from rfcx_tf.events.table import EventRecording
from rfcx_tf.scoring.detector import detector_card
from rfcx_tf.shards.cut import label_crop

DURATION_S = 16.0
CLASSES = [SpeciesClass(number, f"species {number}") for number in range(6)]
# From a quarter of a cell to longer than a window.
BOX_S = {0: 0.05, 1: 0.3, 2: 0.52, 3: 0.9, 4: 1.3}


def recipe(tmp_path, kind, crop_s, window_s):
    path = tmp_path / "recipe.yaml"
    path.write_text("{}")
    values = {
        "frontend.sample_rate_hz": 16000,
        "frontend.hop_length": 160,
        "frontend.n_fft": 512,
        "frontend.win_length": 512,
        "frontend.n_mels": 32,
        "frontend.f_max_hz": 8000,
        "crops.crop_s": crop_s,
        "model.head.kind": kind,
    }
    if window_s:
        values["model.head.window_s"] = window_s
    return load_config(path, [f"{key}={value}" for key, value in values.items()])


@tf.function(
    input_signature=[
        tf.TensorSpec([None, 2], tf.float32),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([None, 2], tf.float32),
    ]
)
def labels_of_crops(boxes, species, spans):
    """The label rule of training for one call in many crops, float32 [crops, classes]."""
    present = tf.constant([1], tf.int64)
    return tf.map_fn(lambda box: label_crop(box[None], species[None], present, spans)[0], boxes)


def ideal_scores(config, species, begin_s, end_s):
    """Scores [windows, classes] of a detector that says of every window what a crop there is
    labelled, for one call."""
    stride, frame_s = config.model.backbone.stride[0], config.frontend.frame_s
    frames = 1 + int(DURATION_S / frame_s)
    windows = -(-frames // stride) - config.window_cells + 1
    # A crop of several windows is labelled by what any of them covers.
    spans = crop_spans(config, CLASSES, BOX_S)
    spans[:, 1] -= (crop_windows(config) - 1) * stride
    box = np.float32([begin_s, end_s]) / frame_s
    boxes = box - np.arange(windows, dtype=np.float32)[:, np.newaxis] * stride
    return labels_of_crops(boxes, species, spans).numpy()


@pytest.mark.parametrize("kind", ["shared", "per_class"])
@pytest.mark.parametrize(
    ("crop_s", "window_s"),
    # Even and odd numbers of cells, of 0.16 s; no multiples of it; several windows a crop.
    [(1.28, None), (1.44, None), (1.33, None), (1.5, None), (1.6, 0.8), (1.55, 0.95)],
)
def test_events_of_an_ideal_detector_are_on_time(tmp_path, kind, crop_s, window_s):
    config = recipe(tmp_path, kind, crop_s, window_s)
    card = detector_card(config, CLASSES, BOX_S, {})
    random = np.random.default_rng(0)
    recording = EventRecording("a", "a.wav", DURATION_S)
    for species, box_s in BOX_S.items():
        late_s = []
        for centre_s in random.uniform(5, DURATION_S - 5, 8):
            begin_s, end_s = centre_s - box_s / 2, centre_s + box_s / 2
            scores = ideal_scores(config, species, begin_s, end_s)
            events = find_events(recording, scores, card, 0.5)
            assert list(events["species_id"]) == [species]
            late_s.append((events["start_s"] + events["end_s"]).item() / 2 - centre_s)
        # Windows are a hop apart, so single events miss by up to half of it; the mean must not.
        assert np.abs(late_s).max() <= card.hop_s / 2 + 1e-6, BOX_S[species]
        assert abs(np.mean(late_s)) < card.hop_s * 0.1 + 2 * card.hop_s / np.sqrt(12 * 8)


def test_mean_lateness_is_a_tenth_of_a_hop_at_most(tmp_path):
    """Calls on every sixteenth of a hop, so that the grid itself adds nothing to the mean."""
    for kind in ("shared", "per_class"):
        for crop_s in (1.28, 1.44, 1.33, 1.5):
            config = recipe(tmp_path, kind, crop_s, None)
            card = detector_card(config, CLASSES, BOX_S, {})
            for species in (1, 3):
                late_s = []
                for centre_s in 10 + np.arange(16) / 16 * card.hop_s:
                    half_s = BOX_S[species] / 2
                    scores = ideal_scores(config, species, centre_s - half_s, centre_s + half_s)
                    recording = EventRecording("a", "a.wav", DURATION_S)
                    events = find_events(recording, scores, card, 0.5)
                    late_s.append((events["start_s"] + events["end_s"]).item() / 2 - centre_s)
                assert abs(np.mean(late_s)) < 0.1 * card.hop_s, (kind, crop_s, species)


def test_old_convention_is_late_by_half_a_cell_and_more(tmp_path):
    """By hand: of 9 cells a class that pools over 2 takes the cells 3 and 4, which stand for the
    frames 40 to 72: the middle is frame 56, 0.56 s. Half a window would be 0.72 s."""
    config = recipe(tmp_path, "per_class", 1.44, None)
    card = detector_card(config, CLASSES, BOX_S, {})
    assert class_window_cells(config, CLASSES, BOX_S)[1] == 2
    assert card.window_centre_s[1] == pytest.approx(0.56)
    assert card.window_s / 2 == pytest.approx(0.72)
