"""Files beside the list of their checksums."""

import hashlib
import json

import numpy as np
import pytest
from refused import refused

from rfcx_tf.core.arrays import DamagedArrays, read_arrays
from rfcx_tf.core.checksums import checked, forget_checksums, write_checksums


def test_a_file_that_is_not_as_it_was_written_is_refused(tmp_path):
    for name in ("a.h5", "b.csv", "c.csv"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path, ["a.h5", "b.csv"])
    sums = json.loads((tmp_path / "checksums.json").read_text())
    assert sums["a.h5"] == hashlib.sha256(b"a.h5").hexdigest()
    (tmp_path / "a.h5").write_text("a.h4")
    message = refused(checked, tmp_path / "a.h5", "Train again.")
    assert str(tmp_path / "a.h5") in message and message.endswith("Train again.")
    # As it was, of no list, and of a folder without.
    assert checked(tmp_path / "b.csv", "") == tmp_path / "b.csv"
    assert checked(tmp_path / "c.csv", "") == tmp_path / "c.csv"
    forget_checksums(tmp_path)
    assert checked(tmp_path / "a.h5", "") == tmp_path / "a.h5"
    (tmp_path / "checksums.json").write_text("[]")
    assert "checksums.json" in refused(checked, tmp_path / "b.csv", "")


def test_no_flipped_bit_gives_other_arrays(tmp_path):
    """Also not in the zip file's own fields, of which `numpy.load` misses some."""
    path = tmp_path / "a.npz"
    arrays = {"key": np.array("k"), "scores": np.arange(3.0)}
    np.savez(path, **arrays)
    whole, refusals = path.read_bytes(), 0
    for bit in range(0, 8 * len(whole), 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(content)
        try:
            found = read_arrays(path)
        except (DamagedArrays, OSError):
            refusals += 1
            continue
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    # Times and padding are of no matter.
    assert refusals > len(whole)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")
