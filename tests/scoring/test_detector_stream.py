"""A recording in blocks against the same in one pass, and how far a cell sees against gradients."""

import functools
import json

import keras
import numpy as np
import pytest
from short_backbone import SHORT_BACKBONE

from rfcx_tf.core.config import BackboneConfig, load_config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.model.backbones import build_backbone, context_frames
from rfcx_tf.model.detector import build_detector
from rfcx_tf.scoring import detector as module
from rfcx_tf.scoring.detector import DetectorScorer, detector_card
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.scorer import score_blocks

CLASSES = [SpeciesClass(2, "low"), SpeciesClass(5, "middle"), SpeciesClass(9, "high")]
BOXES_S = {2: 0.3, 5: 0.6, 9: 0.9}
RATE_HZ = 8000
# Of scores, after some dozens of float32 operations in another order.
ROUNDING = 5e-6


def random_detector(config, seed):
    """Random weights with which scores lie in the middle, where differences show."""
    keras.utils.set_random_seed(seed)
    detector = build_detector(config, CLASSES, BOXES_S)
    random = np.random.default_rng(seed)
    for weight in detector.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    logits = np.asarray(detector(FrontEnd(config.frontend)(sound(4.0)[None]))["logits"])[0]
    kernel, bias = detector.get_layer("logits").weights
    kernel.assign(kernel / logits.std(axis=0))
    bias.assign((bias - logits.mean(axis=0)) / logits.std(axis=0))
    return detector


@pytest.fixture(scope="module")
def make_model(tmp_path_factory):
    """A function from changes of a tiny recipe to a model of random weights. Read only."""

    @functools.cache
    def make(folds=1, **changes):
        values = {
            "frontend.sample_rate_hz": RATE_HZ,
            "frontend.n_fft": 256,
            "frontend.win_length": 256,
            "frontend.hop_length": 128,
            "frontend.n_mels": 32,
            "crops.crop_s": 1.024,
            **{f"model.backbone.{key}": json.dumps(value) for key, value in SHORT_BACKBONE.items()},
            "model.backbone.width": 4,
        }
        values |= {key.replace("__", "."): value for key, value in changes.items()}
        path = tmp_path_factory.mktemp("config") / "tiny.yaml"
        path.write_text("{}")
        texts = [f"{key}={value}" for key, value in values.items() if value is not None]
        config = load_config(path, texts)
        card = detector_card(config, CLASSES, BOXES_S, {})
        return DetectorScorer(config, card, [random_detector(config, k) for k in range(folds)])

    return make


def sound(seconds, seed=0):
    """Noise that gets louder and softer, so that no two windows are alike."""
    random = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    loudness = np.interp(
        np.arange(samples), np.linspace(0, samples, 60), random.uniform(0.01, 0.3, 60)
    )
    return (loudness * random.normal(0, 1, samples)).astype(np.float32)


def streamed(model, waveform, pieces=5):
    return score_blocks(model, ({RATE_HZ: piece} for piece in np.array_split(waveform, pieces)))


RESNET10 = {"model__backbone__name": "resnet10", "model__backbone__stage_strides": None}
EFFICIENTNET = RESNET10 | {
    "model__backbone__name": "efficientnet_b0",
    "model__backbone__width": None,
    "crops__crop_s": 0.512,
    "model__head__window_s": 0.256,
}


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        (
            {
                "folds": 2,
                "frontend__compression": "pcen_log",
                "frontend__pcen__initial": "first_frame",
            },
            12.01,
        ),
        (
            {
                "model__head__kind": "per_class",
                "model__head__time_pooling": "mean_max",
                "prediction__time_shifts": 3,
            },
            12.4,
        ),
        ({"prediction__time_shifts": 4, "prediction__running_mean_s": 0.768, "folds": 2}, 12.25),
        ({"prediction__running_mean_s": 1.024}, 11.7),
        (
            RESNET10
            | {
                "model__backbone__stem_pooling": True,
                "model__backbone__stage_strides": "[1, 2, 2, 1]",
            },
            12.0,
        ),
        (
            RESNET10
            | {"model__backbone__stem_stride": "[3, 2]", "model__frequency_coordinate": True},
            16.0,
        ),
        (EFFICIENTNET, 26.0),
        (EFFICIENTNET | {"model__backbone__name": "yamnet"}, 16.0),
    ],
)
def test_blocks_give_what_one_pass_gives(changes, seconds, make_model, monkeypatch):
    model = make_model(**changes)
    monkeypatch.setattr(module, "BLOCK_S", 3.0)
    blocks = []
    score_block = module._DetectorStream._score_block
    monkeypatch.setattr(
        module._DetectorStream,
        "_score_block",
        lambda self, *args: blocks.append(args) or score_block(self, *args),
    )
    waveform = sound(seconds)
    found = streamed(model, waveform)
    assert len(blocks) >= 2, "the recording must be longer than some blocks"
    expected = model.score_waveform(waveform[None])
    assert found.window_scores.shape == expected["window_scores"].shape[1:]
    np.testing.assert_allclose(found.window_scores, expected["window_scores"][0], atol=ROUNDING)
    np.testing.assert_allclose(found.scores, expected["scores"][0], atol=ROUNDING)
    # A call is that of the surest cell: by rounding, another one may be surer.
    boxes = np.isclose(found.window_boxes, expected["window_boxes"][0], rtol=1e-3, atol=1e-3)
    assert boxes.all(axis=2).mean() > 0.99
    assert np.std(found.window_scores, axis=0).min() > 1e-2


def test_a_smaller_overlap_would_show(make_model, monkeypatch):
    """The comparison above can fail."""
    model = make_model()
    waveform = sound(12.0)
    monkeypatch.setattr(module, "BLOCK_S", 2.0)
    monkeypatch.setattr(DetectorScorer, "context_cells", 1)
    expected = model.score_waveform(waveform[None])["window_scores"][0]
    assert np.abs(streamed(model, waveform).window_scores - expected).max() > 1e-4


@pytest.mark.parametrize("samples", [1, 500, 6272, 20000])
def test_a_stream_may_be_shorter_than_a_window_or_a_block(samples, make_model):
    model = make_model(prediction__time_shifts=2)
    waveform = sound(3.0)[:samples]
    expected = model.score_waveform(waveform[None])
    found = streamed(model, waveform, pieces=2)
    np.testing.assert_allclose(found.window_scores, expected["window_scores"][0], atol=ROUNDING)
    np.testing.assert_allclose(found.scores, expected["scores"][0], atol=ROUNDING)


@pytest.mark.parametrize("samples_a_piece", [97, 16384])
def test_the_size_of_pieces_changes_nothing(samples_a_piece, make_model, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_S", 3.0)
    model = make_model()
    waveform = sound(12.0)
    expected = streamed(model, waveform, pieces=1)
    pieces = range(samples_a_piece, len(waveform), samples_a_piece)
    found = streamed(model, waveform, pieces=pieces)
    np.testing.assert_array_equal(found.window_scores, expected.window_scores)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_members_of_an_ensemble_are_streamed_side_by_side(make_model, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_S", 2.0)
    members = [make_model(), make_model(frontend__compression="log", frontend__n_mels=40)]
    waveform = sound(12.0)
    one, other = (member.score_waveform(waveform[None]) for member in members)
    found = streamed(EnsembleScorer(members, [0.75, 0.25]), waveform, 7)
    for name in ("scores", "window_scores"):
        expected = 0.75 * one[name][0] + 0.25 * other[name][0]
        np.testing.assert_allclose(getattr(found, name), expected, atol=ROUNDING)
    # A member counts for a box as much as it hears the class there.
    weights = [0.75 * one["window_scores"][0], 0.25 * other["window_scores"][0]]
    boxes = [one["window_boxes"][0], other["window_boxes"][0]]
    share = np.stack([weight[..., np.newaxis] for weight in weights])
    expected = (share * np.stack(boxes)).sum(axis=0) / share.sum(axis=0)
    close = np.isclose(found.window_boxes, expected, rtol=1e-3, atol=1e-3)
    assert close.all(axis=2).mean() > 0.99


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "resnet10"},
        {"name": "resnet18", "stem_pooling": True},
        {"name": "resnet50", "stem_stride": (3, 2), "stem_kernel": 5},
    ],
)
def test_context_is_how_far_a_cell_sees(changes):
    """With positive weights a loud frame there changes the cell, one frame further it does not."""
    config = BackboneConfig(width=2, **changes)
    backbone = build_backbone(config, 16, 1)
    context, stride = context_frames(backbone), config.stride[0]
    for weight in backbone.trainable_weights:
        weight.assign(np.full(weight.shape, 1.0 if weight.name == "gamma" else 0.3))
    cell = -(-context // stride) + 1
    images = np.full((5, 2 * cell * stride + 1, 16, 1), 0.5, np.float32)
    centre = cell * stride
    for image, frame in enumerate([-context - 1, -context, context, context + 1]):
        images[image, centre + frame] = 1e8
    features = np.asarray(backbone(images))[:, cell].sum(axis=(1, 2))
    changed = features != features[4]
    assert changed.tolist() == [False, True, True, False, False]
    assert np.isfinite(features).all()
