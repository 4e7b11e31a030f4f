"""The species that a detector knows, and tables that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rfcx_tf.core.csv_tables import read_csv, read_whole_number
from rfcx_tf.core.errors import UserError, first_few


@dataclass(frozen=True)
class SpeciesClass:
    """One class of the detector."""

    species_id: int
    name: str

    @property
    def column(self) -> str:
        """Name of its column in a table of scores."""
        return f"s{self.species_id}"


def read_species(path: str | Path) -> list[SpeciesClass]:
    """Reads species.csv, in its order; a species without a name is called s<species_id>.

    Raises:
        UserError: if the file cannot be read, lacks species_id, or has one that is no whole
            number or occurs twice.
    """
    header, rows = read_csv(path, ["species_id"])
    name_column = species_name_column(header)
    species: dict[int, SpeciesClass] = {}
    for place, cells in rows:
        id_ = read_whole_number(place, "species_id", cells.get("species_id", ""))
        if id_ in species:
            raise UserError(f"{place}: species_id {id_} must not occur twice.")
        species[id_] = SpeciesClass(id_, cells.get(name_column, "") or f"s{id_}")
    return list(species.values())


def species_name_column(header: Sequence[str]) -> str | None:
    """`name`, `scientific_name` or else the first other column; None where there is only an id."""
    others = [column for column in header if column != "species_id"]
    return next((c for c in ("name", "scientific_name", *others[:1]) if c in others), None)


def check_same_classes(named: Sequence[tuple[object, Sequence[SpeciesClass]]]) -> None:
    """Refuses models whose scores do not have the same columns.

    Args:
        named: what each model is called in a message, and its classes.

    Raises:
        UserError: if one has other classes than the first, or has them in another order.
    """
    name, classes = named[0]
    for other_name, other_classes in named[1:]:
        if list(other_classes) == list(classes):
            continue
        mine, theirs = ([f"{c.column} {c.name}" for c in x] for x in (classes, other_classes))
        only_mine = [column for column in mine if column not in theirs]
        only_theirs = [column for column in theirs if column not in mine]
        found = f"only in {name}: {first_few(only_mine)}; "
        found += f"only in {other_name}: {first_few(only_theirs)}"
        if not only_mine and not only_theirs:
            found = f"{name} and {other_name} have them in another order"
        raise UserError(
            f"Runs that are combined must have the same classes. Found {found}. Use each by itself."
        )
