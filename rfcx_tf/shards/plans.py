"""Writing a folder of shards in resumable steps, whatever its crops are cut by.

A plan names a shard and its recordings. A finished shard has a receipt, a small JSON file,
beside it until the manifest is written, so an interrupted run goes on where it was. Where something
was left out the receipts stay, so that it can be tried again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.threads import map_ahead
from rfcx_tf.shards.records import Crop, Manifest, ShardReader, write_manifest, write_shard


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


def open_plan(out_dir: Path, plan_id: str) -> Manifest | None:
    """The manifest if the folder is complete; else checks that the folder may be written.

    Raises:
        UserError: if it holds shards of another plan, something else, or damaged shards.
    """
    path = out_dir / "plan.txt"
    if path.exists():
        if path.read_text(encoding="utf-8").strip() != plan_id:
            raise UserError(
                f"A folder holds the shards of one data set and recipe. {out_dir} holds those of "
                "another. Name another --out or delete the folder."
            )
        return ShardReader(out_dir).manifest if (out_dir / "manifest.json").exists() else None
    if out_dir.exists() and (not out_dir.is_dir() or _holds_something(out_dir)):
        raise UserError(
            f"Shards go into a new or empty folder. {out_dir} holds something else. "
            "Name another --out."
        )
    atomic_write_text(path, plan_id)
    return None


def _holds_something(folder: Path) -> bool:
    """Whether there is more than a lock and what a killed command left as it began."""
    return any(not path.name.startswith(".rfcx-tf-") for path in folder.iterdir())


def try_again(plans: list[ShardPlan], finished: Manifest, out_dir: Path) -> bool:
    """Makes a complete folder an incomplete one if something was left out of it.

    Returns:
        Whether there is something and all receipts, which earlier versions did not keep.
    """
    if not finished.skipped:
        # Of a command that was killed after its last step but one.
        _remove_receipts(plans, out_dir)
        return False
    if not all(_receipt_path(out_dir, plan).exists() for plan in plans):
        return False
    (out_dir / "manifest.json").unlink()
    return True


def write_plans(
    plans: list[ShardPlan],
    cut: Callable[[str], tuple[Iterable[Crop], list[str], list[str]]],
    out_dir: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Writes the shards that are not there yet or lack something, and then `index.csv`.

    Args:
        plans: all shards of the folder.
        cut: makes all crops of a recording, one after the other as they are written, and says in
            words what it left out, and what is to be said of a recording that was used whole.
        out_dir: folder of the shards.
        workers: recordings that are worked on at once; None: one a core.
        progress: whether to show a progress bar.

    Returns:
        The index, what was left out, and what is to be said.

    Raises:
        UserError: if no crop at all could be made.
    """
    todo = [plan for plan in plans if not _is_whole(plan, out_dir)]
    total = sum(len(plan.recording_ids) for plan in plans)
    bar = tqdm(total=total, unit="recording", disable=not progress, desc="shards")
    bar.update(total - sum(len(plan.recording_ids) for plan in todo))
    with bar:
        for plan in todo:
            said = {"skipped": [], "remarks": []}
            results = map_ahead(cut, plan.recording_ids, workers or os.cpu_count())
            index = write_shard(out_dir / plan.name, _crops(results, said, bar))
            receipt = said | {"rows": index.to_dict("records")}
            atomic_write_text(_receipt_path(out_dir, plan), json.dumps(receipt))
    receipts = [json.loads(_receipt_path(out_dir, plan).read_text()) for plan in plans]
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


def finish_plans(plans: list[ShardPlan], manifest: Manifest, out_dir: Path) -> None:
    """Writes the manifest, with which the folder is complete."""
    write_manifest(manifest, out_dir)
    if not manifest.skipped:
        _remove_receipts(plans, out_dir)


def shard_sizes(plans: list[ShardPlan], out_dir: Path) -> dict[str, int]:
    """Bytes of every shard by name, for the manifest."""
    return {plan.name: (out_dir / plan.name).stat().st_size for plan in plans}


def _is_whole(plan: ShardPlan, out_dir: Path) -> bool:
    receipt = _receipt_path(out_dir, plan)
    if not (receipt.exists() and (out_dir / plan.name).exists()):
        return False
    return not json.loads(receipt.read_text())["skipped"]


def _remove_receipts(plans: list[ShardPlan], out_dir: Path) -> None:
    for plan in plans:
        _receipt_path(out_dir, plan).unlink(missing_ok=True)


def _receipt_path(out_dir: Path, plan: ShardPlan) -> Path:
    return (out_dir / plan.name).with_suffix(".json")
