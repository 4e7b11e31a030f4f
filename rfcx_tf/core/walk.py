"""A folder -> all files in it and its subfolders, and what could not be searched."""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from rfcx_tf.core.storage import StoredFile

# Folders of deleted files and of a system's own, in small letters; others begin with a dot.
_SYSTEM_FOLDERS = {
    *("$recycle.bin", "recycler", "recycled", "#recycle", "@recycle", "network trash folder"),
    *("@eadir", "lost+found", "system volume information"),
}


@dataclass
class Walk:
    """What is in a folder.

    Attributes:
        files: sorted.
        hidden: files with a dot before their names (macOS leaves "._name.wav" beside files on
            foreign disks), and all in a trash or another hidden folder; sorted.
        unsearched: a line for every folder that cannot be searched, every link that leads nowhere,
            and what is neither file nor folder.
    """

    files: list[Path | StoredFile] = field(default_factory=list)
    hidden: list[Path | StoredFile] = field(default_factory=list)
    unsearched: list[str] = field(default_factory=list)


def walk(folder: Path | StoredFile) -> Walk:
    """Searches a folder with its subfolders; links are followed, and every folder comes once.

    A folder has its own path if it lies below `folder`, else that of the first link to it.
    """
    if isinstance(folder, StoredFile):
        return _walk_stored(folder)
    found, visited = Walk(), set()
    # Links wait for folders, and what is hidden for both, so that they do not take their place.
    folders, links, hidden = deque([folder]), deque(), deque()
    while waiting := folders or links or hidden:
        is_hidden = waiting is hidden
        here = waiting.popleft()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            if not is_hidden:
                found.unsearched.append(f"{here} cannot be searched: {error.strerror}.")
            continue
        for path in map(here.joinpath, names):
            hides = is_hidden or path.name.startswith(".")
            try:
                mode = path.stat().st_mode
            except OSError as error:
                what = "is a link that leads nowhere" if os.path.islink(path) else "cannot be read"
                if not hides:
                    found.unsearched.append(f"{path} {what}: {error.strerror}.")
                continue
            if stat.S_ISDIR(mode):
                hides = hides or path.name.lower() in _SYSTEM_FOLDERS
                (hidden if hides else links if os.path.islink(path) else folders).append(path)
            elif stat.S_ISREG(mode):
                (found.hidden if hides else found.files).append(path)
            elif not hides:
                found.unsearched.append(f"{path} is neither a file nor a folder.")
    found.files.sort()
    found.hidden.sort()
    return found


def _walk_stored(folder: StoredFile) -> Walk:
    """Of a store, which has files alone: their names say which folders they are in.

    Raises:
        OSError: if there is none, or the store does not list it.
    """
    found = Walk()
    for file in folder.files():
        *folders, name = file.relative_to(folder).parts
        hides = name.startswith(".") or any(
            part.startswith(".") or part.lower() in _SYSTEM_FOLDERS for part in folders
        )
        (found.hidden if hides else found.files).append(file)
    return found
