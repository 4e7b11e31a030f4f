"""The training step: its loss, its optimiser, its schedule."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.model.detector import build_detector
from rfcx_tf.model.extents import window_boxes
from rfcx_tf.training.classifier import CropClassifier, compile_classifier, partner_weights

CLASSES = [SpeciesClass(number, "") for number in range(3)]


def classifier_for(
    tiny_config, window_s=None, dropout=0.0, boxes=False, **training
) -> CropClassifier:
    values = tiny_config.model_dump()
    values["model"]["head"] |= {"window_s": window_s, "dropout": dropout}
    values["training"] |= training
    config = Config.model_validate(values)
    keras.utils.set_random_seed(0)
    classifier = CropClassifier(build_detector(config, CLASSES, {}, boxes=boxes), config)
    compile_classifier(classifier, config.training)
    classifier.build((None, config.crop_frames, config.frontend.n_mels))
    classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def batch(size=6):
    random = np.random.default_rng(0)
    known = random.integers(0, 2, (size, 3)).astype(np.float32)
    target = known * random.integers(0, 2, (size, 3)).astype(np.float32)
    return random.gamma(1.0, 1.0, (size, 64, 32)).astype(np.float32), target, known


def labels_of(target, known, pseudo=None):
    """Labels of people, but for the examples where `pseudo` is 1."""
    pseudo = np.zeros(len(target), np.float32) if pseudo is None else np.float32(pseudo)
    partly = np.zeros_like(np.float32(known))
    return {"target": target, "known": known, "partly": partly, "pseudo": pseudo}


def test_the_logit_of_a_crop_is_the_largest_of_its_windows(tiny_config):
    classifier = classifier_for(tiny_config, window_s=0.5)
    spectrograms = batch()[0]
    windows = classifier.detector(spectrograms)["logits"].numpy()
    assert windows.shape == (6, 3, 3)
    expected = [[max(example[:, c]) for c in range(3)] for example in windows]
    found = classifier(spectrograms)
    assert list(found) == ["logits"]
    np.testing.assert_array_equal(found["logits"], np.array(expected, np.float32))


def test_the_box_of_a_crop_is_that_of_its_surest_window(tiny_config):
    """Windows begin a cell of 16 frames of 16 ms after each other."""
    classifier = classifier_for(tiny_config, window_s=0.5, boxes=True)
    spectrograms = batch()[0]
    found, outputs = classifier(spectrograms), classifier.detector(spectrograms)
    config = Config.model_validate(tiny_config)
    boxes = window_boxes(outputs["boxes"], 2, 0.256, config.frontend).numpy()
    logits = outputs["logits"].numpy()
    assert boxes.shape == (6, 3, 3, 4)
    chosen = set()
    for crop in range(6):
        for c in range(3):
            window = int(np.argmax(logits[crop, :, c]))
            expected = boxes[crop, window, c] + 0.256 * window * np.array([1, 1, 0, 0])
            np.testing.assert_allclose(found["box"][crop, c], expected, rtol=1e-5)
            chosen.add(window)
    assert len(chosen) > 1


def test_a_step_reports_the_loss_of_its_batch_and_lowers_it(tiny_config):
    classifier = classifier_for(tiny_config, schedule="plateau", monitor="val_lrap")
    # Building the graph of a step takes longer than all steps.
    classifier.run_eagerly = True
    spectrograms, target, known = batch()
    logits = classifier(spectrograms, training=True)["logits"].numpy().astype(float)
    of_known = known.astype(bool)
    probability = 1 / (1 + np.exp(-logits[of_known]))
    expected = log_loss(target[of_known], probability, normalize=False) / len(target)
    labels = labels_of(target, known)
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


def gradients_by_hand(classifier, spectrograms, target, known):
    """Mean over the batch of the summed cross-entropy of known labels, and its gradients."""
    with tf.GradientTape() as tape:
        logits = tf.reduce_max(classifier.detector(spectrograms, training=True)["logits"], axis=1)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
        loss = tf.reduce_sum(known * entropy) / len(target)
    return float(loss), tape.gradient(loss, classifier.detector.trainable_variables)


@pytest.mark.parametrize("xla", [False, True])
def test_parts_of_a_batch_make_one_step_with_their_mean_gradient(tiny_config, xla):
    """With plain descent at rate 1 the step is the gradient itself."""
    spectrograms, target, known = batch(8)
    by_hand = classifier_for(tiny_config)
    halves = [
        gradients_by_hand(by_hand, spectrograms[part], target[part], known[part])
        for part in (slice(0, 4), slice(4, 8))
    ]
    expected = [
        np.array(variable) - (np.array(first) + np.array(second)) / 2
        for variable, first, second in zip(
            by_hand.trainable_variables, halves[0][1], halves[1][1], strict=True
        )
    ]
    classifier = classifier_for(tiny_config, accumulation_steps=2, xla=xla)
    assert not classifier.jit_compile  # the parts are, not the step
    classifier.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    loss = classifier.train_on_batch(spectrograms, labels_of(target, known))
    assert float(loss) == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-5)
    assert int(classifier.optimizer.iterations) == 1
    for variable, value in zip(classifier.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-5)
    # The statistics of both halves went into the moving ones, in order.
    for variable, value in zip(
        classifier.detector.non_trainable_variables,
        by_hand.detector.non_trainable_variables,
        strict=True,
    ):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_the_mean_gradient_is_clipped_and_not_those_of_the_parts(tiny_config):
    spectrograms, target, known = batch(8)
    steps = []
    for limit in (None, 0.01):
        classifier = classifier_for(tiny_config, accumulation_steps=2)
        before = [np.array(v) for v in classifier.trainable_variables]
        classifier.compile(keras.optimizers.SGD(1.0, global_clipnorm=limit), jit_compile=False)
        # Building the graph of a step takes longer than the step.
        classifier.run_eagerly = True
        classifier.train_on_batch(spectrograms, labels_of(target, known))
        after = classifier.trainable_variables
        steps.append(np.concatenate([np.ravel(b - a) for b, a in zip(before, after, strict=True)]))
    free, clipped = steps
    norm = np.linalg.norm(free)
    assert norm > 0.02
    np.testing.assert_allclose(clipped, free * 0.01 / norm, atol=1e-6)


def mixing(tiny_config, alpha=0.4, probability=1.0, **head):
    """A recipe in which features are mixed."""
    values = tiny_config.model_dump()
    values["augment"] |= {"feature_mixup": probability, "mixup_alpha": alpha}
    values["model"]["head"] |= head
    return Config.model_validate(values)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
@pytest.mark.parametrize(
    "head",
    [{"kind": "shared", "window_s": 0.5}, {"kind": "per_class", "window_s": 0.5, "hidden": 5}],
)
def test_mixes_with_nothing_of_the_other_crop_train_as_without(
    tiny_config, head, accumulation_steps
):
    """A tiny alpha gives the other crop no weight at all."""
    spectrograms, target, known = batch(8)
    found = []
    for probability in (0.0, 1.0):
        config = mixing(tiny_config, 1e-6, probability, **head)
        classifier = classifier_for(
            config, window_s=head["window_s"], accumulation_steps=accumulation_steps
        )
        classifier.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        # Building the graph of a step takes longer than the step.
        classifier.run_eagerly = True
        loss = classifier.train_on_batch(spectrograms, labels_of(target, known))
        weights = [np.array(v) for v in classifier.detector.variables if "seed" not in v.path]
        found.append((float(loss), weights))
    assert found[0][0] == found[1][0]
    for plain, mixed in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(mixed, plain)


def test_features_are_mixed_in_training_only(tiny_config):
    classifier = classifier_for(mixing(tiny_config))
    spectrograms = batch()[0]
    expected = classifier.detector(spectrograms)["logits"].numpy().max(axis=1)
    np.testing.assert_array_equal(classifier(spectrograms)["logits"], expected)
    outputs = classifier(spectrograms, training=True)
    assert outputs["logits"].shape == (6, 3)
    assert outputs["partner_weight"].shape == (6,)


def one_layer(tiny_config, monkeypatch, weights):
    """Logits are features times a kernel; the other crop has the given weights."""
    spectrogram = keras.Input((None, 2))
    features = keras.layers.Identity()(spectrogram)
    x = keras.layers.Dropout(0.0, name="dropout")(features)
    logits = keras.layers.Dense(2, use_bias=False, name="logits")(x)
    classifier = CropClassifier(keras.Model(spectrogram, {"logits": logits}), mixing(tiny_config))
    monkeypatch.setattr(
        classifier, "_draw_partner_weights", lambda size: tf.constant(weights, tf.float32)
    )
    return classifier


def test_a_mix_by_hand(tiny_config, monkeypatch):
    """Three crops of one cell with two features, two classes; the partner is the crop before."""
    classifier = one_layer(tiny_config, monkeypatch, [0.25, 0.0, 0.5])
    features = np.array([[[1, 2]], [[-1, 0]], [[3, 1]]], np.float32)
    kernel = np.array([[0.5, -1.0], [0.25, 1.0]], np.float32)
    classifier.detector.get_layer("logits").kernel.assign(kernel)
    # Known: the first crop's class 0, present; the second's class 0, absent; the third's both.
    target = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    known = np.array([[1, 0], [1, 0], [1, 1]], np.float32)
    outputs = classifier(features, training=True)
    mixed = np.array([[1.5, 1.75], [-1, 0], [1, 0.5]])
    logits = mixed @ kernel
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-6)

    logit = tf.constant(outputs["logits"])
    with tf.GradientTape() as tape:
        tape.watch(logit)
        loss = classifier.compute_loss(
            y={name: tf.constant(values) for name, values in labels_of(target, known).items()},
            y_pred={"logits": logit, "partner_weight": outputs["partner_weight"]},
        )
    p = 1 / (1 + np.exp(-logits))
    terms = [
        # 3/4 its own label, 1/4 the third crop's: class 0 absent, class 1 present.
        -0.75 * np.log(p[0, 0]) - 0.25 * np.log(1 - p[0, 0]) - 0.25 * np.log(p[0, 1]),
        # Its own label only.
        -np.log(1 - p[1, 0]),
        # Half its own labels, half the second crop's: class 0 absent, class 1 unknown.
        -np.log(1 - p[2, 0]) - 0.5 * np.log(p[2, 1]),
    ]
    assert float(loss) == pytest.approx(sum(terms) / 3, rel=1e-6)
    expected = [
        [0.75 * (p[0, 0] - 1) + 0.25 * p[0, 0], 0.25 * (p[0, 1] - 1)],
        [p[1, 0], 0],
        [p[2, 0], 0.5 * (p[2, 1] - 1)],
    ]
    gradient = tape.gradient(loss, logit).numpy()
    np.testing.assert_allclose(gradient, np.array(expected) / 3, rtol=1e-5)
    assert gradient[1, 1] == 0


def test_in_a_mix_each_crop_has_the_weight_of_its_own_labels(tiny_config, monkeypatch):
    """Two crops in equal parts; the second was labelled by models, which count for a quarter."""
    values = tiny_config.model_dump()
    values["pseudo"]["weight"] = 0.25
    values["loss"]["unknown_negative_weight"] = 0.5
    classifier = one_layer(Config.model_validate(values), monkeypatch, [0.5, 0.5])
    logits = np.array([[0.4, -1.0], [2.0, 0.3]], np.float32)
    labels = labels_of(np.float32([[1, 0], [0, 0.8]]), np.float32([[1, 0], [0, 1]]), [0, 1])
    outputs = {"logits": tf.constant(logits), "partner_weight": tf.constant([0.5, 0.5])}
    loss = classifier.compute_loss(
        y={name: tf.constant(v) for name, v in labels.items()}, y_pred=outputs
    )
    p = 1 / (1 + np.exp(-logits.astype(float)))
    # The first crop's classes: present, and unknown, which is weakly absent. The second's:
    # unknown, which is nothing, and likely present.
    of_people = -np.log(p[:, 0]) - 0.5 * np.log(1 - p[:, 1])
    of_models = 0.25 * (-0.8 * np.log(p[:, 1]) - 0.2 * np.log(1 - p[:, 1]))
    assert float(loss) == pytest.approx((0.5 * of_people + 0.5 * of_models).mean(), rel=1e-5)


def test_labels_that_neither_crop_knows_move_nothing(tiny_config, monkeypatch):
    classifier = one_layer(tiny_config, monkeypatch, [0.25, 0.0, 0.5])
    classifier.compile(keras.optimizers.SGD(1.0), jit_compile=False)
    features = np.random.default_rng(0).normal(size=(3, 1, 2)).astype(np.float32)
    kernel = classifier.detector.get_layer("logits").kernel
    before = np.array(kernel)
    known = np.float32([[1, 0], [1, 0], [1, 0]])
    classifier.train_on_batch(features, labels_of(known, known))
    assert (np.array(kernel)[:, 0] != before[:, 0]).all()
    np.testing.assert_array_equal(np.array(kernel)[:, 1], before[:, 1])


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 4.0])
def test_weights_of_the_other_crop_follow_the_beta_distribution(tiny_config, alpha):
    values = partner_weights(mixing(tiny_config, alpha).augment)
    x = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    drawn = np.minimum(x, 1 - x)
    assert (values >= 0).all()
    assert (values <= 0.5).all()
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(values, quantile) == pytest.approx(
            np.quantile(drawn, quantile), abs=0.004
        )


def test_as_many_crops_are_mixed_as_the_recipe_says_and_not_the_same_ones(tiny_config):
    classifier = classifier_for(mixing(tiny_config, alpha=1.0, probability=0.3))
    draws = [classifier._draw_partner_weights(5000).numpy() for _ in range(2)]
    for weights in draws:
        assert (weights > 0).mean() == pytest.approx(0.3, abs=0.03)
        # x ~ Beta(1, 1) is uniform, so the smaller of x and 1 - x has a mean of 1/4.
        assert weights[weights > 0].mean() == pytest.approx(0.25, abs=0.02)
    assert (draws[0] != draws[1]).mean() > 0.3
