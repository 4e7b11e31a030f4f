"""Files and folders -> the recordings in them, by id.

The id of a recording is its file's name without extension. Recorders at several sites name their
files by date and time alone, so it may instead be the path below the folder that was named, without
extension and with forward slashes: site1/20210101_050000. Ids are text in Unicode's normal form C,
whatever the form of the file's name; of a name that is not UTF-8 the bytes are read as Latin-1.

Folders are searched as `core.walk` does, links included. What is hidden or lies in a trash is no
recording. What may hold recordings and cannot be searched, and sound under a name that is none of
sound, is listed.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rfcx_tf.audio.decoders import AUDIO_EXTENSIONS, holds_sound
from rfcx_tf.audio.other_kinds import (
    BEGINNING_BYTES,
    how_to_convert,
    is_other_sound,
    other_kind,
)
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.names import one_form, readable
from rfcx_tf.core.storage import StoredFile, as_path
from rfcx_tf.core.walk import walk

RECORDING_IDS = ("name", "path")
# Bytes; of most file systems.
_LONGEST_NAME = 255


class Recordings(dict[str, Path]):
    """Paths of sound files by recording id, in the order of the paths.

    Attributes:
        left_out: a line for everything that may be a recording and is not among them.
        notes: what else was passed over, in words.
    """

    def __init__(self, paths=(), left_out: Iterable[str] = (), notes: Iterable[str] = ()):
        super().__init__(paths)
        self.left_out, self.notes = list(left_out), list(notes)


def find_recordings(paths: Iterable[Path | str], ids: str = "name") -> Recordings:
    """Finds the sound files among files and folders.

    Args:
        paths: files, and folders that are searched with their subfolders.
        ids: what recordings are called by, one of `RECORDING_IDS`. `path` is that below the
            folder in `paths`; of a file in `paths` it is the name.

    Returns:
        `Recordings`; a file that is named twice, or linked, comes once.

    Raises:
        UserError: for a path that does not exist or is no sound file, for paths without any
            recording, and for two files that would share a recording id.
    """
    found = _find(paths)
    return Recordings(_by_id(found.folders, ids), found.left_out, found.notes)


def find_named_recordings(paths: Iterable[Path | str], named: Iterable[str]) -> Recordings:
    """Finds all recordings among files and folders, called as a table calls them.

    A recording is called by its path where the table does so, or where another file has the same
    name; else by its name.

    Args:
        paths: as for `find_recordings`.
        named: recording ids in the table, of either kind.

    Raises:
        UserError: as `find_recordings`, and if the table has a name that may mean a recording
            that is called by its path.
    """
    found = _find(paths)
    return Recordings(_as_named(found.folders, named), found.left_out, found.notes)


def folder_recordings(folder: Path, named: Iterable[str]) -> Recordings:
    """`find_named_recordings` in one folder, which may be empty or missing."""
    found = _Found()
    if os.path.exists(folder):
        found.search(folder)
        found.leave_out_twins()
    return Recordings(_as_named(found.folders, named), found.left_out, found.notes)


def path_for_recording(folder: Path, recording_id: str, ending: str) -> Path:
    """The path of a file in a folder that belongs to a recording; below subfolders if its id is a
    path. A name that would be too long for a file is cut, and ends in a hash of the id.

    Raises:
        UserError: for an id that leads out of the folder or names no file.
    """
    path = Path(recording_id)
    is_plain = path.name and not path.anchor and ".." not in path.parts
    if not is_plain or path.as_posix() != recording_id:
        raise UserError(
            "A recording_id must be a file's name, or a path below a folder. "
            f"Received: {recording_id!r}."
        )
    name = f"{path.name}{ending}"
    if len(name.encode()) > _LONGEST_NAME:
        ending = f"~{hashlib.sha256(recording_id.encode()).hexdigest()[:8]}{ending}"
        left = path.name.encode()[: _LONGEST_NAME - len(ending.encode())]
        name = left.decode(errors="ignore") + ending
    return folder / path.with_name(name)


@dataclass
class _Found:
    """Sound files, each with the folder that it was found in; sorted by `_find`."""

    folders: dict[Path, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def search(self, folder: Path) -> None:
        walked = walk(folder)
        self.left_out += walked.unsearched
        for path in walked.files:
            if path.suffix.lower() in AUDIO_EXTENSIONS:
                self.folders.setdefault(path, folder)
            elif is_other_sound(path, beginning := _beginning(path)):
                converted = path.with_suffix(".flac")
                if converted.is_file():
                    self.notes.append(f"Passed over {readable(path)}: {converted.name} is there.")
                else:
                    self.left_out.append(how_to_convert(path, beginning))
            elif holds_sound(beginning):
                self.left_out.append(
                    f"{path} holds sound, but is not named like a sound file. Rename it."
                )
        hidden = [path for path in walked.hidden if path.suffix.lower() in AUDIO_EXTENSIONS]
        if hidden:
            self.notes.append(
                f"Passed over {first_few(map(readable, hidden), 1)}: sound files in a trash or "
                "hidden. Name their folder to have them searched."
            )

    def search_stored(self, place: StoredFile) -> None:
        """Searches a folder in a store, or takes a file; UserError where there is neither."""
        try:
            if place.suffix.lower() in AUDIO_EXTENSIONS and place.is_file():
                self.folders.setdefault(place, place.parent)
            else:
                self.search(place)
        except OSError as error:
            raise UserError(
                f"Recordings must exist and be readable. {place} cannot be listed: "
                f"{error.strerror}."
            ) from None

    def leave_out_twins(self) -> None:
        """Leaves out files whose paths differ only in how their letters are written.

        They look alike and would share an id, so a row or score could mean either. Of copies with
        the same bytes one stays.
        """
        alike: dict[str, list[Path]] = {}
        for path in sorted(self.folders):
            alike.setdefault(_name(path.with_suffix("")), []).append(path)
        for first, *others in alike.values():
            if all(path.with_suffix("") == first.with_suffix("") for path in others):
                continue
            which = " and ".join(ascii(str(path)) for path in (first, *others))
            left_out = others
            if not all(_same_bytes(first, path) for path in others):
                left_out = [first, *others]
                self.left_out.append(
                    "Recordings must differ in their names. Found names that differ only in how "
                    f"letters are written: {which}. Rename one."
                )
            else:
                self.notes.append(
                    "Passed over copies under names that differ only in how letters are written: "
                    f"{which}."
                )
            for path in left_out:
                del self.folders[path]


def _find(paths: Iterable[Path | str]) -> _Found:
    """Sound files among files and folders; those that are links to others are left out."""
    paths = [as_path(path) for path in paths]
    extensions = ", ".join(AUDIO_EXTENSIONS)
    found = _Found()
    for path in paths:
        if isinstance(path, StoredFile):
            found.search_stored(path)
        elif os.path.isdir(path):
            found.search(path)
        elif os.path.isfile(path) and path.suffix.lower() in AUDIO_EXTENSIONS:
            found.folders.setdefault(path, path.parent)
        elif os.path.isfile(path) and other_kind(beginning := _beginning(path)):
            raise UserError(how_to_convert(path, beginning))
        elif os.path.exists(path):
            raise UserError(f"Recordings must be {extensions} files or folders. Received: {path}.")
        else:
            raise UserError(f"Recordings must exist. Not found: {path}.")
    found.leave_out_twins()
    if not found.folders:
        places = ", ".join(map(str, paths)) or "nothing"
        others = f" Left out: {first_few(found.left_out, 1)}." if found.left_out else ""
        raise UserError(f"No recording ({extensions}) was found. Searched: {places}.{others}")
    real: dict[Path, Path] = {}
    doubles = []
    for path in sorted(found.folders, key=os.path.islink):
        first = real.setdefault(path.resolve(), path)
        if first is not path and os.path.islink(path):
            doubles.append(f"{readable(path)} to {readable(first)}")
    if doubles:
        found.notes.append(f"Passed over links to recordings that are there: {first_few(doubles)}.")
    found.folders = {path: found.folders[path] for path in sorted(real.values())}
    return found


def _by_id(files: Mapping[Path, Path], ids: str) -> dict[str, Path]:
    """Files of `_find` by their names, or by their paths below their folders."""
    rule = "file names" if ids == "name" else "paths below the folders that are named,"
    elsewhere = "rename one, or call them by their paths: --recording-ids path."
    if ids == "path":
        elsewhere = "name the folder above both instead, or rename one."
    found: dict[str, Path] = {}
    for path, folder in files.items():
        below = path.relative_to(folder).parent if ids == "path" else Path()
        other = found.setdefault(_name(below / path.stem), path)
        if other is not path:
            advice = "rename one." if other.parent == path.parent else elsewhere
            raise UserError(
                f"Recordings must differ in their {rule} without extension. "
                f"Found {other} and {path}; {advice}"
            )
    return found


def _as_named(files: Mapping[Path, Path], named: Iterable[str]) -> dict[str, Path]:
    named, by_path = set(named), _by_id(files, "path")
    names = {path: _name(path.stem) for path in files}
    with_name = Counter(names.values())
    found = {
        id_ if id_ in named or with_name[names[path]] > 1 else names[path]: path
        for id_, path in by_path.items()
    }
    for id_, path in found.items():
        name = names[path]
        if name in named and name not in found:
            raise UserError(
                "A recording must be called by its path where another one has the same name, or "
                f"other rows call it so. Received: {name}, which may be {path}; write {id_}."
            )
    return found


def _name(path: Path | str) -> str:
    return one_form(readable(path))


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(BEGINNING_BYTES)
    except OSError:
        return b""
