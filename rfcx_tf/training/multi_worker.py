"""One training over several machines, with TensorFlow's MultiWorkerMirroredStrategy.

Every machine runs the same command with its own TF_CONFIG. Worker 0, or the task `chief`, is the
chief. It alone has the run folder, validates, saves and predicts. The others take their share of
every batch; with which weights a fold begins, and whether and how it goes on after an epoch, the
chief tells them, so that they need nothing but the recipe and the shards.

Keras 3's own `fit` and `predict` do not run under this strategy (keras-team/keras issue 20585),
so `MultiWorkerClassifier` has its own around the same training step.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.documents import parse_json
from rfcx_tf.core.errors import UserError, WorkStopped
from rfcx_tf.training.classifier import CropClassifier

_EXAMPLE = '{"cluster": {"worker": ["a:9000", "b:9000"]}, "task": {"type": "worker", "index": 0}}'


class WorkerLost(WorkStopped):
    """Another worker does not answer any more; finished epochs are kept."""

    def __init__(self, error: tf.errors.OpError):
        lines = [line for line in error.message.splitlines() if "aborted" in line.lower()]
        reason = " ".join((lines or error.message.splitlines())[0].split())[:300].rstrip(".")
        super().__init__(
            f"All workers must stay until the end. One was lost: {reason}. Finished epochs are "
            "kept; start all workers again to go on."
        )


class Worker(NamedTuple):
    """Which of how many workers this process is; 0 is the chief."""

    number: int
    count: int

    @property
    def is_chief(self) -> bool:
        return self.number == 0


def read_worker() -> Worker:
    """Reads TF_CONFIG; without it there is one worker.

    Raises:
        UserError: if it does not name a chief or worker among others.
    """
    text = os.environ.get("TF_CONFIG")
    if text is None:
        return Worker(0, 1)
    try:
        values = parse_json(text)
        cluster, task = values["cluster"], values["task"]
        counts = {kind: len(addresses) for kind, addresses in cluster.items()}
        kind, index = str(task["type"]), int(task["index"])
    except (ValueError, TypeError, KeyError, AttributeError):
        counts, kind, index = {}, "", 0
    if not set(counts) <= {"chief", "worker"} or not 0 <= index < counts.get(kind, 0):
        raise UserError(
            f"TF_CONFIG must name all workers, and which of them this is, as in {_EXAMPLE}. "
            f"Received: {text}."
        )
    chiefs = counts.get("chief", 0)
    number = index if kind == "chief" else chiefs + index
    return Worker(number, chiefs + counts.get("worker", 0))


class MultiWorkerClassifier(CropClassifier):
    """A `CropClassifier` that several workers train together, and that one of them uses alone."""

    def __init__(self, detector: keras.Model, config: Config):
        """Takes the detector, made in the strategy's scope, and the recipe."""
        super().__init__(detector, config)
        strategy = self.distribute_strategy
        self._replica_batch_size = config.training.batch_size // strategy.num_replicas_in_sync

    def fit(
        self,
        dataset: tf.data.Dataset,
        *,
        initial_epoch: int,
        epochs: int,
        steps_per_epoch: int,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
        shuffle: bool = False,
    ) -> None:
        """Trains as Keras's `fit`; all workers call it alike, each with its own callbacks.

        Args:
            dataset: endless, this worker's share of every batch.
            initial_epoch, epochs, steps_per_epoch, callbacks, verbose: as in Keras.
            shuffle: must be off.

        Raises:
            WorkerLost: if another worker ends before.
        """
        strategy = self.distribute_strategy
        own = dataset.rebatch(self._replica_batch_size, drop_remainder=True)
        batches = iter(strategy.distribute_datasets_from_function(lambda context: own))

        @tf.function
        def step(batch):
            losses = strategy.run(self.train_step, args=(batch,))
            return strategy.reduce("MEAN", losses["loss"], axis=None)

        callback_list = keras.callbacks.CallbackList(
            list(callbacks),
            add_progbar=verbose != 0,
            model=self,
            verbose=verbose,
            epochs=epochs,
            steps=steps_per_epoch,
        )
        self.stop_training = False
        callback_list.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            self.reset_metrics()
            callback_list.on_epoch_begin(epoch)
            logs = {}
            for number in range(steps_per_epoch):
                callback_list.on_train_batch_begin(number)
                with _losing_workers():
                    # The mean over the epoch so far, as Keras has it.
                    logs = {"loss": float(step(next(batches)))}
                callback_list.on_train_batch_end(number, logs)
            callback_list.on_epoch_end(epoch, logs)
            # A learning rate that was cut is among the variables.
            (stop,) = broadcast_numbers(strategy, self.stop_training)
            broadcast_variables(self)
            if stop:
                break
        callback_list.on_train_end(logs)

    def predict(self, dataset: tf.data.Dataset, verbose: str | int = 0) -> dict[str, np.ndarray]:
        """Outputs of a dataset of spectrograms; no other worker takes part."""
        call = tf.function(lambda batch: self(batch, training=False))
        batches = [call(batch) for batch in dataset]
        return {name: np.concatenate([b[name].numpy() for b in batches]) for name in batches[0]}


def broadcast_variables(classifier: CropClassifier) -> None:
    """Sets weights and optimiser to the chief's. All workers call it; alone it does nothing."""
    if read_worker().count == 1:
        return
    variables = [*classifier.weights, *classifier.optimizer.variables]
    with _losing_workers():
        values = _sum_of_chiefs(classifier.distribute_strategy)(
            [np.asarray(variable) for variable in variables]
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def broadcast_numbers(strategy: tf.distribute.Strategy, *values: int) -> list[int]:
    """The chief's whole numbers on every worker. All call it, with equally many.

    Raises:
        WorkerLost: if another worker is gone.
    """
    if read_worker().count == 1:
        return [int(value) for value in values]
    with _losing_workers():
        # One more, so that a barrier, which has no values, is an operation of its own.
        numbers = _sum_of_chiefs(strategy)([np.int32(value) for value in (*values, 0)])
    return [int(number) for number in numbers[:-1]]


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """A barrier: no worker goes on before all have come here."""
    broadcast_numbers(strategy)


@functools.lru_cache(maxsize=1)
def _sum_of_chiefs(strategy: tf.distribute.Strategy):
    """A function from tensors to the chief's: a sum to which the others add zero."""

    @tf.function
    def total(values):
        def own(values):
            is_first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
            return [tf.where(is_first, value, tf.zeros_like(value)) for value in values]

        return [strategy.reduce("SUM", v, axis=None) for v in strategy.run(own, args=(values,))]

    return total


@contextmanager
def _losing_workers() -> Iterator[None]:
    """Gives the errors of operations in which all workers take part one meaning."""
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.InternalError,
        tf.errors.DeadlineExceededError,
    ) as error:
        raise WorkerLost(error) from error
