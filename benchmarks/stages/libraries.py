"""Networks of keras-cv and keras-hub beside our ResNet34: shapes, shifts, time of a recording."""

from __future__ import annotations

import functools
import importlib.util
import math

import numpy as np

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.timing import Tasks, Timing, Worker, alternate, timed
from rfcx_tf.core.config import BackboneConfig, Config
from rfcx_tf.core.config.library_networks import LIBRARY_NETWORKS
from rfcx_tf.core.errors import UserError

_REFERENCE = "resnet34"
_LENGTHS_S = (10, 60)


def measure(options: Options) -> Report:
    """One pass over 60 s by every network of the libraries that are installed, float32, one core.

    All networks of a library and our ResNet34 take turns. Times are CPU time, which other work on
    the machine disturbs less: a short pass beside a long one meets other work than it does.
    """
    installed = [name for name in LIBRARY_NETWORKS if importlib.util.find_spec(name)]
    if not installed:
        raise UserError(
            "This stage measures networks of keras-cv and keras-hub. Neither is installed. "
            "Install one of them (docs/training.md)."
        )
    report = Report(
        f"Networks of libraries: {options.config.frontend.n_mels} mel bands, a recording of "
        f"{_LENGTHS_S[-1]} s in one pass, float32, CPU time of one core"
    )
    for library in installed:
        names = [f"{library}:{network}" for network in LIBRARY_NETWORKS[library]]
        with Worker(library_tasks, options.config, names, cores=1) as worker:
            sentences = {}
            for name in names:
                sentences[name] = worker.tasks[f"{name}: what"]().value
                print(f"{name}: {sentences[name]}", flush=True)
            turns = {name: worker.tasks[name] for name in (_REFERENCE, *names)}
            timings = alternate(turns, options.repeats)
        report.add_speed(timings, 1, "ms / recording", _REFERENCE, f"{_REFERENCE}, ours")
        for name, sentence in sentences.items():
            task = f"{name}: {sentence}"
            report.add_speed(timings, 1, "ms / recording", name, task, _REFERENCE)
    return report


def library_tasks(config: Config, names: list[str]) -> Tasks:
    """Tasks by network: one pass over a recording; `NAME: what` says what the network is."""
    import keras
    import tensorflow as tf

    from rfcx_tf.model.backbones import build_backbone, context_frames

    mels, frame_s = config.frontend.n_mels, config.frontend.frame_s
    window_frames = config.window_cells * 16
    random = np.random.default_rng(0)

    def build(name: str) -> keras.Model:
        return build_backbone(BackboneConfig(name=name), mels, 1, window_frames=window_frames)

    def traced(network: keras.Model):
        image = tf.TensorSpec([1, None, mels, 1], tf.float32)
        return tf.function(functools.partial(network, training=False), [image])

    def sound(frames: int) -> np.ndarray:
        return random.normal(size=(1, frames, mels, 1)).astype(np.float32)

    recording = sound(1 + math.floor(_LENGTHS_S[-1] / frame_s))
    reference = traced(build(_REFERENCE))

    @functools.cache
    def loaded(name: str):
        network = build(name)
        return network, traced(network)

    def what(name: str) -> str:
        network, run = loaded(name)
        parameters = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
        cells = [
            " x ".join(map(str, run(sound(1 + math.floor(s / frame_s))).shape[1:]))
            for s in _LENGTHS_S
        ]
        context = context_frames(network)
        border = -(-context // 16)
        image = sound(32 * border + 641)
        whole, later = run(image).numpy()[0], run(image[:, 16:]).numpy()[0]
        inner = slice(border, -border)
        difference = np.abs(later - whole[1:])[inner].max() / whole[inner].std()
        bands = mels / whole.shape[1]
        return (
            f"{parameters:,} parameters; stride 16 x {bands:g}; cells of {_LENGTHS_S[0]} s "
            f"{cells[0]}, of {_LENGTHS_S[1]} s {cells[1]}; shifted by 16 frames the same to "
            f"{difference:.0e} of their spread, {context * frame_s:.1f} s from the ends"
        )

    def one_pass(run) -> Timing:
        cpu_s = timed(lambda: np.asarray(run(recording))).cpu_seconds
        return Timing(cpu_s, cpu_s)

    tasks: Tasks = {_REFERENCE: lambda: one_pass(reference)}
    for name in names:
        tasks[name] = lambda name=name: one_pass(loaded(name)[1])
        tasks[f"{name}: what"] = lambda name=name: what(name)
    return tasks
