"""The full recipe on JAX: training step, prediction of whole recordings, front end -> rows.

It needs Keras, NumPy and JAX, not TensorFlow. `KERAS_BACKEND=jax` must be set before the import.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import keras
import numpy as np
import scipy.signal

from benchmarks.gpu_sizes import MEAN_BOX_S, Sizes
from benchmarks.gpu_timing import median_seconds
from benchmarks.stages.train import CLASSES, random_batch
from rfcx_tf.core.config import Config
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.model.detector import build_detector
from rfcx_tf.training.classifier import CropClassifier, compile_classifier


class TrainingStep:
    """One step of `CropClassifier` as a pure function of its variables, compiled by XLA.

    `fit` of Keras reads a loss after every step and walks through callbacks; this is the step
    alone. Variables are those that train, the others (statistics, seeds) and the optimiser's. They
    are donated: a step writes the new ones where the old ones were.

    Attributes:
        classifier: what is trained.
        run: (variables, spectrogram, labels) -> (variables, loss), jitted.
        score: (variables, spectrogram) -> the largest logit of the windows, jitted.
    """

    def __init__(self, config: Config, classes, mean_box_s, precision: str):
        """Builds the network with random weights.

        Args:
            config: the recipe.
            classes, mean_box_s: as `build_detector` takes them.
            precision: `float32` or `mixed_bfloat16`.
        """
        self._recipe = (config, classes, mean_box_s, precision)
        self.classifier = self._new(config.seed)
        self.run = jax.jit(self.step, donate_argnums=0)
        self.score = jax.jit(self._score)

    def _new(self, seed: int) -> CropClassifier:
        config, classes, mean_box_s, precision = self._recipe
        keras.mixed_precision.set_global_policy(precision)
        keras.utils.set_random_seed(seed)
        classifier = CropClassifier(
            build_detector(config, classes, mean_box_s, boxes=False), config
        )
        compile_classifier(classifier, config.training)
        classifier.build((None, config.crop_frames, config.frontend.bands))
        classifier.optimizer.build(classifier.trainable_variables)
        return classifier

    def variables(self, seed: int):
        """Values to begin training with; a step takes them away."""
        classifier = self._new(seed)
        groups = (
            classifier.trainable_variables,
            classifier.non_trainable_variables,
            classifier.optimizer.variables,
        )
        return tuple([jax.numpy.array(v.value) for v in group] for group in groups)

    def gradients(self, variables, spectrogram, labels):
        """((loss, other variables), gradients)."""
        trainable, other, _ = variables

        def loss_of(trainable, other):
            predicted, other = self.classifier.stateless_call(
                trainable, other, spectrogram, training=True
            )
            return self.loss(spectrogram, labels, predicted), other

        return jax.value_and_grad(loss_of, has_aux=True)(trainable, other)

    def loss(self, spectrogram, labels, predicted):
        """Of a batch, as the classifier has it."""
        return self.classifier.compute_loss(spectrogram, labels, predicted, training=True)

    def _score(self, variables, spectrogram):
        trainable, other, _ = variables
        return self.classifier.stateless_call(trainable, other, spectrogram, training=False)[0]

    def step(self, variables, spectrogram, labels):
        """Forward, backward, AdamW."""
        (loss, other), gradients = self.gradients(variables, spectrogram, labels)
        trainable, _, slots = variables
        trainable, slots = self.classifier.optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, other, slots), loss


def steps(config: Config, sizes: Sizes, variants: list[tuple[str, int]]) -> Iterator[dict]:
    """Training steps; `variants` are pairs of precision and batch.

    They are compiled side by side, which takes most of the time, and run one after the other.
    """
    prepared = []
    for precision, batch_size in variants:
        step = TrainingStep(config, CLASSES, MEAN_BOX_S, precision)
        batch = random_batch(config, batch_size)
        labels = {name: values for name, values in batch.items() if name != "spectrogram"}
        inputs = jax.device_put((batch["spectrogram"], labels))
        prepared.append((step, inputs, step.run.lower(step.variables(config.seed), *inputs)))
    with ThreadPoolExecutor() as pool:
        compiling = [pool.submit(_compiled, lowered) for *_, lowered in prepared]
        for variant, (step, inputs, _), future in zip(variants, prepared, compiling, strict=True):
            try:
                yield _step(sizes, variant, step, inputs, *future.result())
            except Exception as error:
                text = f"JAX, {variant[0]}, batch {variant[1]}: {error!r:.300}"
                yield {"part": "note", "text": text}


def _step(sizes: Sizes, variant, step: TrainingStep, inputs, run, compile_s: float) -> dict:
    variables = step.variables(0)

    def repeat(count: int) -> float:
        nonlocal variables
        for _ in range(count):
            variables, loss = run(variables, *inputs)
        return float(loss)

    precision, batch_size = variant
    seconds, loss = median_seconds(repeat, sizes.round_s)
    return {
        "part": "step",
        "with": "Keras on JAX",
        "precision": precision,
        "batch": batch_size,
        "value": batch_size / seconds,
        "unit": "examples / s",
        "memory_gib": _gib(run),
        "first_s": compile_s,
        "loss": loss,
        "parameters": sum(int(np.prod(v.shape)) for v in step.classifier.trainable_variables),
    }


def predictions(config: Config, sizes: Sizes, variants: list[tuple[str, int]]) -> Iterator[dict]:
    """Whole recordings in one pass, waveform to window scores.

    `variants` are pairs of precision and recordings at once.
    """
    samples = int(sizes.recording_s * config.frontend.sample_rate_hz)
    # The mel bands would be sums of TF32 numbers otherwise.
    front_end = FrontEnd(config.frontend, precision="float32")
    for precision, count in variants:
        keras.mixed_precision.set_global_policy(precision)
        keras.utils.set_random_seed(config.seed)
        detector = build_detector(config, CLASSES, MEAN_BOX_S, boxes=False)
        waveform = np.random.default_rng(0).normal(0, 0.1, (count, samples)).astype(np.float32)
        on_device = jax.device_put(waveform)
        weights = [
            [v.value for v in variables]
            for variables in (detector.trainable_variables, detector.non_trainable_variables)
        ]
        lowered = jax.jit(_scores(front_end, detector)).lower(weights, on_device)
        run, compile_s = _compiled(lowered)
        for where, sound in (("on the device", on_device), ("in the host's memory", waveform)):
            seconds, _ = median_seconds(_repeated(run, weights, sound), sizes.round_s)
            yield {
                "part": "prediction",
                "with": f"Keras on JAX, sound {where}",
                "precision": precision,
                "batch": count,
                "value": count * sizes.recording_s / seconds,
                "unit": "times real time",
                "recordings_per_s": count / seconds,
                "memory_gib": _gib(run),
                "first_s": compile_s,
            }


def _scores(front_end: FrontEnd, detector: keras.Model):
    """(weights, waveform [recordings, samples]) -> window scores and their maximum."""

    def scores(weights, waveform):
        with jax.default_matmul_precision("highest"):
            spectrogram = front_end(waveform)
        outputs, _ = detector.stateless_call(*weights, spectrogram, training=False)
        windows = keras.ops.sigmoid(outputs["logits"])
        return windows, keras.ops.max(windows, axis=1)

    return scores


def front_ends(config: Config, sizes: Sizes) -> Iterator[dict]:
    """The front end alone, by precision, and how far each is from float64."""
    jax.config.update("jax_enable_x64", True)
    rate, count = config.frontend.sample_rate_hz, sizes.recordings[-1]
    noise = np.random.default_rng(0).normal(0, 0.05, (count, int(sizes.recording_s * rate)))
    # Low-pass noise, 50 dB from the lowest to the highest band, and a whistle.
    sound = scipy.signal.lfilter([1], [1, -0.95], noise)
    sound += 0.2 * np.sin(np.arange(sound.shape[1]) * 2 * np.pi * 3000 / rate)
    waveform = jax.device_put(sound.astype(np.float32))
    exact = None
    for precision, products in (
        ("float64", "highest"),
        ("float32", "highest"),
        ("float32", "default"),
    ):
        front_end = FrontEnd(config.frontend, precision=precision)
        with jax.default_matmul_precision(products):
            run, compile_s = _compiled(jax.jit(front_end.call).lower(waveform))
        seconds, _ = median_seconds(_repeated(run, waveform), sizes.round_s)
        values = np.asarray(run(waveform))
        exact = values if exact is None else exact
        error = np.abs(values - exact) / np.abs(exact).mean()
        yield {
            "part": "front end",
            "with": f"JAX, precision of products: {products}",
            "precision": precision,
            "batch": count,
            "value": count * sizes.recording_s / seconds,
            "unit": "times real time",
            "memory_gib": _gib(run),
            "first_s": compile_s,
            "median_error": float(np.median(error)),
            "largest_error": float(error.max()),
        }


def _repeated(run, *inputs):
    def repeat(count: int) -> None:
        for _ in range(count):
            result = run(*inputs)
        jax.block_until_ready(result)

    return repeat


def _compiled(lowered):
    """A compiled program and the seconds that took."""
    began = time.perf_counter()
    return lowered.compile(), time.perf_counter() - began


def _gib(compiled) -> float | None:
    """Memory that a compiled program needs on the device, in GiB: XLA's own account."""
    try:
        sizes = compiled.memory_analysis()
        total = sizes.temp_size_in_bytes + sizes.argument_size_in_bytes
        total += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    except (AttributeError, NotImplementedError, TypeError):
        return None
    return total / 2**30
