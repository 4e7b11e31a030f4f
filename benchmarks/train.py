"""One training step of the same network here and in PyTorch; XLA, bfloat16, two devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.measure import Timing, alternate
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.torch_resnet import torch_is_there, torch_tasks
from benchmarks.worker import Worker
from rfcx_tf.core.config import BackboneConfig, Config, HeadConfig
from rfcx_tf.core.species import SpeciesClass

CLASSES = [SpeciesClass(number, f"species {number}") for number in range(24)]


def plain_head(config: Config) -> Config:
    """The recipe with the head that the comparison has: means, dropout, one dense layer."""
    head = HeadConfig(dropout=config.model.head.dropout)
    model = config.model.model_copy(update={"head": head, "frequency_coordinate": False})
    augment = config.augment.model_copy(update={"feature_mixup": 0.0})
    return config.model_copy(update={"model": model, "augment": augment})


def random_batch(config: Config, batch_size: int) -> dict[str, np.ndarray]:
    """spectrogram [batch, frames, bands]; target, known [batch, classes]; pseudo [batch]."""
    random = np.random.default_rng(config.seed)
    shape = (batch_size, config.crop_frames, config.frontend.bands)
    labels = (batch_size, len(CLASSES))
    return {
        "spectrogram": random.gamma(2.0, 0.3, shape).astype(np.float32),
        "target": random.integers(0, 2, labels).astype(np.float32),
        "known": np.ones(labels, np.float32),
        "pseudo": np.zeros(batch_size, np.float32),
    }


def measure_train(options: Options) -> Report:
    """Examples per second of training steps, on several cores, against PyTorch."""
    config = plain_head(options.config)
    size, steps, cores = options.batch_size, options.steps, options.cores
    batch = random_batch(config, size)
    keras_variants = {
        "float32": ("float32", False, 1),
        "bfloat16": ("mixed_bfloat16", False, 1),
        "xla": ("float32", True, 1),
        "xla_bfloat16": ("mixed_bfloat16", True, 1),
        "devices": ("float32", False, 2),
    }
    notes = []
    with ExitStack() as stack:
        tasks: dict[str, Callable[[], Timing]] = {}
        for name, variant in keras_variants.items():
            if name not in options.skip:
                arguments = (config, batch, *variant, steps)
                worker = stack.enter_context(Worker(keras_tasks, *arguments, cores=cores))
                tasks[name] = worker.tasks["steps"]
        reason = _why_no_torch(config)
        if reason:
            notes.append(reason)
        else:
            for name, bfloat16 in (("torch_float32", False), ("torch_bfloat16", True)):
                if name not in options.skip:
                    arguments = (config, batch, bfloat16, steps, cores)
                    worker = stack.enter_context(Worker(torch_tasks, *arguments, cores=cores))
                    tasks[name] = worker.tasks["steps"]
        timings = alternate(tasks, options.repeats)
    backbone = config.model.backbone
    report = Report(
        f"Training step: {backbone.name} of width {backbone.width} and stride "
        f"{backbone.stride[0]}, batch {size}, crops of {config.crop_frames} x "
        f"{config.frontend.bands}, {cores} cores",
        notes=notes,
    )
    for name, what, against, named in (
        ("torch_float32", "PyTorch, float32", None, ""),
        ("float32", "Keras, float32", "torch_float32", "PyTorch, float32"),
        ("torch_bfloat16", "PyTorch, bfloat16", "torch_float32", "PyTorch, float32"),
        ("bfloat16", "Keras, mixed bfloat16", "torch_bfloat16", "PyTorch, bfloat16"),
        ("bfloat16", "the same", "float32", "Keras, float32"),
        ("xla", "Keras, float32, XLA", "float32", "Keras, float32"),
        ("xla_bfloat16", "Keras, mixed bfloat16, XLA", "bfloat16", "Keras, bfloat16"),
        ("devices", "Keras, float32, 2 logical devices", "float32", "one device"),
    ):
        if name not in timings:
            continue
        other = timings.get(against)
        key = f"{name}_examples_per_s" + ("_again" if what == "the same" else "")
        report.add(
            key,
            what,
            timings[name],
            "examples / s",
            lambda seconds: size * steps / seconds,
            against=other,
            name=named,
        )
    parameters = {name: timing[0].value for name, timing in timings.items()}
    report.notes.append(
        f"Trained parameters: {', '.join(f'{k} {v}' for k, v in parameters.items())}."
    )
    report.notes.append(
        "Two logical devices share the same cores and the same batch: one device's speed is the "
        "best that they can have."
    )
    return report


def _why_no_torch(config: Config) -> str:
    """Why PyTorch is left out; empty where it is measured."""
    if not torch_is_there():
        return "PyTorch is not installed and was not measured."
    backbone = config.model.backbone
    same = BackboneConfig(name=backbone.name, width=backbone.width, weights=backbone.weights)
    if backbone != same or backbone.name not in ("resnet10", "resnet18", "resnet34"):
        return f"PyTorch's network is a ResNet 10, 18 or 34 of stride 16, not {backbone.name}."
    return ""


def keras_tasks(
    config: Config,
    batch: dict[str, np.ndarray],
    precision: str,
    xla: bool,
    devices: int,
    steps: int,
) -> dict[str, Callable[[], Any]]:
    """The task `steps`: as `fit` runs them, on one batch; its value is the number of parameters."""
    training = config.training.model_copy(
        update={"xla": xla, "logical_cpus": devices, "accumulation_steps": 1}
    )
    config = config.model_copy(update={"training": training})
    import keras
    import tensorflow as tf

    from rfcx_tf.model.detector import build_detector
    from rfcx_tf.training.classifier import CropClassifier, compile_classifier
    from rfcx_tf.training.devices import open_strategy

    tf.config.set_visible_devices([], "GPU")
    strategy = open_strategy(training)
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        detector = build_detector(config, CLASSES, {}, synchronized=devices > 1)
        classifier = CropClassifier(detector, config)
        compile_classifier(classifier, training, devices)
        classifier.build((None, config.crop_frames, config.frontend.bands))
    labels = {name: batch[name] for name in ("target", "known", "pseudo")}
    one = tf.data.Dataset.from_tensors((batch["spectrogram"], labels))
    dataset = one.repeat()

    def run() -> Timing:
        clock = StepClock()
        classifier.fit(
            dataset,
            steps_per_epoch=1 + steps,
            callbacks=[clock.callback()],
            shuffle=False,
            verbose=0,
        )
        return clock.timing(sum(int(np.prod(v.shape)) for v in classifier.trainable_variables))

    return {"steps": run}


class StepClock:
    """Times the steps of a `fit` after the first, with which it starts up."""

    def __init__(self):
        self._marks: list[tuple[float, float]] = []

    def callback(self):
        """A Keras callback that reads both clocks after every step."""
        import keras

        def mark(batch, logs) -> None:
            # The step is over when its loss can be read.
            float(logs["loss"])
            self._marks.append((time.perf_counter(), time.process_time()))

        return keras.callbacks.LambdaCallback(on_train_batch_end=mark)

    def timing(self, value: Any) -> Timing:
        """From the end of the first step to the end of the last."""
        (began, cpu_began), (ended, cpu_ended) = self._marks[0], self._marks[-1]
        return Timing(ended - began, cpu_ended - cpu_began, value)
