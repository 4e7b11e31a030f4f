"""Files and folders -> the recordings in them, by id.

The id of a recording is its file's name without extension. Recorders at several sites name their
files by date and time alone, so it may instead be the path below the folder that was named, without
extension and with forward slashes: site1/20210101_050000.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from rfcx_tf.audio.decoders import AUDIO_EXTENSIONS, holds_sound
from rfcx_tf.core.errors import UserError

RECORDING_IDS = ("name", "path")


def find_recordings(paths: Iterable[Path | str], ids: str = "name") -> dict[str, Path]:
    """Finds the sound files among files and folders.

    Args:
        paths: files, and folders that are searched with their subfolders.
        ids: what recordings are called by, one of `RECORDING_IDS`. `path` is that below the
            folder in `paths`; of a file in `paths` it is the name.

    Returns:
        Paths by recording id, in the order of the paths; a file that is named twice comes once.

    Raises:
        UserError: for a path that does not exist or is no sound file, for paths without any
            recording, and for two files that would share a recording id.
    """
    return _by_id(_find(paths), ids)


def find_named_recordings(paths: Iterable[Path | str], named: Iterable[str]) -> dict[str, Path]:
    """Finds all recordings among files and folders, called as a table calls them.

    A recording is called by its path where the table does so, or where another file has the same
    name; else by its name.

    Args:
        paths: as for `find_recordings`.
        named: recording ids in the table, of either kind.

    Returns:
        Paths by recording id, in the order of the paths.

    Raises:
        UserError: as `find_recordings`, and if the table has a name that may mean a recording
            that is called by its path.
    """
    return _as_named(_find(paths), named)


def folder_recordings(folder: Path, named: Iterable[str]) -> dict[str, Path]:
    """`find_named_recordings` in one folder, which may be empty or missing."""
    return _as_named(dict.fromkeys(audio_files(folder), folder), named)


def audio_files(folder: Path) -> list[Path]:
    """All sound files in a folder and its subfolders, sorted; may be empty."""
    return sorted(path for path in folder.rglob("*") if _is_audio(path))


def misnamed_recordings(folders: Iterable[Path | str]) -> list[Path]:
    """Files in folders and their subfolders that hold sound, as their first bytes show, but have
    another extension; sorted. A file among `folders` is passed over.
    """
    return sorted(
        {
            path
            for folder in map(Path, folders)
            for path in folder.rglob("*")
            if path.suffix.lower() not in AUDIO_EXTENSIONS
            and not path.name.startswith(".")
            and path.is_file()
            and _begins_like_sound(path)
        }
    )


def path_for_recording(folder: Path, recording_id: str, ending: str) -> Path:
    """The path of a file in a folder that belongs to a recording; below subfolders if its id is a
    path.

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
    return folder / f"{recording_id}{ending}"


def _find(paths: Iterable[Path | str]) -> dict[Path, Path]:
    """Sound files, each with the folder that it was found in; sorted."""
    paths = [Path(path) for path in paths]
    extensions = ", ".join(AUDIO_EXTENSIONS)
    found: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        if path.is_dir():
            files, folder = audio_files(path), path
        elif _is_audio(path):
            files, folder = [path], path.parent
        elif path.exists():
            raise UserError(f"Recordings must be {extensions} files or folders. Received: {path}.")
        else:
            raise UserError(f"Recordings must exist. Not found: {path}.")
        for file in files:
            found.setdefault(file.resolve(), (file, folder))
    if not found:
        places = ", ".join(map(str, paths)) or "nothing"
        raise UserError(f"No recording ({extensions}) was found. Searched: {places}.")
    return dict(sorted(found.values()))


def _by_id(files: Mapping[Path, Path], ids: str) -> dict[str, Path]:
    """Files of `_find` by their names, or by their paths below their folders."""
    rule = "file names" if ids == "name" else "paths below the folders that are named,"
    elsewhere = "rename one, or call them by their paths: --recording-ids path."
    if ids == "path":
        elsewhere = "name the folder above both instead, or rename one."
    found: dict[str, Path] = {}
    for path, folder in files.items():
        below = path.relative_to(folder).parent if ids == "path" else Path()
        other = found.setdefault((below / path.stem).as_posix(), path)
        if other is not path:
            advice = "rename or remove one." if other.parent == path.parent else elsewhere
            raise UserError(
                f"Recordings must differ in their {rule} without extension. "
                f"Found {other} and {path}; {advice}"
            )
    return found


def _as_named(files: Mapping[Path, Path], named: Iterable[str]) -> dict[str, Path]:
    named, by_path = set(named), _by_id(files, "path")
    with_name = Counter(path.stem for path in files)
    found = {
        id_ if id_ in named or with_name[path.stem] > 1 else path.stem: path
        for id_, path in by_path.items()
    }
    for id_, path in found.items():
        if path.stem in named and path.stem not in found:
            raise UserError(
                "A recording must be called by its path where another one has the same name, or "
                f"other rows call it so. Received: {path.stem}, which may be {path}; write {id_}."
            )
    return found


def _is_audio(path: Path) -> bool:
    # macOS leaves "._name.flac", which holds no sound, beside files on foreign disks.
    hidden = path.name.startswith(".")
    return path.suffix.lower() in AUDIO_EXTENSIONS and not hidden and path.is_file()


def _begins_like_sound(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(12)
    except OSError:
        return False
    return holds_sound(start)
