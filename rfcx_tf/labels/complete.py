"""complete.csv of a data folder -> recordings that are annotated completely.

    recording_id,species_id
    a,                          all calls of all species of the folder are marked in a
    b,3                         all calls of species 3 are marked in b

Where such a recording has no box of such a species, that species is absent. The column `species_id`
may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rfcx_tf.core.csv_tables import read_csv, read_whole_number
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.species import SpeciesClass

COMPLETE_TABLE = "complete.csv"
COMPLETE_HEADER = ["recording_id", "species_id"]

# Recording id -> the species of which all calls in it are marked, in order of species_id.
Complete = Mapping[str, Sequence[int]]


class CompleteLine(NamedTuple):
    """A line of complete.csv: where it stands, its recording, and one species or None for all."""

    source: str
    recording_id: str
    species_id: int | None


def complete_lines(data_dir: Path) -> list[CompleteLine]:
    """The lines of a folder's complete.csv; none where it has none.

    Raises:
        UserError: naming file and line, if it cannot be read, or a line has no recording_id or a
            species_id that is no whole number.
    """
    path, lines = data_dir / COMPLETE_TABLE, []
    for place, cells in read_csv(path, ["recording_id"]).rows if path.exists() else []:
        if not cells["recording_id"]:
            raise UserError(f"{place}: recording_id must not be empty.")
        species_id, text = None, cells.get("species_id")
        if text:
            species_id = read_whole_number(place, "species_id", text)
        lines.append(CompleteLine(place, cells["recording_id"], species_id))
    return lines


def complete_species(
    lines: Iterable[CompleteLine], classes: Sequence[SpeciesClass]
) -> dict[str, list[int]]:
    """The species that the lines name by recording, see `Complete`.

    Raises:
        UserError: if a line names a species that the folder does not know.
    """
    known = [c.species_id for c in classes]
    found: dict[str, set[int]] = {}
    for line in lines:
        if line.species_id is not None and line.species_id not in known:
            raise UserError(
                f"{line.source}: species_id must be one that the folder knows. Received: "
                f"{line.species_id}. Correct it, or name the species in species.csv."
            )
        of_line = known if line.species_id is None else [line.species_id]
        found.setdefault(line.recording_id, set()).update(of_line)
    return {name: sorted(species_ids) for name, species_ids in found.items()}


def why_not_complete(in_part: set[str]) -> list[str]:
    """A line, if there are any, on recordings of which tables say less than all."""
    if not in_part:
        return []
    return [
        "Recordings of which something is left out, or was not judged by a person, are not noted "
        f"as completely annotated: {first_few(sorted(in_part))}. Correct or judge it, and import "
        "again."
    ]


def note_of_new_classes(
    data_dir: Path, lines: Iterable[CompleteLine], new_classes: Sequence[SpeciesClass]
) -> list[str]:
    """A line on what earlier lines for all species now say of species that come later."""
    earlier = {line.recording_id for line in lines if line.species_id is None}
    if not (earlier and new_classes):
        return []
    return [
        f"{data_dir / COMPLETE_TABLE} says of {first_few(sorted(earlier))} that all species are "
        f"marked there, and so that {first_few([c.name for c in new_classes])}, new now, are "
        "absent where no TP row says otherwise. If nobody listened for them there, name the other "
        "species in its column species_id."
    ]


def complete_mask(
    complete: Complete, recording_id: str, classes: Sequence[SpeciesClass]
) -> np.ndarray:
    """Int64 [classes], 1 where all calls of the class in the recording are marked."""
    return np.isin([c.species_id for c in classes], complete.get(recording_id, ())).astype(np.int64)


def without_lost_rows(complete: Complete, rows: pd.DataFrame, used: pd.DataFrame) -> Complete:
    """The same, but for species of which not all rows of a recording could be used.

    Args:
        complete: of a data folder.
        rows: TP rows of the folder, with recording_id and species_id.
        used: those that became crops.
    """
    names = ["recording_id", "species_id"]
    counts = rows.groupby(names).size()
    used_counts = used.groupby(names).size().reindex(counts.index, fill_value=0)
    lost = set(counts.index[counts > used_counts])
    kept = {name: [i for i in ids if (name, i) not in lost] for name, ids in complete.items()}
    return {name: ids for name, ids in kept.items() if ids}
