"""Arrays in .npz files, which are read whole: the checksum of each is compared before it counts."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

# Of the record that a zip file ends with: entries on this disk, and in all.
_END_BYTES, _COUNTS = 22, struct.Struct("<8xHH10x")


class DamagedArrays(ValueError):
    """A file of arrays that does not match its checksums; the message says why, in a clause."""


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays in an .npz file by name.

    `numpy.load` makes an array of what a header asks for before it has seen a checksum.

    Raises:
        OSError: if the file cannot be read.
        DamagedArrays: if it is no .npz file or does not match its checksums.
    """
    arrays = {}
    try:
        with Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            file.seek(-_END_BYTES, io.SEEK_END)
            # A flipped bit in the length of an entry's comment swallows the entries behind it.
            if set(_COUNTS.unpack(file.read())) != {len(names)}:
                raise ValueError("its directory lacks entries")
            for name in names:
                content = io.BytesIO(archive.read(name))
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(
                    content, allow_pickle=False
                )
    # zipfile has no error of its own for flags, methods and versions that make no sense.
    except (
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split())
        raise DamagedArrays(f"{reason:.200}" or type(error).__name__) from None
    return arrays
