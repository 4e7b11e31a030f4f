"""The training step: its loss, its optimiser, its schedule."""

import math

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from rfcx_tf.config import Config
from rfcx_tf.data.annotations import SpeciesClass
from rfcx_tf.model.detector import build_detector
from rfcx_tf.training.classifier import CropClassifier, compile_classifier

CLASSES = [SpeciesClass(number, "") for number in range(3)]


def classifier_for(tiny_config, window_s=None, dropout=0.0, **training) -> CropClassifier:
    values = tiny_config.model_dump()
    values["model"]["head"] |= {"window_s": window_s, "dropout": dropout}
    values["training"] |= training
    config = Config.model_validate(values)
    keras.utils.set_random_seed(0)
    classifier = CropClassifier(build_detector(config, CLASSES, {}), config)
    compile_classifier(classifier, config.training)
    classifier.build((None, config.crop_frames, config.frontend.n_mels))
    classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def batch(size=6):
    random = np.random.default_rng(0)
    known = random.integers(0, 2, (size, 3)).astype(np.float32)
    target = known * random.integers(0, 2, (size, 3)).astype(np.float32)
    return random.gamma(1.0, 1.0, (size, 64, 32)).astype(np.float32), target, known


def test_the_logit_of_a_crop_is_the_largest_of_its_windows(tiny_config):
    classifier = classifier_for(tiny_config, window_s=0.5)
    spectrograms = batch()[0]
    windows = classifier.detector(spectrograms).numpy()
    assert windows.shape == (6, 3, 3)
    expected = [[max(example[:, c]) for c in range(3)] for example in windows]
    np.testing.assert_array_equal(classifier(spectrograms), np.array(expected, np.float32))


def test_a_step_reports_the_loss_of_its_batch_and_lowers_it(tiny_config):
    classifier = classifier_for(tiny_config, schedule="plateau", monitor="val_lrap")
    spectrograms, target, known = batch()
    logits = classifier(spectrograms, training=True).numpy().astype(float)
    of_known = known.astype(bool)
    probability = 1 / (1 + np.exp(-logits[of_known]))
    expected = log_loss(target[of_known], probability, normalize=False) / len(target)
    labels = {"target": target, "known": known}
    losses = [classifier.train_on_batch(spectrograms, labels) for _ in range(5)]
    # train_on_batch reports the mean since the last reset: its first value is the step's own.
    assert float(losses[0]) == pytest.approx(expected, rel=1e-4)
    assert float(losses[-1]) < 0.98 * expected


def test_cosine_schedule_by_its_formula(tiny_config):
    """Linear from a hundredth to the full rate, then half a cosine to zero."""
    options = {"epochs": 10, "steps_per_epoch": 20, "warmup_epochs": 1.5, "learning_rate": 0.01}
    optimizer = classifier_for(tiny_config, **options).optimizer

    def rate(step):
        optimizer.iterations.assign(step)
        return float(optimizer.learning_rate)

    warmup, steps = 30, 200
    for step in (0, 10, 29):
        assert rate(step) == pytest.approx(0.01 * (0.01 + 0.99 * step / warmup), rel=1e-5)
    for step in (30, 115, 170, 199):
        done = (step - warmup) / (steps - warmup)
        assert rate(step) == pytest.approx(
            0.005 * (1 + math.cos(math.pi * done)), rel=1e-4, abs=1e-8
        )
    assert rate(200) == pytest.approx(0.0, abs=1e-9)


def test_cosine_schedule_without_warm_up_begins_at_the_full_rate(tiny_config):
    optimizer = classifier_for(tiny_config, warmup_epochs=0.0, learning_rate=0.02).optimizer
    assert float(optimizer.learning_rate) == pytest.approx(0.02)


def test_weight_decay_shrinks_kernels_only(tiny_config):
    classifier = classifier_for(
        tiny_config, schedule="plateau", monitor="val_lrap", learning_rate=0.1, weight_decay=0.5
    )
    variables = classifier.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    classifier.optimizer.apply([np.zeros(v.shape, np.float32) for v in variables])
    kept = {
        name: {round(float(v), 6) for w in variables if w.name == name for v in np.ravel(w)}
        for name in ("kernel", "bias", "gamma", "beta")
    }
    # Without a gradient only the decay acts: 1 - 0.1 * 0.5.
    assert kept == {"kernel": {0.95}, "bias": {1.0}, "gamma": {1.0}, "beta": {1.0}}


def test_gradients_are_clipped_by_their_common_norm(tiny_config):
    optimizer = classifier_for(tiny_config, gradient_clip_norm=1.0).optimizer
    clipped = optimizer._clip_gradients([np.float32([3.0, 0.0]), np.float32([4.0])])
    np.testing.assert_allclose(np.concatenate(clipped), [0.6, 0.0, 0.8], rtol=1e-5)
    assert classifier_for(tiny_config).optimizer.global_clipnorm is None
