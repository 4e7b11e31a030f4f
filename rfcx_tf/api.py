"""The way in from Python, for notebooks: load a model, score sound, get events, draw them.

    import rfcx_tf

    model = rfcx_tf.load("runs/rfcx")
    events = model.events("night.wav")
    rfcx_tf.draw("night.wav", events, begin_s=60, end_s=120)

`rfcx_tf.__all__` names what is public and stays.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rfcx_tf.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rfcx_tf.scoring.card import ModelCard
    from rfcx_tf.scoring.scorer import RecordingScores, Scorer


def load(*where: str | Path, model: str | None = None, channel: str | None = None) -> Model:
    """Loads what a run has learned, or an exported model.

    Args:
        where: a run folder, the folder of an exported SavedModel, a LiteRT file, or the address
            of a server (http://HOST:8501, grpc://HOST:8500); several for an ensemble of them.
        model: name of the model on a server.
        channel: of sound files of several channels, `mean`, `loudest` or a number from "0" on;
            None: that of the runs' recipe, and the mean for other models.

    Raises:
        UserError: if there is none, or runs are of different channels.

    Example:
        >>> model = rfcx_tf.load("runs/rfcx")
        >>> model.card.classes[0].name
    """
    from rfcx_tf.runs.open import channel_of, open_run
    from rfcx_tf.scoring.ensemble import EnsembleScorer
    from rfcx_tf.scoring.load import open_scorer

    if not where:
        raise UserError("load needs a run folder, an exported model or a server. Received: none.")
    scorers = [open_scorer(place, model) for place in where]
    if channel is None:
        channel = channel_of(open_run(p) for p in where if (Path(p) / "config.yaml").is_file())
    return Model(scorers[0] if len(scorers) == 1 else EnsembleScorer(scorers), channel)


class Model:
    """A model that scores sound.

    Attributes:
        scorer: what `rfcx_tf.scoring` knows it as.
        channel: that it listens to, of sound files of several.
    """

    def __init__(self, scorer: Scorer, channel: str = "mean"):
        self.scorer, self.channel = scorer, channel

    @property
    def card(self) -> ModelCard:
        """What the model is: classes, sample rate, windows, thresholds."""
        return self.scorer.card

    def windows(self, sound: str | Path | np.ndarray, sample_rate_hz: int | None = None):
        """Scores of all windows.

        Args:
            sound: a sound file of any length, or float samples [samples] in [-1, 1].
            sample_rate_hz: of samples.

        Returns:
            DataFrame start_s, end_s (seconds from the beginning of the sound) and a column
            `s<species_id>` for every class, a row a window.

        Raises:
            UserError: if the sound cannot be read.
        """
        import pandas as pd

        found, _ = self._score(sound, sample_rate_hz)
        table = pd.DataFrame(found.window_scores, columns=self.card.columns)
        start_s = np.arange(len(table)) * self.card.hop_s
        table.insert(0, "start_s", start_s)
        table.insert(1, "end_s", start_s + self.card.window_s)
        return table

    def scores(
        self, sound: str | Path | np.ndarray, sample_rate_hz: int | None = None
    ) -> pd.Series:
        """Scores of the whole sound by the name of the class, highest first.

        Args:
            sound, sample_rate_hz: as for `windows`.
        """
        import pandas as pd

        found, _ = self._score(sound, sample_rate_hz)
        names = [species.name for species in self.card.classes]
        return pd.Series(found.scores, index=names, name="score").sort_values(ascending=False)

    def events(
        self,
        sound: str | Path | np.ndarray,
        sample_rate_hz: int | None = None,
        *,
        threshold: float | Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """What was heard when.

        Args:
            sound, sample_rate_hz: as for `windows`.
            threshold: from which a window starts an event, one for all classes or one each; of
                probabilities if the model is calibrated, else of scores. None: the model's own.

        Returns:
            DataFrame with the columns of `rfcx_tf.events.table.EVENT_COLUMNS`.
        """
        from rfcx_tf.audio.start_time import recording_start
        from rfcx_tf.events.find import find_events
        from rfcx_tf.events.table import EventRecording

        found, duration_s = self._score(sound, sample_rate_hz)
        is_file = not isinstance(sound, np.ndarray)
        name = Path(sound).stem if is_file else "sound"
        start = recording_start(name, Path(sound), {}) if is_file else None
        recording = EventRecording(name, str(sound) if is_file else "", duration_s, start)
        thresholds = self.card.thresholds if threshold is None else threshold
        return find_events(
            recording,
            found.window_scores,
            self.card,
            thresholds,
            window_boxes=found.window_boxes,
        )

    def _score(
        self, sound: str | Path | np.ndarray, sample_rate_hz: int | None
    ) -> tuple[RecordingScores, float]:
        """Scores, and the length of the sound in seconds."""
        from rfcx_tf.audio.decode import AudioSource, decode_blocks, resample
        from rfcx_tf.scoring.scorer import score_blocks

        rates_hz, samples, remarks = self.scorer.sample_rates_hz, 0, []
        if isinstance(sound, np.ndarray):
            if sample_rate_hz is None or sound.ndim != 1:
                raise UserError(
                    "Samples must be [samples] with their sample_rate_hz. "
                    f"Received: shape={sound.shape}, sample_rate_hz={sample_rate_hz}."
                )
            blocks = [{rate_hz: resample(sound, sample_rate_hz, rate_hz) for rate_hz in rates_hz}]
        else:
            source = AudioSource(Path(sound), channel=self.channel)
            blocks = decode_blocks(source, rates_hz, 60.0, remarks)

        def counted():
            nonlocal samples
            for block in blocks:
                samples += len(block[rates_hz[0]])
                yield block

        found = score_blocks(self.scorer, counted())
        for remark in remarks:
            warnings.warn(remark.text, stacklevel=3)
        return found, samples / rates_hz[0]


def draw(
    sound: str | Path,
    events: pd.DataFrame | None = None,
    *,
    begin_s: float = 0.0,
    end_s: float | None = None,
) -> Figure:
    """Draws the spectrogram of a stretch of a sound file, and the boxes of events in it.

    Args:
        sound: the file.
        events: of `Model.events`; None: no boxes.
        begin_s, end_s: the stretch, in seconds; the default ends after a minute.

    Returns:
        A matplotlib figure, which a notebook shows.

    Raises:
        UserError: if the file cannot be read, or ends before the stretch begins.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from rfcx_tf.audio.excerpt import read_excerpt

    excerpt = read_excerpt(sound, begin_s, begin_s + 60 if end_s is None else end_s)
    rate_hz = excerpt.sample_rate_hz
    figure = Figure(figsize=(12, 4), layout="constrained")
    axis = figure.add_subplot(xlabel="seconds", ylabel="Hz")
    extent = (excerpt.begin_s, excerpt.end_s)
    # Some 25 ms resolve both the beat of a call and its pitch. Silence has no logarithm.
    length = 2 ** round(np.log2(0.025 * rate_hz))
    samples = excerpt.samples + np.float32(1e-7) * np.sin(np.arange(len(excerpt.samples)))
    axis.specgram(
        samples, NFFT=length, Fs=rate_hz, noverlap=length // 2, xextent=extent, cmap="magma"
    )
    for event in () if events is None else events.itertuples():
        if event.end_s < extent[0] or event.start_s > extent[1]:
            continue
        low_hz, high_hz = np.nan_to_num(event.low_hz), np.nan_to_num(event.high_hz, nan=rate_hz / 2)
        corner, width = (event.start_s, low_hz), event.end_s - event.start_s
        axis.add_patch(Rectangle(corner, width, high_hz - low_hz, fill=False, edgecolor="#56B4E9"))
        # Above the box, since the call is in it.
        axis.text(
            *(event.start_s, high_hz, event.species),
            **{"color": "white", "fontsize": 8, "va": "bottom", "parse_math": False},
        )
    axis.set(xlim=extent)
    return figure
