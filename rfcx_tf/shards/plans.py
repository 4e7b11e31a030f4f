"""Writing a folder of shards in resumable steps, whatever its crops are cut by.

A plan names a shard and its recordings. A finished shard has a receipt, a small JSON file beside
it: the rows of the index, what was left out, and size and time of the last change of every
recording. An interrupted run goes on where it was, and the same command makes again what is
damaged, lacks something or is of sound that has changed, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.documents import read_json, sealed_json
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.core.threads import map_ahead
from rfcx_tf.shards.records import (
    Crop,
    DamagedShard,
    DamagedShards,
    Manifest,
    ShardReader,
    check_shard,
    write_shard,
)

# Bytes and time of the last change in nanoseconds, of the file that a recording is in.
Sound = Mapping[str, list[int]]


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be made: its file name, and its recordings, all of one fold."""

    name: str
    recording_ids: list[str]


def plan_shards(
    recording_ids: Iterable[str], fold_of: dict[str, int], per_shard: int
) -> list[ShardPlan]:
    """Deals recordings out to shards, fold by fold; fold -1 is for those that have none."""
    by_fold: dict[int, list[str]] = {}
    for name in sorted(recording_ids):
        by_fold.setdefault(fold_of[name], []).append(name)
    plans = []
    for fold, ids in sorted(by_fold.items()):
        prefix = f"fold{fold}" if fold >= 0 else "no-fold"
        for number, first in enumerate(range(0, len(ids), per_shard)):
            name = f"{prefix}-{number:04d}.tfrecord"
            plans.append(ShardPlan(name, ids[first : first + per_shard]))
    return plans


def identify(parts: list[str]) -> str:
    """A short text that differs between shards of which any part differs."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def open_plan(out_dir: Path, plan_id: str) -> None:
    """Checks that the folder may be written, and says in it of which plan it is.

    Raises:
        UserError: if it holds shards of another plan or something else.
    """
    path = out_dir / "plan.txt"
    if path.exists():
        if path.read_bytes().strip() != plan_id.encode():
            raise UserError(
                f"A folder holds the shards of one data set and recipe. {out_dir} holds those of "
                "another, or its plan.txt is damaged. Name another --out."
            )
        return
    if out_dir.exists() and (not out_dir.is_dir() or _holds_something(out_dir)):
        raise UserError(
            f"Shards go into a new or empty folder. {out_dir} holds something else. "
            "Name another --out."
        )
    atomic_write_text(path, plan_id)


def _holds_something(folder: Path) -> bool:
    """Whether there is more than a lock and what a killed command left as it began."""
    return any(not path.name.startswith(".rfcx-tf-") for path in folder.iterdir())


def look_at_sound(sources: Mapping[str, AudioSource]) -> dict[str, list[int]]:
    """Size and time of the last change of recordings; those that cannot be looked at have none."""
    found, sound = {}, {}
    for name, source in sources.items():
        if source.path not in found:
            try:
                status = source.path.stat()
                found[source.path] = [status.st_size, status.st_mtime_ns]
            except OSError:
                found[source.path] = []
        sound[name] = found[source.path]
    return sound


def read_complete(
    plans: list[ShardPlan], out_dir: Path, sound: Sound, report: Callable[[str], None] = print
) -> Manifest | None:
    """The manifest of a folder to which nothing has to be done.

    Otherwise the folder becomes an incomplete one, for `write_plans`: if something was left out of
    it, is damaged, or is of sound that has changed since. Earlier versions kept no receipts, so of
    theirs only damage shows.

    Args:
        plans: all shards of the folder.
        out_dir: the folder.
        sound: the recordings as they are now, see `look_at_sound`.
        report: takes a line at a time.
    """
    path = out_dir / "manifest.json"
    if not path.exists():
        return None
    try:
        reader = ShardReader(out_dir)
        if not any(_receipt_path(out_dir, plan).exists() for plan in plans):
            reader.check(np.arange(len(reader.index)))
            return reader.manifest
        if all(_why_again(plan, out_dir, sound) is None for plan in plans):
            return reader.manifest
    except DamagedShards as error:
        report(f"Made again: {error.what}")
    path.unlink()
    return None


def write_plans(
    plans: list[ShardPlan],
    cut: Callable[[str], tuple[Iterable[Crop], list[str], list[str]]],
    out_dir: Path,
    sound: Sound,
    *,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Writes the shards that are not there yet or have to be made again, and then `index.csv`.

    Args:
        plans: all shards of the folder.
        cut: makes all crops of a recording, one after the other as they are written, and says in
            words what it left out, and what is to be said of a recording that was used whole.
        out_dir: folder of the shards.
        sound: the recordings as they are now, see `look_at_sound`.
        workers: recordings that are worked on at once; None: one a core.
        progress: whether to show a progress bar.
        report: takes a line at a time, on what is made again.

    Returns:
        The index, what was left out, and what is to be said.

    Raises:
        UserError: if no crop at all could be made.
    """
    todo = []
    for plan in plans:
        why = _why_again(plan, out_dir, sound)
        if why is not None:
            todo.append(plan)
            if why:
                report(f"Made again: {out_dir / plan.name} {why}.")
    total = sum(len(plan.recording_ids) for plan in plans)
    bar = progress_bar(total=total, unit="recording", shown=progress, desc="shards")
    bar.update(total - sum(len(plan.recording_ids) for plan in todo))
    with bar:
        for plan in todo:
            said = {"skipped": [], "remarks": []}
            results = map_ahead(cut, plan.recording_ids, workers or os.cpu_count())
            index = write_shard(out_dir / plan.name, _crops(results, said, bar))
            receipt = said | {
                "sound": {name: sound[name] for name in plan.recording_ids},
                "rows": index.to_dict("records"),
            }
            atomic_write_text(_receipt_path(out_dir, plan), sealed_json(receipt))
    receipts = [read_json(_receipt_path(out_dir, plan), "The receipt") for plan in plans]
    index = pd.DataFrame([row for receipt in receipts for row in receipt["rows"]])
    skipped = [text for receipt in receipts for text in receipt["skipped"]]
    remarks = [text for receipt in receipts for text in receipt.get("remarks", [])]
    if index.empty:
        reason = f" The first problem: {skipped[0]}" if skipped else ""
        raise UserError(f"No crop could be made for {out_dir}.{reason}")
    with atomic_file(out_dir / "index.csv") as temporary:
        index.to_csv(temporary, index=False)
    return index, skipped, remarks


def _crops(results: Iterable, said: dict[str, list[str]], bar: tqdm) -> Iterator[Crop]:
    """The crops of one recording after the other; what is said of them goes to `said`."""
    for own_crops, own_skipped, own_remarks in results:
        said["skipped"] += own_skipped
        said["remarks"] += own_remarks
        yield from own_crops
        bar.update()


def shard_sizes(plans: list[ShardPlan], out_dir: Path) -> dict[str, int]:
    """Bytes of every shard by name, for the manifest."""
    return {plan.name: (out_dir / plan.name).stat().st_size for plan in plans}


def _why_again(plan: ShardPlan, out_dir: Path, sound: Sound) -> str | None:
    """Why a shard has to be made again; nothing to tell where it is not finished; None: it is."""
    path, shard = _receipt_path(out_dir, plan), out_dir / plan.name
    if not (path.exists() and shard.exists()):
        return ""
    try:
        receipt = read_json(path, "The receipt")
        rows = pd.DataFrame(receipt["rows"], columns=["offset", "length"])
        # Earlier versions did not look at the sound.
        before = receipt.get("sound", {})
        changed = [name for name in before if before[name] != sound.get(name)]
        if changed:
            return f"is of sound that has changed since: {first_few(changed)}"
        if receipt["skipped"]:
            return ""
        check_shard(shard, rows["offset"].to_numpy(), rows["length"].to_numpy())
    except DamagedShard as error:
        return f"is damaged at record {error.record + 1}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"is there, but its receipt {path.name} is damaged"
    return None


def _receipt_path(out_dir: Path, plan: ShardPlan) -> Path:
    return (out_dir / plan.name).with_suffix(".json")
