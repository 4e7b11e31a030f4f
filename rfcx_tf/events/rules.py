"""What makes an event, as people ask for it: thresholds by species, and rules of time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.csv_tables import from_spreadsheet, read_csv, read_number
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.species import SpeciesClass, species_name_column
from rfcx_tf.events.find import find_events
from rfcx_tf.events.table import EventRecording, empty_events
from rfcx_tf.events.window_table import RecordingWindows
from rfcx_tf.scoring.calibration import read_calibration
from rfcx_tf.scoring.card import UNCALIBRATED_THRESHOLD, ModelCard


@dataclass(frozen=True)
class EventRules:
    """Rules that events are found by; `find_events` says what they do.

    Attributes:
        calibration: YAML file; None: the model's own.
        threshold: from which a window starts an event, of all species; None: those of the
            calibration.
        thresholds: CSV file of thresholds by species, or a calibration whose thresholds are
            taken; species that a CSV does not name keep the other threshold.
        species: names or numbers of those that are wanted; None: all.
        low_ratio: of the threshold, down to which an event goes on.
        merge_gap: seconds between events of a species that are one.
        min_s: shorter events are left out.
    """

    calibration: Path | None = None
    threshold: float | None = None
    thresholds: Path | None = None
    species: Sequence[str] | None = None
    low_ratio: float = 0.8
    merge_gap: float = 0.2
    min_s: float = 0.0

    def check(self) -> None:
        """Raises UserError for a value that cannot be, or two that exclude each other."""
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(
                f"--threshold must be above 0 and at most 1. Received: {self.threshold:g}."
            )
        if not 0 < self.low_ratio <= 1:
            raise UserError(
                f"--low-ratio must be above 0 and at most 1. Received: {self.low_ratio:g}."
            )

    def of_model(self, card: ModelCard) -> ModelRules:
        """The rules with the thresholds of a model's classes.

        Raises:
            UserError: if a file cannot be read, or names a species that the model does not have.
        """
        self.check()
        if self.calibration:
            card = card.replace(calibration=read_calibration(self.calibration, card.columns))
        calibration = card.calibration
        thresholds, which = card.thresholds.astype(np.float64), f"{UNCALIBRATED_THRESHOLD:g}"
        if calibration:
            chosen = f" ({calibration.wanted})" if calibration.wanted else ""
            which = f"its thresholds{chosen}"
        if self.threshold is not None:
            thresholds, which = np.full(len(card.classes), self.threshold), f"{self.threshold:g}"
        if self.thresholds:
            thresholds = _read_thresholds(self.thresholds, card, thresholds)
            which = f"the thresholds of {self.thresholds}"
        if self.species is not None:
            wanted = {_find(card.classes, text, "--species") for text in self.species}
            thresholds = np.where(
                [c in wanted for c in range(len(card.classes))], thresholds, math.inf
            )
        of = "uncalibrated scores"
        if calibration:
            of = f"probabilities by {self.calibration or 'the calibration of ' + card.made_by}"
        return ModelRules(self, card, thresholds, f"of {of} from {which} on")


@dataclass(frozen=True)
class ModelRules:
    """Rules for the scores of one model.

    Attributes:
        rules: what was asked for.
        card: of the model, with the calibration that is used.
        thresholds: float64 [classes]; infinity: no events.
        said: of what values, and from which threshold on, in words.
    """

    rules: EventRules
    card: ModelCard
    thresholds: np.ndarray
    said: str

    def events(
        self, results: Iterable[RecordingWindows]
    ) -> tuple[pd.DataFrame, list[EventRecording]]:
        """Finds the events of recordings, one after the other.

        Args:
            results: what windows of recordings say.

        Returns:
            The events (`EVENT_COLUMNS`), in the order of the recordings, and all recordings.
        """
        tables, recordings = [empty_events()], []
        for recording, window_scores, window_boxes in results:
            recordings.append(recording)
            found = find_events(
                recording,
                window_scores,
                self.card,
                self.thresholds,
                window_boxes=window_boxes,
                low_ratio=self.rules.low_ratio,
                merge_gap_s=self.rules.merge_gap,
            )
            if self.rules.min_s:
                found = found[found["end_s"] - found["start_s"] >= self.rules.min_s]
            tables.append(found)
        return pd.concat(tables, ignore_index=True), recordings


def _read_thresholds(path: Path, card: ModelCard, others: np.ndarray) -> np.ndarray:
    """Thresholds [classes] in units of the values that are searched."""
    if path.suffix.lower() in (".yaml", ".yml"):
        scores = read_calibration(path, card.columns).score_thresholds()
        return np.float64(card.calibration.probabilities(scores) if card.calibration else scores)
    thresholds = others.copy()
    header, rows = read_csv(path, ["threshold"], numbers=["threshold"])
    column = next((c for c in ("species_id", "species") if c in header), None)
    column = column or species_name_column([c for c in header if c != "threshold"])
    if column is None:
        raise UserError(
            f"{path} must name species in a column species_id or species. Found the header "
            f"{','.join(header)!r:.60}."
        )
    for place, cells in rows:
        value = read_number(place, "threshold", cells["threshold"])
        if not 0 < value <= 1:
            raise UserError(
                f"{place}: threshold must be above 0 and at most 1. Received: {cells['threshold']}."
            )
        thresholds[_find(card.classes, from_spreadsheet(cells[column]), place)] = value
    return thresholds


def _find(classes: Sequence[SpeciesClass], text: str, place: str) -> int:
    """The number of the class that a text names: its species_id, s<species_id> or name."""
    wanted = " ".join(text.split()).casefold()
    for number, species in enumerate(classes):
        names = (str(species.species_id), species.column, " ".join(species.name.split()))
        if wanted in (name.casefold() for name in names):
            return number
    raise UserError(
        f"{place}: a species must be one of the model's, by number or name. Received: {text!r}; "
        f"it has {first_few([species.name for species in classes])}."
    )
