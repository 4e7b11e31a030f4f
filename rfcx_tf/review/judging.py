"""review.csv while people judge it: changes come in, and each is on the disk before it counts.

The items to judge are the rows of review.csv and, below them, events of a table that is not picked
from. An event gets a row when somebody judges it, and a copy of a row is a species or a call that
somebody added. Every change has a number. Whoever changes an item says which change of it she saw
last, so that two people do not overwrite each other's verdicts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from rfcx_tf.core.csv_tables import read_whole_number
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text, check_writable
from rfcx_tf.core.names import has_control_characters, one_form
from rfcx_tf.labels.annotations import read_box
from rfcx_tf.labels.folder_labels import name_key
from rfcx_tf.labels.marks import read_verdict
from rfcx_tf.review.selection import not_judged_yet
from rfcx_tf.review.sheet_rows import COLUMNS, Sheet, event_cells, read_sheet, sheet_text

# `reason` of what no rule picked.
BY_HAND = "by hand"
# Where an item stands.
IN_REVIEW, IN_EVENTS, REMOVED = "review", "events", "removed"
_BOX = {"t_min": 3, "t_max": 3, "f_min": 1, "f_max": 1}
_WORDS = {True: "TP", False: "FP", None: "unsure"}
_LONGEST_TEXT = 1000


class ChangeError(UserError):
    """A change that cannot be made; the message is for whoever judges."""


class ConflictError(ChangeError):
    """A change of an item that somebody else has changed."""


@dataclass(frozen=True)
class Item:
    """An event to judge.

    Attributes:
        cells: text by column of review.csv.
        place: `IN_REVIEW`: it has a row there; `IN_EVENTS`: it has none yet; `REMOVED`.
        origin: number of the item that it is a copy of; None: of none.
        version: number of its last change.
    """

    cells: Mapping[str, str]
    place: str = IN_REVIEW
    origin: int | None = None
    version: int = 0


class Judging:
    """The items of one review.

    Attributes:
        path: of review.csv.
        items: in the order of their numbers.
        revision: number of the last change.
    """

    def __init__(
        self,
        path: str | Path,
        events: pd.DataFrame,
        files: Mapping[str, Path],
        species: Mapping[int, str],
        extent: Callable[[str, str], tuple[float, float]],
    ):
        """Reads review.csv, if it is there.

        Args:
            path: of review.csv; it is made by the first change.
            events: of `EVENT_COLUMNS`, those that may be judged beside its rows.
            files: recordings of the events, by recording_id.
            species: names by species_id that are known beside those of rows and events.
            extent: length in s and highest frequency in Hz of a recording, by its id and file.

        Raises:
            UserError: naming the line of the first row that cannot be judged, or if nothing can
                be written there.
        """
        self.path = Path(path)
        self.revision = 0
        self._extent = extent
        sheet = read_sheet(self.path) if self.path.exists() else Sheet(list(COLUMNS), [])
        check_writable(self.path)
        # A spreadsheet program may have left columns out.
        self._header = sheet.header + [name for name in COLUMNS if name not in sheet.header]
        self.items = [Item(_checked_row(place, cells)) for place, cells in sheet.rows]
        for event in _not_in(events, self.items).itertuples():
            known = not (math.isnan(event.low_hz) or math.isnan(event.high_hz))
            band_hz = (event.low_hz, event.high_hz) if known else None
            cells = event_cells(event, str(files[event.recording_id].absolute()), band_hz)
            self.items.append(Item(cells | {"reason": BY_HAND}, IN_EVENTS))
        self._species = dict(species)
        for item in self.items:
            self._species.setdefault(int(item.cells["species_id"]), item.cells["species"])
        self._before: dict[int, dict[int, Item | None]] = {}
        self._on_disk = self._stamp()

    @property
    def species(self) -> list[str]:
        """Names of all species that are known, in alphabetical order."""
        return sorted({name or f"s{id_}" for id_, name in self._species.items()}, key=name_key)

    def changed_since(self, revision: int) -> list[int]:
        """Numbers of the items that have changed since that change."""
        if revision >= self.revision:
            return []
        return [i for i, item in enumerate(self.items) if item.version > revision]

    def change(self, edits: Sequence[Mapping]) -> list[int]:
        """Makes one change of one or more items, and saves it.

        Args:
            edits: `{"item": number, "version": its last change, "cells": {column: value}}`, or
                `{"copy": number, "cells": {...}}` for a new row. A species goes by its name.

        Returns:
            Numbers of the items; the change's own is `revision`.

        Raises:
            ConflictError: if somebody has changed an item since that version.
            ChangeError: if an edit makes no sense. Nothing is changed.
            UserError: if review.csv cannot be saved. Nothing is changed.
        """
        new: dict[int, Item] = {}
        species = dict(self._species)
        for edit in edits:
            cells = edit.get("cells")
            if not isinstance(cells, Mapping):
                raise ChangeError("An edit has cells, by column.")
            if "copy" in edit:
                number = max(len(self.items), *(n + 1 for n in new), 0)
                origin = self._number(edit["copy"])
                # What says how the event was found does not hold for what somebody adds.
                found = dict.fromkeys(("score", "probability", "inclusion", "comment"), "")
                item = Item(dict(self.items[origin].cells) | found | {"reason": BY_HAND})
                item = replace(item, origin=origin)
            else:
                number = self._number(edit.get("item"))
                item = new.get(number, self.items[number])
                if number not in new and edit.get("version") != item.version:
                    raise ConflictError("Somebody else has just judged this event.")
            if item.place == REMOVED:
                raise ConflictError("Somebody else has just removed this row.")
            edited = self._edited(dict(item.cells), cells, species)
            new[number] = replace(item, cells=edited, place=IN_REVIEW, version=self.revision + 1)
        if not new:
            raise ChangeError("A change has at least one edit.")
        self._commit(new)
        self._species = species
        return sorted(new)

    def undo(self, revision: object) -> list[int]:
        """Takes a change back: it is a change itself.

        Raises:
            ConflictError: if one of its items was changed since.
            ChangeError: if there is no such change.
            UserError: if review.csv cannot be saved.
        """
        before = self._before.get(revision) if isinstance(revision, int) else None
        if before is None:
            raise ChangeError(f"There is no change {revision!r:.40} to take back.")
        if any(self.items[number].version != revision for number in before):
            raise ConflictError("This was changed again since, and is left as it is.")
        self._commit(
            {
                number: replace(
                    self.items[number] if item is None else item,
                    place=REMOVED if item is None else item.place,
                    version=self.revision + 1,
                )
                for number, item in before.items()
            }
        )
        return sorted(before)

    def verdict_counts(self) -> Counter[str]:
        """Rows of review.csv by verdict, "" for those that have none."""
        return Counter(i.cells["verdict"] for i in self.items if i.place == IN_REVIEW)

    def _number(self, value: object) -> int:
        known = isinstance(value, int) and not isinstance(value, bool)
        if not known or not 0 <= value < len(self.items):
            raise ChangeError(f"There is no event {value!r:.40}.")
        return value

    def _edited(self, cells: dict[str, str], edit: Mapping, species: dict[int, str]) -> dict:
        """Cells with an edit in them; new species get a number in `species`."""
        edit = dict(edit)
        if "verdict" in edit:
            verdict = edit.pop("verdict")
            if verdict not in ("", *_WORDS.values()):
                raise ChangeError(f"A verdict is TP, FP, unsure or empty, not {verdict!r:.40}.")
            cells["verdict"] = verdict
        for name in ("comment", "species"):
            if name in edit:
                cells[name] = _text(name, edit.pop(name))
                if name == "species":
                    cells["species_id"] = str(_species_id(cells[name], species))
                    if cells["reason"] != BY_HAND:
                        raise ChangeError(
                            "The species of an event stays: say FP, and add the other species."
                        )
        box = {name: edit.pop(name) for name in _BOX if name in edit}
        if edit:
            raise ChangeError(f"{next(iter(edit))!r:.40} cannot be changed.")
        duration_s, highest_hz = math.inf, math.inf
        if box or not cells["f_max"]:
            duration_s, highest_hz = self._extent(cells["recording_id"], cells["file"])
        if not cells["f_max"]:
            cells |= {"f_min": "0.0", "f_max": f"{highest_hz:.1f}"}
        for name, value in box.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ChangeError(f"{name} is a number, not {value!r:.40}.")
            most = duration_s if name.startswith("t") else highest_hz
            if not 0 <= value <= most + 0.1:
                raise ChangeError(f"{name} is from 0 to {most:g}, not {value!r:.40}.")
            cells[name] = f"{min(value, most):.{_BOX[name]}f}"
        if box:
            try:
                read_box("The box", cells)
            except UserError as error:
                raise ChangeError(str(error)) from None
        return cells

    def _commit(self, new: dict[int, Item]) -> None:
        """Saves items, and then lets them count."""
        items = list(self.items) + [None] * (max(new) + 1 - len(self.items))
        before = {number: items[number] for number in new}
        for number, item in new.items():
            items[number] = item
        self._save(items)
        self.items = items
        self.revision += 1
        self._before[self.revision] = before

    def _save(self, items: Iterable[Item]) -> None:
        if self._stamp() != self._on_disk:
            raise UserError(
                f"{self.path} was changed by another program and is not written over. Stop this "
                "review and start it again: what is in the file is kept."
            )
        rows = [item.cells for item in items if item.place == IN_REVIEW]
        atomic_write_text(self.path, sheet_text(self._header, rows))
        self._on_disk = self._stamp()

    def _stamp(self) -> tuple[int, int, int] | None:
        """Changes when anybody writes review.csv; None: it is not there."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _checked_row(place: str, cells: dict[str, str]) -> dict[str, str]:
    """The cells of a row of review.csv, with a verdict that is TP, FP, unsure or empty."""
    cells = dict.fromkeys(COLUMNS, "") | cells
    if not cells["recording_id"]:
        raise UserError(f"{place}: recording_id must not be empty.")
    cells["species_id"] = str(read_whole_number(place, "species_id", cells["species_id"]))
    cells["species"] = cells["species"] or f"s{cells['species_id']}"
    read_box(place, cells)
    verdict = read_verdict(place, cells["verdict"])
    return cells | {"verdict": _WORDS[verdict] if cells["verdict"] else ""}


def _not_in(events: pd.DataFrame, items: Sequence[Item]) -> pd.DataFrame:
    """The events that have no row in the review."""
    names = ["recording_id", "species_id", "t_min", "t_max"]
    rows = pd.DataFrame([[i.cells[name] for name in names] for i in items], columns=names)
    return not_judged_yet(events, rows.astype({"species_id": int, "t_min": float, "t_max": float}))


def _text(name: str, value: object) -> str:
    """Text of one line; species must have some."""
    text = one_form(" ".join(value.split())) if isinstance(value, str) else None
    if text is None or len(text) > _LONGEST_TEXT or has_control_characters(text):
        raise ChangeError(f"{name} is text of one line and at most {_LONGEST_TEXT} characters.")
    if name == "species" and not text:
        raise ChangeError("A species has a name.")
    return text


def _species_id(name: str, species: dict[int, str]) -> int:
    """Number of a species by its name; one that is not known becomes the next."""
    key = name_key(name)
    for id_, known in species.items():
        if key in (name_key(known), f"s{id_}"):
            return id_
    number = max(species, default=-1) + 1
    species[number] = name
    return number
