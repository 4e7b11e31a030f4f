"""One recording through a model piece by piece: what one pass gives, in the memory of a block.

A stream takes the samples of a recording in any pieces (`push`) and ends with its scores
(`finish`). Of our own detectors they are those of one pass:

- The front end carries its state from piece to piece, and its frames are the same to the bit.
- The network runs over blocks of frames that begin at whole strides and overlap by all that a
  cell can see on either side (`RecordingModel.context_cells`) and by one window. Windows that
  see an end of the block which is no end of the recording are left to the neighbouring block.
- A running mean keeps as many windows as it reaches over.

So window scores differ from those of one pass by no more than float32 rounds, with EfficientNets
too, whose squeezes reach much further than convolutions: there a block is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rfcx_tf.scoring.detector import RecordingModel, running_mean
from rfcx_tf.scoring.listener import ListenerModel

# A minute: large enough that the overlap of a residual network (5 to 10 s) costs little, small
# enough that a day takes the memory that a recording of some minutes takes in one pass.
BLOCK_S = 60.0


@dataclass(frozen=True)
class StreamScores:
    """What a model made of a recording.

    Attributes:
        scores: float [classes].
        window_scores: float32 [windows, classes]; None from a model without a grid of windows.
    """

    scores: np.ndarray
    window_scores: np.ndarray | None


class DetectorStream:
    """One recording through a `RecordingModel`.

    Args:
        model: the model.
        window_passes: its method of that name, as a function that is traced for any length.
    """

    def __init__(self, model: RecordingModel, window_passes: Callable):
        self._model = model
        self._window_passes = window_passes
        self._front_end = model.front_end_stream()
        self._stride = model.config.model.backbone.stride[0]
        self._context = model.context_cells
        block_s = max(BLOCK_S, 2 * self._context * model.hop_s)
        self._block_windows = max(1, round(block_s / model.hop_s))
        self._samples = 0
        # Frames from the beginning of the next block on, and the cell that they begin with.
        self._frames = np.zeros((0, model.config.frontend.bands), np.float32)
        self._first_cell = 0
        self._next_window = 0
        self._maxima: list[list[_RunningMaximum]] | None = None
        self._window_scores: list[np.ndarray] = []

    def push(self, piece: np.ndarray) -> None:
        """Takes the next samples, float32 [samples]."""
        self._samples += len(piece)
        self._add(self._front_end.push(piece))

    def finish(self) -> StreamScores:
        """Ends the recording, which has at least one sample."""
        # As in one pass, silence follows a recording that is shorter than a window.
        missing = max(0, self._model.shortest_samples - self._samples)
        self._add(self._front_end.push(np.zeros(missing, np.float32)))
        self._add(self._front_end.finish())
        self._score_block(self._frames, None)
        by_detector = [
            np.mean([maximum.highest for maximum in maxima], axis=0) for maxima in self._maxima
        ]
        return StreamScores(
            np.mean(by_detector, axis=0, dtype=np.float32), np.concatenate(self._window_scores)
        )

    def _add(self, frames: np.ndarray) -> None:
        self._frames = np.concatenate([self._frames, frames])
        while True:
            # The last window of the block ends here, and what its last cell sees, here.
            cells = self._next_window + self._block_windows + self._model.config.window_cells - 1
            block_frames = (cells + self._context - self._first_cell) * self._stride
            if len(self._frames) <= block_frames:
                return
            self._score_block(self._frames[:block_frames], self._block_windows)
            self._next_window += self._block_windows
            first_cell = max(0, self._next_window - self._context)
            self._frames = self._frames[(first_cell - self._first_cell) * self._stride :]
            self._first_cell = first_cell

    def _score_block(self, frames: np.ndarray, windows: int | None) -> None:
        """Scores the next so many windows, or all that are left of the recording."""
        begin = self._next_window - self._first_cell
        end = None if windows is None else begin + windows
        passes = [
            [own[:, begin:end] for own in shifts] for shifts in self._window_passes(frames[None])
        ]
        self._window_scores.append(np.mean([shifts[0][0] for shifts in passes], axis=0))
        if self._maxima is None:
            cells = self._model.running_mean_cells
            self._maxima = [[_RunningMaximum(cells) for _ in shifts] for shifts in passes]
        for maxima, shifts in zip(self._maxima, passes, strict=True):
            for maximum, own in zip(maxima, shifts, strict=True):
                maximum.push(own, last=windows is None)


class _RunningMaximum:
    """The highest running mean of window scores that come block by block.

    Attributes:
        highest: [classes], so far.
    """

    def __init__(self, cells: int):
        self._cells = cells
        self._before, self._after = max(0, cells - 1) // 2, cells // 2 if cells > 1 else 0
        # Windows that means to come reach over; of the first ones the mean is taken already.
        self._waiting: np.ndarray | None = None
        self._done = 0
        self.highest: np.ndarray | float = -np.inf

    def push(self, window_scores, last: bool) -> None:
        """Takes [1, windows, classes], which may be none in the last block."""
        values = np.asarray(window_scores)
        if self._waiting is not None:
            values = np.concatenate([self._waiting, values], axis=1)
        end = values.shape[1] if last else max(self._done, values.shape[1] - self._after)
        if end > self._done:
            means = np.asarray(running_mean(values, self._cells))[0, self._done : end]
            self.highest = np.maximum(self.highest, means.max(axis=0))
        kept_from = max(0, end - self._before)
        self._waiting, self._done = values[:, kept_from:], end - kept_from


class ListenerStream:
    """One recording through a `ListenerModel`, which hears every window by itself."""

    def __init__(self, model: ListenerModel):
        self._model = model
        self._waiting = np.zeros(0, np.float32)
        self._samples = 0
        self._fold_scores: list[np.ndarray] = []

    def push(self, piece: np.ndarray) -> None:
        """Takes the next samples, float32 [samples]."""
        self._samples += len(piece)
        self._waiting = np.concatenate([self._waiting, piece])
        if len(self._waiting) >= BLOCK_S * self._model.sample_rate_hz:
            config = self._model.config
            beyond_first = len(self._waiting) - config.window_samples
            self._score(max(0, 1 + beyond_first // config.hop_samples))

    def finish(self) -> StreamScores:
        """Ends the recording; the last window ends with it or beyond, as in one pass."""
        config = self._model.config
        beyond_first = max(0, self._samples - config.window_samples)
        windows = 1 + -(-beyond_first // config.hop_samples)
        self._score(windows - sum(scores.shape[1] for scores in self._fold_scores))
        fold_scores = np.concatenate(self._fold_scores, axis=1)
        start_s = np.arange(windows) * config.hop_s
        outputs = self._model.combine_folds(start_s, fold_scores)
        return StreamScores(outputs["scores"][0], outputs["window_scores"][0])

    def _score(self, windows: int) -> None:
        starts = np.arange(windows) * self._model.config.hop_samples
        self._fold_scores.append(self._model.score_windows(self._waiting, starts))
        self._waiting = self._waiting[windows * self._model.config.hop_samples :]


class WholeRecordingStream:
    """One recording through a model that can only take it whole."""

    def __init__(self, score_waveform: Callable):
        self._score_waveform = score_waveform
        self._pieces: list[np.ndarray] = []

    def push(self, piece: np.ndarray) -> None:
        """Takes the next samples, float32 [samples]."""
        self._pieces.append(piece)

    def finish(self) -> StreamScores:
        """Ends the recording."""
        outputs = self._score_waveform(np.concatenate(self._pieces)[None])
        return StreamScores(np.asarray(outputs["scores"][0]), None)
