"""Every backbone at full size: measured stride, parameters, output shapes, time of a crop."""

from __future__ import annotations

import math
from contextlib import ExitStack

import numpy as np

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.stages.train import keras_tasks, random_batch
from benchmarks.timing import Tasks, Timing, Worker, alternate
from rfcx_tf.core.config import BackboneConfig, Config

NAMES = ("resnet18", "resnet34", "resnet50", "efficientnet_b0", "efficientnet_b2")
_REFERENCE = "resnet34"
_LENGTHS_S = (10, 60)
_PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Long enough that one cell more or less does not show in the stride.
_STRIDE_FRAMES = (1600, 3200)


def measure(options: Options) -> Report:
    """Shapes of every backbone, and the time of a forward pass and a training step per crop.

    The networks take turns one at a time, since all of them do not fit the memory of a small
    machine; within a network, precisions and tasks take turns.
    """
    config, size = options.config, options.batch_size
    steps, cores = options.steps, options.cores
    report = Report(
        f"Backbones: {config.frontend.n_mels} mel bands, crops of {config.crop_frames} frames, "
        f"batch {size}, {cores} cores"
    )
    timings: dict[str, list[Timing]] = {}
    for name in NAMES:
        print(name, flush=True)
        model = config.model.model_copy(update={"backbone": BackboneConfig(name=name)})
        own = config.model_copy(update={"model": model})
        tasks = {}
        with ExitStack() as stack:
            for short, precision in _PRECISIONS.items():
                worker = Worker(backbone_tasks, own, precision, size, steps, cores=cores)
                stack.enter_context(worker)
                report.notes += worker.tasks.pop("shapes")().value if short == "float32" else []
                for task in ("forward", "training step"):
                    tasks[f"{name}: {task}, {short}"] = worker.tasks[task]
            timings |= alternate(tasks, options.repeats)
    for task in timings:
        crops = size * steps if "step" in task else size
        against = f"{_REFERENCE}:{task.partition(':')[2]}"
        report.add_speed(timings, crops, "ms / crop", task, against=against)
    report.notes.append(
        f"Networks were measured one after the other, so ratios to {_REFERENCE} do not cancel "
        "what slowed the machine in between."
    )
    return report


def backbone_tasks(config: Config, precision: str, batch_size: int, steps: int) -> Tasks:
    """Tasks: forward (one batch, the network without a head), training step (`steps` of them),
    shapes.

    `shapes` returns a sentence about parameters (of the backbone), strides as measured from
    inputs and outputs, and cells of recordings.
    """
    import keras
    import tensorflow as tf

    from rfcx_tf.model.backbones import build_backbone

    batch = random_batch(config, batch_size)
    training = keras_tasks(config, batch, steps, precision, 1)
    mels = config.frontend.n_mels
    # As the detector builds it for the recipe's windows.
    window_frames = config.window_cells * config.model.backbone.stride[0]
    backbone = build_backbone(config.model.backbone, mels, 1, window_frames=window_frames)
    forward = tf.function(
        lambda image: backbone(image, training=False),
        input_signature=[tf.TensorSpec([None, None, mels, 1], tf.float32)],
    )
    image = batch["spectrogram"][..., None]

    def cells(frames: int) -> list[int]:
        return list(forward(np.zeros([1, frames, mels, 1], np.float32)).shape[1:])

    def shapes() -> list[str]:
        short, long = _STRIDE_FRAMES
        stride = (long - short) / (cells(long)[0] - cells(short)[0])
        parameters = sum(int(np.prod(v.shape)) for v in backbone.trainable_variables)
        frame_s = config.frontend.frame_s
        of_recordings = "; ".join(
            f"cells of {s} s: {' x '.join(map(str, cells(1 + math.floor(s / frame_s))))}"
            for s in _LENGTHS_S
        )
        return [
            f"{config.model.backbone.name}: {parameters:,} parameters; stride {stride:g} x "
            f"{mels / cells(long)[1]:g}; {of_recordings}."
        ]

    keras.mixed_precision.set_global_policy("float32")
    return {
        "forward": lambda: np.asarray(tf.reduce_sum(tf.cast(forward(image), tf.float32))),
        "training step": training["steps"],
        "shapes": shapes,
    }
