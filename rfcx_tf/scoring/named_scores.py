"""Scores of recordings -> tables for people: columns by names, or a row a recording and species."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.csv_tables import spreadsheet_text
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.score_table import write_scores


def write_named_scores(
    scores: pd.DataFrame, classes: Sequence[SpeciesClass], path: str | Path
) -> None:
    """Writes a table for people, whose columns are called by the species' names.

    A name that two classes have is followed by the class: `frog (s3)`.
    """
    count = Counter(species.name for species in classes)
    names = {
        species.column: spreadsheet_text(
            species.name if count[species.name] == 1 else f"{species.name} ({species.column})"
        )
        for species in classes
    }
    write_scores(scores.rename(columns=names), path)


def tidy_scores(
    scores: pd.DataFrame, classes: Sequence[SpeciesClass], calibration: Calibration | None
) -> pd.DataFrame:
    """A row for every recording and species.

    Args:
        scores: recording_id and s<id> columns of the classes.
        classes: the species, in the order of the calibration.
        calibration: makes probabilities of scores; None: there are none.

    Returns:
        DataFrame recording_id, species_id, species, score, probability (NaN without calibration).
    """
    values = scores[[species.column for species in classes]].to_numpy(float)
    probability = np.full(values.shape, np.nan)
    if calibration is not None:
        probability = calibration.probabilities(values)
    return pd.DataFrame(
        {
            "recording_id": np.repeat(scores["recording_id"].to_numpy(), len(classes)),
            "species_id": np.tile([species.species_id for species in classes], len(scores)),
            "species": np.tile([species.name for species in classes], len(scores)),
            "score": values.ravel(),
            "probability": probability.ravel(),
        }
    )


def write_tidy_scores(tidy: pd.DataFrame, path: str | Path) -> None:
    """Writes a table of `tidy_scores` as CSV, six digits a value."""
    texts = ["recording_id", "species"]
    table = tidy.round({"score": 6, "probability": 6})
    table[texts] = table[texts].map(spreadsheet_text)
    write_scores(table, path)
