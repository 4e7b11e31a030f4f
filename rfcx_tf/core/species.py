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
        id_ = read_whole_number(place, "species_id", cells["species_id"])
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
    named = [(str(name), [f"{c.column} {c.name}" for c in classes]) for name, classes in named]
    for other in named[1:]:
        check_same_columns(
            "Runs that are combined must have the same classes, in one order.",
            *(*named[0], *other),
            in_order=True,
        )


def check_same_columns(
    rule: str,
    one: str,
    first: Sequence[str],
    other: str,
    second: Sequence[str],
    *,
    in_order: bool = False,
) -> None:
    """Refuses tables that do not have the same class columns.

    Args:
        rule: a sentence that says so, with which the error begins.
        one, other: what the tables are called, such as "the truth".
        first, second: their class columns.
        in_order: whether their order must be the same as well.

    Raises:
        UserError: with the columns that only one of them has.
    """
    only_first = [column for column in first if column not in second]
    only_second = [column for column in second if column not in first]
    if only_first or only_second:
        raise UserError(
            f"{rule} Found only in {one}: {first_few(only_first)}; only in {other}: "
            f"{first_few(only_second)}."
        )
    if in_order and list(first) != list(second):
        raise UserError(f"{rule} {one} has them in another order than {other}.")
