"""Every backbone at full size: measured stride, parameters, output shapes, time of a crop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Timing, alternate
from benchmarks.options import Options
from benchmarks.report import Report, format_number
from benchmarks.train import keras_tasks, random_batch
from benchmarks.worker import Worker
from rfcx_tf.core.config import BackboneConfig, Config

NAMES = ("resnet18", "resnet34", "resnet50", "efficientnet_b0", "efficientnet_b2")
_REFERENCE = "resnet34"
_LENGTHS_S = (10, 60)
_PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Long enough that one cell more or less does not show in the stride.
_STRIDE_FRAMES = (1600, 3200)


def with_backbone(config: Config, name: str) -> Config:
    """The recipe with another backbone, at its published size."""
    model = config.model.model_copy(update={"backbone": BackboneConfig(name=name)})
    return config.model_copy(update={"model": model})


def measure_backbones(options: Options) -> Report:
    """Shapes of every backbone, and the time of a forward pass and a training step per crop.

    One network after the other has a process, since all of them at once would not fit the
    memory of a small machine; every round goes through precisions and tasks in turn.
    """
    config, size, steps = options.config, options.batch_size, options.steps
    report = Report(
        f"Backbones: {config.frontend.n_mels} mel bands, crops of {config.crop_frames} frames, "
        f"batch {size}, {options.cores} cores"
    )
    names = [name for name in NAMES if name not in options.skip]
    timings: dict[str, list[Timing]] = {}
    shapes = {}
    for name in names:
        print(name)
        own = with_backbone(config, name)
        tasks = {}
        workers = []
        try:
            for short, precision in _PRECISIONS.items():
                worker = Worker(backbone_tasks, own, precision, size, steps, cores=options.cores)
                workers.append(worker)
                tasks[f"{name}_forward_{short}"] = worker.tasks["forward"]
                tasks[f"{name}_step_{short}"] = worker.tasks["steps"]
            shapes[name] = workers[0].tasks["shapes"]().value
            timings |= alternate(tasks, options.repeats)
        finally:
            for worker in workers:
                worker.close()
    for name in names:
        found = shapes[name]
        report.add_figure(f"{name}_parameters", f"{name}: parameters", found["parameters"], "")
        for axis, stride in zip(("frames", "bands"), found["stride"], strict=True):
            report.add_figure(f"{name}_stride_{axis}", f"{name}: stride, {axis}", stride, axis)
        for what, per in (("forward", size), ("step", size * steps)):
            for short in _PRECISIONS:
                task = f"{name}_{what}_{short}"
                report.add(
                    f"{task}_ms",
                    f"{name}: {'training step' if what == 'step' else 'forward'}, {short}",
                    timings[task],
                    "ms / crop",
                    lambda seconds, per=per: 1e3 * seconds / per,
                    against=timings.get(f"{_REFERENCE}_{what}_{short}"),
                    name=f"{_REFERENCE}, {short}",
                )
    report.summary = _one_line_each(names, shapes, report)
    report.notes.append(
        f"Networks were measured one after the other, so ratios to {_REFERENCE} do not cancel "
        "what slowed the machine in between."
    )
    return report


def _one_line_each(names: list[str], shapes: dict[str, dict], report: Report) -> str:
    """The same figures as a Markdown table with a line for every network."""
    medians = {row.key: format_number(row.value.median) for row in report.rows}
    times = [f"{what}_{short}" for what in ("forward", "step") for short in _PRECISIONS]
    heads = ["network", "parameters", "stride", *(f"cells of {s} s" for s in _LENGTHS_S)]
    heads += [f"{time.replace('_', ', ')}, ms / crop" for time in times]
    lines = [heads, ["---"] * len(heads)]
    for name in names:
        found = shapes[name]
        cells = [" x ".join(map(str, shape[1:])) for shape in found["outputs"]]
        stride = " x ".join(f"{axis:g}" for axis in found["stride"])
        own = [medians[f"{name}_{time}_ms"] for time in times]
        lines.append([name, f"{found['parameters']:,}", stride, *cells, *own])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def backbone_tasks(
    config: Config, precision: str, batch_size: int, steps: int
) -> dict[str, Callable[[], Any]]:
    """Tasks: forward (the network without a head, one batch), steps (of training), shapes.

    `shapes` returns parameters (of the backbone), stride (frames, bands) as measured from
    inputs and outputs, and outputs for 10 s and 60 s.
    """
    import keras
    import tensorflow as tf

    from rfcx_tf.model.backbones import build_backbone

    batch = random_batch(config, batch_size)
    training = keras_tasks(config, batch, precision, False, 1, steps)
    mels = config.frontend.n_mels
    # As the detector's for the recipe's windows.
    window_frames = config.window_cells * config.model.backbone.stride[0]
    backbone = build_backbone(config.model.backbone, mels, 1, window_frames=window_frames)
    forward = tf.function(
        lambda image: backbone(image, training=False),
        input_signature=[tf.TensorSpec([None, None, mels, 1], tf.float32)],
    )
    image = batch["spectrogram"][..., None]

    def output_of(frames: int) -> tuple[int, ...]:
        return tuple(forward(np.zeros([1, frames, mels, 1], np.float32)).shape)

    def shapes() -> dict[str, Any]:
        short, long = (output_of(frames) for frames in _STRIDE_FRAMES)
        frames = _STRIDE_FRAMES[1] - _STRIDE_FRAMES[0]
        seconds = (1 + math.floor(s / config.frontend.frame_s) for s in _LENGTHS_S)
        return {
            "parameters": sum(int(np.prod(v.shape)) for v in backbone.trainable_variables),
            "stride": (frames / (long[1] - short[1]), mels / long[2]),
            "outputs": [output_of(length) for length in seconds],
        }

    keras.mixed_precision.set_global_policy("float32")
    return {
        "forward": lambda: np.asarray(tf.reduce_sum(tf.cast(forward(image), tf.float32))),
        "steps": training["steps"],
        "shapes": shapes,
    }
