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

from rfcx_tf.data.ahead import map_ahead
from rfcx_tf.data.audio import AudioError, AudioSource, read_audio
from rfcx_tf.errors import InputError
from rfcx_tf.inference.ensemble import check_classes, combine_scores
from rfcx_tf.inference.recording_model import RecordingModel, load_recording_model
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
    """Runs recording models over waveforms, traced once for all lengths."""

    def __init__(
        self,
        models: list[RecordingModel],
        weights: Sequence[float] | None = None,
        rule: str = "mean",
    ):
        """Takes models of one class list and sample rate, which are combined.

        Args:
            models: the members of an ensemble, or a single model.
            weights: of the models, with sum 1; None for equal ones.
            rule: `mean` or `rank`, see `rfcx_tf.inference.ensemble`.
        """
        self._models = models
        self._weights = [1 / len(models)] * len(models) if weights is None else weights
        self._rule = rule
        self.classes = models[0].classes
        self.sample_rate_hz = models[0].config.frontend.sample_rate_hz
        signature = [tf.TensorSpec([1, None], tf.float32)]
        self._functions = [tf.function(m.score_waveform, signature) for m in models]

    def scores(self, waveform: np.ndarray) -> np.ndarray:
        """Scores [classes] of one waveform [samples]."""
        outputs = [function(waveform[None])["scores"][0] for function in self._functions]
        return combine_scores(outputs, self._weights, self._rule).numpy()


def open_runs(paths: list[Path], overrides: Sequence[str] = ()) -> list[RecordingModel]:
    """The recording models of runs that can be combined.

    Their front ends may differ, except in the sample rate: all are given the same samples.

    Args:
        paths: run folders.
        overrides: of their `prediction` section, such as `prediction.running_mean_s=3`.

    Raises:
        InputError: if a folder is no run, has no finished fold, or two runs differ in their
            classes or sample rate.
    """
    runs = [RunFolder.open(path, overrides) for path in paths]
    check_classes(runs)
    first = runs[0]
    for run in runs[1:]:
        one, other = (r.config.frontend.sample_rate_hz for r in (first, run))
        if one != other:
            raise InputError(
                f"Runs that are combined must have the same frontend.sample_rate_hz. {first.path} "
                f"has {one}, {run.path} has {other}. Predict with each by itself."
            )
    return [load_recording_model(run) for run in runs]


def predict_recordings(
    models: list[RecordingModel],
    recordings: dict[str, AudioSource | Path],
    *,
    weights: Sequence[float] | None = None,
    rule: str = "mean",
    progress: bool = True,
) -> Predictions:
    """Scores whole recordings, each in one pass; goes on past files that cannot be read.

    Args:
        models: runs, or folds of runs; of one class list and sample rate.
        recordings: audio by recording id.
        weights, rule: how the models' scores are combined, as for `RecordingScorer`.
        progress: whether to show a progress bar.
    """
    scorer = RecordingScorer(models, weights, rule)
    columns = [f"s{c.species_id}" for c in scorer.classes]
    rows, names, failed = [], [], []

    def decode(name: str) -> tuple[str, np.ndarray | AudioError]:
        try:
            return name, read_audio(recordings[name], scorer.sample_rate_hz)
        except AudioError as error:
            return name, error

    waveforms = map_ahead(decode, recordings, _DECODING_THREADS)
    bar = tqdm(
        waveforms, total=len(recordings), unit="recording", disable=not progress, desc="predict"
    )
    for name, waveform in bar:
        if isinstance(waveform, AudioError):
            failed.append(str(waveform))
            continue
        names.append(name)
        rows.append(scorer.scores(waveform))
    values = np.stack(rows) if rows else np.empty((0, len(columns)))
    table = pd.DataFrame(values, columns=columns)
    table.insert(0, "recording_id", pd.Series(names, dtype=str))
    return Predictions(table, failed)
