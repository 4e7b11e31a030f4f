"""Recordings and runs in, one row of scores for every recording out.

A recording of up to `ONE_PASS_S` is scored in one pass, a longer one as a stream
(`rfcx_tf.scoring.stream`), whatever its length in the same memory. Threads decode what is
next while the models work: decoding and resampling release Python's lock.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from rfcx_tf.audio.decode import (
    AudioError,
    AudioSource,
    header_duration_s,
    read_audio,
    read_audio_blocks,
)
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.threads import map_ahead
from rfcx_tf.events.output import ScoredBy, WindowsOfModel
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.open import open_any_run
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.calibration import read_calibration
from rfcx_tf.scoring.detector import RecordingModel, check_rule, load_recording_model
from rfcx_tf.scoring.ensemble import (
    check_classes,
    closest_set,
    combine_scores,
    combine_windows,
    member_names,
)
from rfcx_tf.scoring.journal import PartsFolder, RecordingResult, recording_key
from rfcx_tf.scoring.listener import ListenerModel
from rfcx_tf.scoring.stream import (
    DetectorStream,
    ListenerStream,
    StreamScores,
    WholeRecordingStream,
)

# A GPU scores a recording faster than one core decodes it.
_DECODING_THREADS = os.cpu_count() or 1
# Recorders and collections mostly give files of up to five minutes. A full-size network takes
# about a gigabyte for that.
ONE_PASS_S = 300.0
_GRID = ("window_s", "hop_s")


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
            rule: see `rfcx_tf.scoring.ensemble`.
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
        self._passes = {
            i: tf.function(
                m.window_passes, [tf.TensorSpec([1, None, m.config.frontend.bands], tf.float32)]
            )
            for i, m in enumerate(models)
            if isinstance(m, RecordingModel)
        }

    def scores(self, waveforms: dict[int, np.ndarray]) -> StreamScores:
        """Scores of one recording in one pass, given as waveforms [samples] by sample rate."""
        outputs = []
        for model, function in zip(self._models, self._functions, strict=True):
            found = function(waveforms[model.sample_rate_hz][None])
            windows = found.get("window_scores")
            outputs.append(
                StreamScores(found["scores"][0], None if windows is None else windows[0])
            )
        return self._combine(outputs)

    def stream(self, pieces: Iterator[dict[int, np.ndarray]]) -> StreamScores:
        """The same of a recording of any length, in pieces [samples] by sample rate."""
        streams = [self._open_stream(i) for i in range(len(self._models))]
        for piece in pieces:
            for model, stream in zip(self._models, streams, strict=True):
                stream.push(piece[model.sample_rate_hz])
        return self._combine([stream.finish() for stream in streams])

    def _open_stream(self, i: int) -> DetectorStream | ListenerStream | WholeRecordingStream:
        model = self._models[i]
        if isinstance(model, RecordingModel):
            return DetectorStream(model, self._passes[i])
        if isinstance(model, ListenerModel):
            return ListenerStream(model)
        return WholeRecordingStream(self._functions[i])

    def _combine(self, outputs: list[StreamScores]) -> StreamScores:
        windows = [o.window_scores for o in outputs]
        if self._rule == "window":
            lengths_s, hops_s = ([getattr(m, key) for m in self._models] for key in _GRID)
            combined = combine_windows(windows, lengths_s, hops_s, self._weights)
            return StreamScores(combined.max(axis=0), combined)
        scores = combine_scores([o.scores for o in outputs], self._weights)
        if any(w is None or w.shape != windows[0].shape for w in windows):
            return StreamScores(scores, None)
        return StreamScores(scores, combine_scores(windows, self._weights))


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
        UserError: if a folder is no run, has no finished fold, two runs differ in their
            classes or two of our own in their sample rate, or there are overrides but no run
            of our own.
    """
    runs = [open_any_run(path, overrides) for path in paths]
    check_classes(runs)
    own = [run for run in runs if isinstance(run, RunFolder)]
    if overrides and not own:
        raise UserError(
            f"A listener has nothing to set at prediction. Received: --set {overrides[0]}. "
            "Leave it out."
        )
    for run in own[1:]:
        first = own[0]
        one, other = (r.config.frontend.sample_rate_hz for r in (first, run))
        if one != other:
            raise UserError(
                f"Runs that are combined must have the same frontend.sample_rate_hz. {first.path} "
                f"has {one}, {run.path} has {other}. Predict with each by itself."
            )
    return [load_recording_model(r) if isinstance(r, RunFolder) else r.load() for r in runs]


def window_grid(
    models: Sequence[RecordingModel | ListenerModel], names: Sequence[str], rule: str = "mean"
) -> tuple[float, float]:
    """Length and distance in seconds of the windows of all models together.

    Args:
        models: of `open_runs`.
        names: of their runs.
        rule: how they are combined; only `window` can do with windows of several kinds.

    Raises:
        UserError: if two differ, so that their window scores cannot be averaged.
    """
    if rule == "window":
        first = models[closest_set([model.hop_s for model in models])]
        return first.window_s, first.hop_s
    first = models[0]
    for model, name in zip(models[1:], names[1:], strict=True):
        same = math.isclose(model.window_s, first.window_s)
        same &= math.isclose(model.hop_s, first.hop_s)
        # A listener's last window reaches beyond the recording, a detector's does not.
        same &= isinstance(model, ListenerModel) == isinstance(first, ListenerModel)
        if not same:
            found = "; ".join(
                f"{label}: {m.window_s:.6g} s, one every {m.hop_s:.6g} s"
                for label, m in ((names[0], first), (name, model))
            )
            raise UserError(
                "Events and window scores of several runs need the same windows in all of them. "
                f"Found {found}. Use --combine window, predict with each by itself, or without "
                "these."
            )
    return first.window_s, first.hop_s


def scored_by(
    models: Sequence[RecordingModel | ListenerModel],
    runs: Sequence[RunFolder | ListenerRun],
    *,
    with_windows: bool,
    rule: str = "mean",
) -> ScoredBy:
    """What tables of the models' scores need to know of them.

    Args:
        models: of `open_runs`.
        runs: their runs, in the same order.
        with_windows: whether events or window scores are wanted. Calibrated is then a single
            run with a calibration.yaml; boxes are those of the first run of our own.
        rule: how the models are combined.

    Raises:
        UserError: as `check_rule` and `window_grid`, or if the calibration is of other classes.
    """
    classes, rate_hz = models[0].classes, models[0].sample_rate_hz
    names = member_names([run.path for run in runs])
    check_rule(models, names, rule)
    if not with_windows:
        return ScoredBy(classes, rate_hz)
    calibration, calibration_from = None, ""
    own_calibration = runs[0].path / "calibration.yaml"
    if len(runs) == 1 and own_calibration.exists():
        calibration = read_calibration(own_calibration, [f"s{c.species_id}" for c in classes])
        calibration_from = str(own_calibration)
    info = next((run.info for run in runs if isinstance(run, RunFolder)), None)
    windows = WindowsOfModel(
        *window_grid(models, names, rule),
        info.mean_box_s if info else {},
        info.box_hz if info else {},
        calibration,
        calibration_from,
    )
    return ScoredBy(classes, rate_hz, windows)


def predict_recordings(
    models: Sequence[RecordingModel | ListenerModel],
    recordings: Mapping[str, AudioSource | Path],
    *,
    weights: Sequence[float] | None = None,
    rule: str = "mean",
    progress: bool = True,
    parts: PartsFolder | None = None,
    keep_windows: bool = False,
) -> Predictions:
    """Scores whole recordings of any length; goes on past files that cannot be read.

    Args:
        models: runs, or folds of runs; of one class list.
        recordings: audio by recording id.
        weights, rule: how the models' scores are combined, as for `RecordingScorer`.
        progress: whether to show a progress bar.
        parts: where results are kept as they come; what is there already is not done again.
            None: nowhere.
        keep_windows: whether window scores are kept there too.
    """
    scorer = RecordingScorer(models, weights, rule)
    return predict_with(
        scorer, recordings, progress=progress, parts=parts, keep_windows=keep_windows
    )


def predict_with(
    scorer: RecordingScorer,
    recordings: Mapping[str, AudioSource | Path],
    *,
    progress: bool = True,
    parts: PartsFolder | None = None,
    keep_windows: bool = False,
) -> Predictions:
    """`predict_recordings` with models that are traced already."""
    keys = {name: recording_key(name, source) for name, source in recordings.items()}
    rows = {}
    if parts:
        for name, key in keys.items():
            done = parts.read(name, key) if key else None
            if done:
                rows[name] = done.scores
    todo = {name: source for name, source in recordings.items() if name not in rows}
    failed = []
    with _Progress(recordings, list(rows), progress) as bar:
        for name, result in _score_all(scorer, todo, bar):
            if isinstance(result, AudioError):
                failed.append(str(result))
                continue
            rows[name] = result.scores
            if parts and keys[name]:
                parts.write(result if keep_windows else _without_windows(result), keys[name])
    in_order = {name: rows[name] for name in recordings if name in rows}
    return Predictions(scores_table(scorer.classes, in_order), failed)


def scores_table(classes: Sequence[SpeciesClass], rows: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A table of the scores [classes] of recordings, by recording id, in their order."""
    columns = [f"s{c.species_id}" for c in classes]
    values = np.stack(list(rows.values())) if rows else np.empty((0, len(columns)))
    table = pd.DataFrame(values, columns=columns)
    table.insert(0, "recording_id", pd.Series(list(rows), dtype=str))
    return table


def _score_all(
    scorer: RecordingScorer, recordings: Mapping[str, AudioSource | Path], bar: _Progress
) -> Iterator[tuple[str, RecordingResult | AudioError]]:
    """The result of every recording, in their order."""
    rates_hz = scorer.sample_rates_hz

    def decode(name: str) -> tuple[str, float, dict[int, np.ndarray] | AudioError | None]:
        """Seconds and waveforms by sample rate; no waveforms of a long recording."""
        source = recordings[name]
        try:
            duration_s = header_duration_s(source)
            if duration_s > ONE_PASS_S:
                return name, duration_s, None
            waveforms = {rate: read_audio(source, rate) for rate in rates_hz}
            return name, len(waveforms[rates_hz[0]]) / rates_hz[0], waveforms
        except AudioError as error:
            return name, 0.0, error

    for name, duration_s, waveforms in map_ahead(decode, recordings, _DECODING_THREADS):
        source = recordings[name]
        bar.begin(source, duration_s)
        heard_s = duration_s
        try:
            if isinstance(waveforms, AudioError):
                raise waveforms
            if waveforms is None:
                heard_s, found = _score_long(scorer, source, bar.hear)
            else:
                found = scorer.scores(waveforms)
        except AudioError as error:
            bar.end(0.0)
            yield name, error
            continue
        bar.end(heard_s)
        path = source.path if isinstance(source, AudioSource) else source
        yield name, RecordingResult(name, path, heard_s, found.scores, found.window_scores)


def _score_long(
    scorer: RecordingScorer, source: AudioSource | Path, report: Callable[[float], None]
) -> tuple[float, StreamScores]:
    """Length in seconds and scores of a long recording; `report` is told what was heard."""
    rates_hz = scorer.sample_rates_hz
    blocks = itertools.zip_longest(
        *(read_audio_blocks(source, rate) for rate in rates_hz), fillvalue=np.zeros(0, np.float32)
    )
    samples = 0

    def pieces() -> Iterator[dict[int, np.ndarray]]:
        nonlocal samples
        # One thread, so one after the other, and a little ahead of the models.
        for block in map_ahead(lambda _: next(blocks, None), itertools.count(), 1):
            if block is None:
                return
            yield dict(zip(rates_hz, block, strict=True))
            samples += len(block[0])
            report(samples / rates_hz[0])

    found = scorer.stream(pieces())
    return samples / rates_hz[0], found


def _without_windows(result: RecordingResult) -> RecordingResult:
    return dataclasses.replace(result, window_scores=None)


class _Progress:
    """A bar over the bytes of all recordings, since they may differ much in length."""

    def __init__(
        self, recordings: Mapping[str, AudioSource | Path], done: Sequence[str], shown: bool
    ):
        sizes = {name: _size(source) for name, source in recordings.items()}
        self._of, self._finished, self._heard_s = len(sizes), len(done), 0.0
        self._bar = tqdm(
            total=sum(sizes.values()),
            initial=sum(sizes[name] for name in done),
            desc="predict",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            disable=not shown,
        )
        self._say()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def begin(self, source: AudioSource | Path, duration_s: float) -> None:
        """A recording that is about so long comes next."""
        self._size, self._duration_s, self._counted = _size(source), duration_s, 0

    def hear(self, seconds: float) -> None:
        """So much of it is heard."""
        self._count(min(1.0, seconds / self._duration_s))
        self._say(seconds)

    def end(self, seconds: float) -> None:
        """All of it is, so many seconds; or it failed."""
        self._count(1.0)
        self._finished += 1
        self._heard_s += seconds
        self._say()

    def _count(self, part: float) -> None:
        counted = round(part * self._size)
        self._bar.update(counted - self._counted)
        self._counted = counted

    def _say(self, seconds: float = 0.0) -> None:
        elapsed_s = self._bar.format_dict["elapsed"]
        rate = (self._heard_s + seconds) / elapsed_s if elapsed_s else 0.0
        text = f"{self._finished}/{self._of} recordings, {rate:.0f} times real time"
        self._bar.set_postfix_str(text, refresh=False)


def _size(source: AudioSource | Path) -> int:
    """Encoded bytes of a recording; 1 where that cannot be seen."""
    if isinstance(source, AudioSource) and source.length is not None:
        return source.length
    path = source.path if isinstance(source, AudioSource) else source
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1
