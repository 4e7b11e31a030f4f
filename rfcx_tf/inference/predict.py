"""Recordings and runs in, one row of scores for every recording out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from rfcx_tf.any_run import open_any_run
from rfcx_tf.data.ahead import map_ahead
from rfcx_tf.data.audio import AudioError, AudioSource, read_audio
from rfcx_tf.errors import InputError
from rfcx_tf.inference.ensemble import check_classes, combine_scores
from rfcx_tf.inference.recording_model import RecordingModel, load_recording_model
from rfcx_tf.listener.model import ListenerModel
from rfcx_tf.run_folder import RunFolder

# A GPU scores a recording faster than one core decodes it.
_DECODING_THREADS = os.cpu_count() or 1


@dataclass(frozen=True)
class Predictions:
    """Scores of a batch of recordings.

    Attributes:
        scores: DataFrame recording_id, s<species_id>..., a row a recording, in [0, 1].
        failed: one line for every recording that could not be read.
    """

    scores: pd.DataFrame
    failed: list[str]


class RecordingScorer:
    """Runs models over recordings, those of our own traced once for all lengths.

    Attributes:
        classes: the species, in the order of the scores.
        sample_rates_hz: of the waveforms that the models take, each once.
    """

    def __init__(
        self,
        models: Sequence[RecordingModel | ListenerModel],
        weights: Sequence[float] | None = None,
        rule: str = "mean",
    ):
        """Takes models of one class list, which are combined.

        Args:
            models: the members of an ensemble, or a single model.
            weights: of the models, with sum 1; None for equal ones.
            rule: `mean` or `rank`, see `rfcx_tf.inference.ensemble`.
        """
        self._models = models
        self._weights = [1 / len(models)] * len(models) if weights is None else weights
        self._rule = rule
        self.classes = models[0].classes
        self.sample_rates_hz = sorted({model.sample_rate_hz for model in models})
        signature = [tf.TensorSpec([1, None], tf.float32)]
        self._functions = [
            m.score_waveform
            if isinstance(m, ListenerModel)
            else tf.function(m.score_waveform, signature)
            for m in models
        ]

    def scores(self, waveforms: dict[int, np.ndarray]) -> np.ndarray:
        """Scores [classes] of one recording, given as waveforms [samples] by sample rate."""
        outputs = [
            function(waveforms[model.sample_rate_hz][None])["scores"][0]
            for model, function in zip(self._models, self._functions, strict=True)
        ]
        return combine_scores(outputs, self._weights, self._rule).numpy()


def open_runs(
    paths: list[Path], overrides: Sequence[str] = ()
) -> list[RecordingModel | ListenerModel]:
    """The models of runs that can be combined.

    The front ends of our own may differ, except in the sample rate: all are given the same
    samples. Every listener has its own.

    Args:
        paths: run folders, our own or listeners'.
        overrides: of the `prediction` section of our own, such as
            `prediction.running_mean_s=3`.

    Raises:
        InputError: if a folder is no run, has no finished fold, two runs differ in their
            classes or two of our own in their sample rate, or there are overrides but no run
            of our own.
    """
    runs = [open_any_run(path, overrides) for path in paths]
    check_classes(runs)
    own = [run for run in runs if isinstance(run, RunFolder)]
    if overrides and not own:
        raise InputError(
            f"A listener has nothing to set at prediction. Received: --set {overrides[0]}. "
            "Leave it out."
        )
    for run in own[1:]:
        first = own[0]
        one, other = (r.config.frontend.sample_rate_hz for r in (first, run))
        if one != other:
            raise InputError(
                f"Runs that are combined must have the same frontend.sample_rate_hz. {first.path} "
                f"has {one}, {run.path} has {other}. Predict with each by itself."
            )
    return [load_recording_model(r) if isinstance(r, RunFolder) else r.load() for r in runs]


def predict_recordings(
    models: Sequence[RecordingModel | ListenerModel],
    recordings: dict[str, AudioSource | Path],
    *,
    weights: Sequence[float] | None = None,
    rule: str = "mean",
    progress: bool = True,
) -> Predictions:
    """Scores whole recordings, each in one pass; goes on past files that cannot be read.

    Args:
        models: runs, or folds of runs; of one class list.
        recordings: audio by recording id.
        weights, rule: how the models' scores are combined, as for `RecordingScorer`.
        progress: whether to show a progress bar.
    """
    scorer = RecordingScorer(models, weights, rule)
    columns = [f"s{c.species_id}" for c in scorer.classes]
    rows, names, failed = [], [], []

    def decode(name: str) -> tuple[str, dict[int, np.ndarray] | AudioError]:
        try:
            rates_hz = scorer.sample_rates_hz
            return name, {rate: read_audio(recordings[name], rate) for rate in rates_hz}
        except AudioError as error:
            return name, error

    decoded = map_ahead(decode, recordings, _DECODING_THREADS)
    bar = tqdm(
        decoded, total=len(recordings), unit="recording", disable=not progress, desc="predict"
    )
    for name, waveforms in bar:
        if isinstance(waveforms, AudioError):
            failed.append(str(waveforms))
            continue
        names.append(name)
        rows.append(scorer.scores(waveforms))
    values = np.stack(rows) if rows else np.empty((0, len(columns)))
    table = pd.DataFrame(values, columns=columns)
    table.insert(0, "recording_id", pd.Series(names, dtype=str))
    return Predictions(table, failed)
