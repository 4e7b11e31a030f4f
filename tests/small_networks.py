"""Networks of tests: sound for them, statistics as if trained, a few steps of training."""

import keras
import numpy as np


def sound(*shape) -> np.ndarray:
    """Normal noise, float32."""
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def randomize(model) -> None:
    """Statistics and scales as if trained.

    With those of a new network, residual blocks are the identity and features of deep ones vanish.
    """
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(random.normal(0.0, 0.3, weight.shape))


def settle(model, image) -> None:
    """The image's own statistics become the moving ones, so that no feature is drowned."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(image, training=True)


def losses_on_five_examples(classifier, steps: int) -> list[float]:
    """Losses of training steps on one odd batch [5, 71, 32] of odd length with three classes."""
    # Compiling the graph takes longer than all steps.
    classifier.run_eagerly = True
    random = np.random.default_rng(0)
    spectrograms = random.gamma(1.0, 1.0, (5, 71, 32)).astype(np.float32)
    target = random.integers(0, 2, (5, 3)).astype(np.float32)
    labels = {
        "target": target,
        "known": np.ones_like(target),
        "partly": np.zeros_like(target),
        "pseudo": np.zeros(len(target), np.float32),
        "boxes": np.float32([[[1, 9, 30, 5, 20], [-1, 0, 0, 0, 0]]] * 5),
        "inside": np.ones((5, 5, 3), np.float32),
    }
    losses = []
    for _ in range(steps):
        losses.append(float(classifier.train_on_batch(spectrograms, labels)))
        classifier.reset_metrics()
    return losses
