"""One training step of the same network here and in PyTorch; bfloat16; two devices."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.stages.torch_resnet import torch_tasks, why_not_torch
from benchmarks.timing import Tasks, Timing, Worker, alternate
from rfcx_tf.core.config import Config, HeadConfig
from rfcx_tf.core.species import SpeciesClass

CLASSES = [SpeciesClass(number, f"species {number}") for number in range(24)]


def measure(options: Options) -> Report:
    """Examples a second of training steps on several cores, against PyTorch."""
    config = plain_head(options.config)
    size, steps, cores = options.batch_size, options.steps, options.cores
    batch = random_batch(config, size)
    variants = {
        "Keras, float32": (keras_tasks, "float32", 1),
        "Keras, mixed bfloat16": (keras_tasks, "mixed_bfloat16", 1),
        "Keras, float32, 2 logical devices": (keras_tasks, "float32", 2),
    }
    reason = why_not_torch(config)
    if not reason:
        variants["PyTorch, float32"] = (torch_tasks, False, cores)
        variants["PyTorch, bfloat16"] = (torch_tasks, True, cores)
    with ExitStack() as stack:
        tasks = {}
        for name, (set_up, *variant) in variants.items():
            worker = Worker(set_up, config, batch, steps, *variant, cores=cores)
            tasks[name] = stack.enter_context(worker).tasks["steps"]
        timings = alternate(tasks, options.repeats)
    backbone = config.model.backbone
    report = Report(
        f"Training step: {backbone.name} of width {backbone.width} and stride "
        f"{backbone.stride[0]}, batch {size}, crops of {config.crop_frames} x "
        f"{config.frontend.bands}, {cores} cores"
    )
    for name, against, what in (
        ("PyTorch, float32", "", ""),
        ("Keras, float32", "PyTorch, float32", ""),
        ("PyTorch, bfloat16", "PyTorch, float32", ""),
        ("Keras, mixed bfloat16", "PyTorch, bfloat16", ""),
        ("Keras, mixed bfloat16", "Keras, float32", "the same"),
        ("Keras, float32, 2 logical devices", "Keras, float32", ""),
    ):
        report.add_speed(timings, size * steps, "examples / s", name, what, against)
    counts = [f"{name} {timing[0].value:,}" for name, timing in timings.items()]
    report.notes += [reason] if reason else []
    report.notes += [
        f"Trained parameters: {'; '.join(counts)}.",
        "Two logical devices share the cores and the batch, so one device's speed is the best "
        "that they can have.",
    ]
    return report


def plain_head(config: Config) -> Config:
    """The recipe with the head of the comparison: means, dropout, one dense layer."""
    head = HeadConfig(dropout=config.model.head.dropout)
    model = config.model.model_copy(update={"head": head, "frequency_coordinate": False})
    augment = config.augment.model_copy(update={"feature_mixup": 0.0})
    return config.model_copy(update={"model": model, "augment": augment})


def random_batch(config: Config, batch_size: int) -> dict[str, np.ndarray]:
    """spectrogram [batch, frames, bands] and the labels of a training batch."""
    random = np.random.default_rng(config.seed)
    shape = (batch_size, config.crop_frames, config.frontend.bands)
    labels = (batch_size, len(CLASSES))
    cells = math.ceil(config.crop_frames / config.model.backbone.stride[0])
    return {
        "spectrogram": random.gamma(2.0, 0.3, shape).astype(np.float32),
        "target": random.integers(0, 2, labels).astype(np.float32),
        "known": np.ones(labels, np.float32),
        "partly": np.zeros(labels, np.float32),
        "pseudo": np.zeros(batch_size, np.float32),
        "boxes": np.tile(np.float32([0, 10, 60, 20, 40]), (batch_size, 2, 1)),
        "inside": np.ones((batch_size, cells, len(CLASSES)), np.float32),
    }


def keras_tasks(
    config: Config, batch: dict[str, np.ndarray], steps: int, precision: str, devices: int
) -> Tasks:
    """The task `steps`: training steps on one batch, as `fit` runs them, after one that starts up.

    Its value is the number of trained parameters.
    """
    import keras
    import tensorflow as tf

    from rfcx_tf.model.detector import build_detector
    from rfcx_tf.shards.dataset import LABELS
    from rfcx_tf.training.classifier import CropClassifier, compile_classifier
    from rfcx_tf.training.devices import open_strategy

    training = config.training.model_copy(
        update={"logical_cpus": devices, "accumulation_steps": 1, "xla": False}
    )
    config = config.model_copy(update={"training": training})
    tf.config.set_visible_devices([], "GPU")
    strategy = open_strategy(training)
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        detector = build_detector(config, CLASSES, {}, synchronized=devices > 1)
        classifier = CropClassifier(detector, config)
        compile_classifier(classifier, training, devices)
        classifier.build((None, config.crop_frames, config.frontend.bands))
    labels = {name: batch[name] for name in LABELS}
    dataset = tf.data.Dataset.from_tensors((batch["spectrogram"], labels)).repeat()
    parameters = sum(int(np.prod(v.shape)) for v in classifier.trainable_variables)

    def run() -> Timing:
        ends = []

        def note_time(batch: int, logs: dict[str, Any]) -> None:
            # The step is over when its loss can be read.
            float(logs["loss"])
            ends.append((time.perf_counter(), time.process_time()))

        callback = keras.callbacks.LambdaCallback(on_train_batch_end=note_time)
        classifier.fit(
            dataset, steps_per_epoch=1 + steps, callbacks=[callback], shuffle=False, verbose=0
        )
        (began, cpu_began), (ended, cpu_ended) = ends[0], ends[-1]
        return Timing(ended - began, cpu_ended - cpu_began, parameters)

    return {"steps": run}
