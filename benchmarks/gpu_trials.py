"""Trials of training on a GPU: the fieldmix recipe on JAX, many times over -> a row a training.

Crops are drawn by NumPy (`benchmarks.gpu_crops`) and cut, stretched, equalised, mixed and masked on
the device, out of the spectrograms of all recordings. Held-out recordings are scored in one pass.

- Accumulation: batches of 128 in one part, and in 8 parts of 16, whose gradients are averaged.
- Partly heard: a call of which less than half lies in a crop. Its class weighs nothing, as in the
  recipes; or it counts as weakly absent, as all unknown ones beside a call do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks.gpu_crops import EQUALIZER_POINTS, Sound, draw_examples, draw_training, read_sound
from benchmarks.gpu_jax import TrainingStep
from benchmarks.gpu_pack import RECIPE
from benchmarks.gpu_sizes import Sizes
from rfcx_tf.core.config import Config, load_config
from rfcx_tf.evaluation.metrics import chance_lwlrap, lwlrap


@dataclass(frozen=True)
class Trial:
    """One training."""

    name: str
    batch_size: int
    parts: int
    partly_counts: bool
    fold: int
    seed: int


def list_trials() -> list[Trial]:
    """In the order of importance; both sides of a comparison follow each other."""
    accumulation = [
        Trial(name, 128, parts, True, 0, seed)
        for seed in (0, 1)
        for name, parts in (("batch of 128", 1), ("8 batches of 16", 8))
    ]
    partly = [
        Trial(name, 64, 1, counts, fold, seed)
        for fold, seed in ((0, 0), (1, 0), (0, 1), (1, 1))
        for name, counts in (
            ("partly: weakly absent", True),
            ("partly: unknown", False),
        )
    ]
    return accumulation + partly


class TrialStep(TrainingStep):
    """A training step in one or more parts, and all steps of an epoch in one program."""

    def __init__(self, config: Config, sound: Sound, precision: str, parts: int):
        super().__init__(config, sound.classes, sound.mean_box_s, precision)
        self._config, self._parts = config, parts
        self._sound = (sound.low, sound.step)
        self.epoch = jax.jit(self._epoch, donate_argnums=0)

    def step(self, variables, spectrogram, labels):
        """The whole batch at once, or in parts with one update at the end."""
        if self._parts == 1:
            return super().step(variables, spectrogram, labels)
        trainable, other, slots = variables
        split = jax.tree.map(
            lambda values: values.reshape(self._parts, -1, *values.shape[1:]),
            (spectrogram, labels),
        )

        def add(carried, part):
            other, total, sums = carried
            (loss, other), gradients = self.gradients((trainable, other, slots), *part)
            return (other, total + loss, jax.tree.map(jnp.add, sums, gradients)), None

        zeros = jax.tree.map(jnp.zeros_like, trainable)
        (other, loss, sums), _ = jax.lax.scan(add, (other, 0.0, zeros), split)
        means = [value / self._parts for value in sums]
        trainable, slots = self.classifier.optimizer.stateless_apply(slots, means, trainable)
        return (trainable, other, slots), loss / self._parts

    def _epoch(self, variables, sound, examples):
        """All steps of an epoch: `examples` are arrays [steps, batch, ...]."""

        def one(variables, batch):
            spectrogram = crops(sound, *self._sound, batch, self._config)
            labels = {name: batch[name] for name in ("target", "known", "partly")}
            labels["pseudo"] = jnp.zeros(len(spectrogram), jnp.float32)
            return self.step(variables, spectrogram, labels)

        return jax.lax.scan(one, variables, examples)


def crops(sound, low: float, step: float, batch: dict, config: Config):
    """The crops of a batch as the network sees them: float32 [batch, frames, bands].

    Args:
        sound: uint8 [all frames, bands], `Sound.spectrograms`.
        low, step: of its values.
        batch: what `draw_examples` returns, of this batch.
        config: the recipe; log-mel in one channel.
    """
    frames, mels = config.crop_frames, config.frontend.n_mels
    number = jnp.arange(frames)
    number = jnp.where(batch["flip"][..., None], frames - 1 - number, number)
    place = batch["part"][..., None] + batch["rate"][..., None] * number
    below = jnp.floor(place)
    part = (place - below)[..., None]
    below = batch["begin"][..., None] + below.astype(jnp.int32)
    last = batch["last"][..., None]
    earlier, later = (
        low + step * sound[jnp.minimum(index, last)].astype(jnp.float32)
        for index in (below, below + 1)
    )
    image = (1.0 - part) * earlier + part * later  # [batch, 2, frames, mels]

    position = np.linspace(0.0, EQUALIZER_POINTS - 1.0, mels)[:, None]
    nearness = np.maximum(0.0, 1.0 - np.abs(position - np.arange(EQUALIZER_POINTS)))
    image += (batch["gains"] @ nearness.T.astype(np.float32))[:, :, None]
    band = jnp.clip(jnp.arange(mels) - batch["shift"][..., None], 0, mels - 1)
    image = jnp.take_along_axis(image, band[:, :, None], axis=3)

    begin, end, later = (batch["paste"][..., n, None] for n in range(3))
    source = jnp.arange(frames) - later
    from_box = (source >= begin) & (source < end) & (later != 0)
    copied = jnp.take_along_axis(image, jnp.clip(source, 0, frames - 1)[..., None], axis=2)
    image = jnp.where(from_box[..., None], jnp.maximum(image, copied), image)

    # Power of the front end's magnitudes adds.
    own, other = 2.0 * image[:, 0], 2.0 * image[:, 1]
    weight = batch["weight"][:, None, None]
    shares = [jnp.log(jnp.maximum(share, 1e-12)) for share in (weight, 1.0 - weight)]
    mixed = jnp.logaddexp(own + shares[0], other + shares[1]) / 2.0
    image = jnp.where(weight < 1.0, mixed, image[:, 0])

    bands = jnp.arange(mels)
    spared = (bands >= batch["spared"][:, :1]) & (bands <= batch["spared"][:, 1:])
    for n in range(config.augment.frequency_masks):
        first, width = batch["masks"][:, n, :1], batch["masks"][:, n, 1:]
        stripe = (bands >= first) & (bands < first + width) & ~spared
        mean = image.mean((1, 2), keepdims=True)
        image = jnp.where(stripe[:, None], mean, image)
    return image


def run_trials(pack: Path, sizes: Sizes) -> Iterator[dict]:
    """Trains and scores all trials, one after the other; yields a row of each.

    Draws are made ahead by other processes, and the programs are compiled side by side.
    """
    sound, recipe = read_sound(pack / "sound.npz"), load_config(RECIPE, sizes.trial_overrides)
    trials = list_trials()
    configs = {trial: _config_of(recipe, trial, sizes) for trial in trials}
    # Those who draw have no use for the GPU, which importing Keras would give them.
    jax.devices()
    os.environ["JAX_PLATFORMS"] = "cpu"
    # A forked copy of a process with threads may hang.
    with (
        ProcessPoolExecutor(sizes.processes, get_context("spawn")) as drawers,
        ThreadPoolExecutor() as compilers,
    ):
        drawn = {
            trial: drawers.submit(
                draw_training, pack / "sound.npz", configs[trial], trial.fold, trial.seed
            )
            for trial in trials
        }
        on_device = jax.device_put(sound.spectrograms)
        steps = {}
        for trial in trials:
            kind = (trial.batch_size, trial.parts)
            if kind not in steps:
                step = TrialStep(configs[trial], sound, sizes.precision, trial.parts)
                example = draw_examples(sound, configs[trial], trial.fold, trial.seed, 1)
                shapes = _shapes(example, configs[trial])
                lowered = step.epoch.lower(step.variables(0), on_device, shapes)
                steps[kind] = step, compilers.submit(lowered.compile)
        for trial in trials:
            step, compiling = steps[trial.batch_size, trial.parts]
            # The networks are the same: one program scores them all.
            scorer, _ = next(iter(steps.values()))
            programs = step, compiling.result(), scorer
            yield _train(trial, configs[trial], programs, drawn, sound, on_device)


def _config_of(recipe: Config, trial: Trial, sizes: Sizes) -> Config:
    training = recipe.training.model_copy(
        update={
            "batch_size": trial.batch_size,
            "steps_per_epoch": sizes.epoch_examples // trial.batch_size,
        }
    )
    return recipe.model_copy(update={"training": training, "seed": trial.seed})


def _shapes(examples: dict, config: Config) -> dict:
    """Of an epoch's arrays."""
    steps = (config.training.steps_per_epoch, config.training.batch_size)
    return {
        name: jax.ShapeDtypeStruct((*steps, *values.shape[1:]), values.dtype)
        for name, values in examples.items()
    }


def _train(trial, config, programs, drawn, sound, on_device) -> dict:
    step, epoch, scorer = programs
    examples = drawn[trial].result()
    partly_an_example = float(examples["partly"].sum(1).mean())
    examples["partly"] *= not trial.partly_counts
    variables = step.variables(trial.seed)
    began, losses = time.perf_counter(), []
    shapes = _shapes(examples, config)
    training = config.training
    for number in range(training.epochs):
        size = training.steps_per_epoch * training.batch_size
        part = {
            name: examples[name][number * size : (number + 1) * size].reshape(shape.shape)
            for name, shape in shapes.items()
        }
        variables, losses = epoch(variables, on_device, part)
    losses = np.asarray(losses)
    train_s = time.perf_counter() - began
    held_out = np.flatnonzero(sound.folds == trial.fold)
    scores = _scores(scorer, variables, sound, held_out)
    truth = sound.truth[held_out]
    return {
        "part": "trial",
        "with": trial.name,
        "precision": keras.mixed_precision.dtype_policy().name,
        "batch": trial.batch_size,
        "value": float(lwlrap(truth, scores)),
        "unit": "LWLRAP",
        "first_s": train_s,
        "fold": trial.fold,
        "seed": trial.seed,
        "chance": float(chance_lwlrap(truth)),
        "last_epochs_loss": float(losses.mean()),
        "examples": len(examples["weight"]),
        "steps": training.epochs * training.steps_per_epoch,
        "partly_an_example": partly_an_example,
    }


def _scores(scorer: TrialStep, variables, sound: Sound, recordings: np.ndarray) -> np.ndarray:
    """Highest logit of a recording's windows, a recording at a time: [recordings, classes]."""
    scores = []
    for number in recordings:
        first, count = sound.first_frame[number], sound.frames[number]
        values = sound.low + sound.step * sound.spectrograms[first : first + count]
        scores.append(scorer.score(variables, values[None].astype(np.float32)))
    return np.concatenate([np.asarray(values) for values in scores])
