"""No flipped bit gives another result: the harness of docs/robustness.md, on some dozens."""

import shutil
from pathlib import Path

import numpy as np

from benchmarks.damage import (
    AGAIN,
    ANOTHER,
    OUTCOMES,
    REFUSED,
    SAME,
    TRACEBACK,
    Target,
    flip_bits,
    kept_result_targets,
    outcome,
    shard_targets,
    small_file_targets,
    table_of,
)
from rfcx_tf.core.errors import UserError

FLIPS = 4


def test_no_flipped_bit_gives_another_result(tiny_shards, tmp_path):
    """Of files that are quick to read. Those of runs are flipped in tests/runs/test_run.py."""
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    targets = [
        *(t for t in shard_targets(shards, make=None) if t.mend is None),
        *kept_result_targets(tmp_path),
        *small_file_targets(tmp_path, ["s2", "s5", "s9"]),
    ]
    random = np.random.default_rng(0)
    found = {target.name: flip_bits(target, FLIPS, random) for target in targets}
    assert len(found) == 11
    for counts in found.values():
        assert counts.total() == FLIPS
        assert counts[TRACEBACK] == counts[ANOTHER] == 0
        # Padding and times of a file are of no matter, most of its bytes are.
        assert counts[REFUSED] + counts[AGAIN] >= FLIPS / 2


def test_outcomes_are_told_from_each_other(tmp_path, capsys):
    """By a file of a byte whose reader does each of it in turn."""
    path = tmp_path / "a"
    path.write_bytes(b"@")

    def read():
        content = path.read_bytes()
        match ord("@") ^ content[0]:
            case 0 | 1:
                return "same", False
            case 2:
                return "same", True
            case 4:
                raise UserError("One line.")
            case 8:
                raise UserError("Two\nlines.")
            case 16:
                raise KeyError
            case _:
                return content.hex(), False

    target = Target("a", [path], read)
    counts = flip_bits(target, 400, np.random.default_rng(0))
    assert set(counts) == set(OUTCOMES) and counts.total() == 400
    # Eight bits, of which two end in a traceback and two in another result.
    assert counts[TRACEBACK] > counts[SAME] and counts[ANOTHER] > counts[AGAIN]
    assert path.read_bytes() == b"@"
    assert outcome(target, "same") == SAME
    assert "| a | 400 |" in table_of({"a": counts})
    capsys.readouterr()
