"""A species that a detector knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpeciesClass:
    """One class of the detector."""

    species_id: int
    name: str

    @property
    def column(self) -> str:
        """Name of its column in a table of scores."""
        return f"s{self.species_id}"
