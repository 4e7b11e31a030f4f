"""Judged samples of `random_sample` and the events they were drawn from -> verdicts by event."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rfcx_tf.core.csv_tables import from_spreadsheet, read_csv, read_number, read_whole_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.marks import read_verdict

_REQUIRED = ("recording_id", "species_id", "t_min", "t_max", "verdict", "inclusion")
_NUMBERS = ("species_id", "t_min", "t_max", "inclusion")


class SampleVerdicts(NamedTuple):
    """What samples say.

    Attributes:
        verdicts: DataFrame, a row for every judged event: event (the number of its row in the
            table of events), right (bool), inclusion (the probability to be drawn).
        open: rows without a verdict, or unsure.
        not_drawn: judged rows without `inclusion`, which an active pick chose, or which somebody
            added by hand: they say nothing of the rest.
    """

    verdicts: pd.DataFrame
    open: int
    not_drawn: int


def read_sample_verdicts(reviews: Iterable[str | Path], events: pd.DataFrame) -> SampleVerdicts:
    """Reads judged reviews of `review pick --sample`.

    A row is of the event of its species and recording that its box, which somebody may have made
    to fit, shares most time with. An event that is in several reviews has their verdict once, and
    the probability to be in any of them.

    Args:
        reviews: CSV files, as `apply_review` takes them.
        events: of `EVENT_COLUMNS`, all that the samples were drawn from.

    Raises:
        UserError: naming file and line of the first row that cannot be used, or one whose event
            is not among the events.
    """
    numbers = events.groupby(["recording_id", "species_id"]).indices
    begin_s, end_s = events["start_s"].to_numpy(), events["end_s"].to_numpy()
    found: dict[int, tuple[bool, float, str]] = {}
    open_, not_drawn = 0, 0
    for review in reviews:
        for place, texts in _rows(Path(review)):
            verdict = read_verdict(place, texts["verdict"])
            if verdict is None:
                open_ += 1
                continue
            if not texts["inclusion"]:
                not_drawn += 1
                continue
            inclusion = read_number(place, "inclusion", texts["inclusion"])
            if not 0 < inclusion <= 1:
                raise UserError(
                    f"{place}: inclusion is a probability, above 0 and at most 1. "
                    f"Received: {texts['inclusion']}."
                )
            species_id = read_whole_number(place, "species_id", texts["species_id"])
            t_min, t_max = (read_number(place, name, texts[name]) for name in ("t_min", "t_max"))
            own = numbers.get((texts["recording_id"], species_id), np.array([], int))
            shared_s = np.minimum(end_s[own], t_max) - np.maximum(begin_s[own], t_min)
            if not (shared_s > 0).any():
                raise UserError(
                    f"{place}: a verdict is of one of the events that the sample was drawn from. "
                    f"None of {texts['recording_id']} has species_id {species_id} at "
                    f"{t_min:.1f} s. Name the same events, or empty the cell inclusion of a row "
                    "that was added by hand."
                )
            event = int(own[np.argmax(shared_s)])
            if event in found:
                before, other, elsewhere = found[event]
                if before != verdict:
                    raise UserError(
                        f"{place}: an event has one verdict. {elsewhere} says the opposite of this "
                        "event; correct one."
                    )
                inclusion = 1 - (1 - inclusion) * (1 - other)
            found[event] = verdict, inclusion, place
    rows = [(event, right, inclusion) for event, (right, inclusion, _) in sorted(found.items())]
    table = pd.DataFrame(rows, columns=["event", "right", "inclusion"])
    return SampleVerdicts(
        table.astype({"event": int, "right": bool, "inclusion": float}), open_, not_drawn
    )


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    table = read_csv(path, _REQUIRED[:-1], numbers=_NUMBERS)
    if _REQUIRED[-1] not in table.header:
        raise UserError(
            f"{path} must be a random sample, with a column inclusion. It has none: what `review "
            "pick` chooses without --sample says nothing of the rest. Draw a sample with --sample "
            "N."
        )
    return [
        (place, {name: from_spreadsheet(cell) for name, cell in cells.items()})
        for place, cells in table.rows
    ]
