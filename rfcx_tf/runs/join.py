"""Folds of one recipe that were trained in several run folders -> one run folder."""

from __future__ import annotations

import filecmp
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from rfcx_tf.core.checksums import forget_checksums
from rfcx_tf.core.config import differences, save_config
from rfcx_tf.core.documents import read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text, temporary_folder
from rfcx_tf.runs.kept import OOF_CROPS, OOF_SCORES, keep_checksums, of_fold
from rfcx_tf.runs.run import RunFolder, holds_something_else

# Small files that no two trainings have alike: the first holds their seconds.
_TELLING_FILES = ("done.json", OOF_CROPS, OOF_SCORES)


def join_folds(
    parts: Sequence[RunFolder], out: str | Path, report: Callable[[str], None] = print
) -> RunFolder:
    """Copies the finished folds of several runs into one, and joins their tables.

    A fold appears in `out` whole or not at all, so an interrupted join can be run again; folds
    that are there already stay. Every fold that is copied keeps the run.json of its part, which
    says where and with which versions it was trained.

    Args:
        parts: runs of one recipe on the same shards, wherever these lie.
        out: run folder, new or of the same recipe and shards.
        report: takes a line at a time.

    Returns:
        The joined run, with out-of-fold tables of all folds in it.

    Raises:
        UserError: if parts differ in recipe, classes, shards, pseudo-labels or in whether they
            began with another run, two have finished the same fold, none has finished any, or
            `out` holds something else. Nothing is written then.
    """
    out = Path(out)
    for part in parts:
        if part.kind != "detector":
            raise UserError(
                f"Folds of detectors are joined. {part.path} is a {part.kind}'s run: train all "
                "its folds in one."
            )
    for part in parts[1:]:
        _check_same_run(parts[0], part)
    joined = _open_joined(out)
    if joined is not None:
        _check_same_run(joined, parts[0])
    source = _sources(parts)
    if joined is not None:
        _check_kept_folds(joined, source)
    for part in parts:
        _report_unfinished(part, report)
    _report_differences(parts, report)
    if joined is None:
        joined = _begin(parts, out)
    for fold, part in sorted(source.items()):
        if fold in joined.finished_folds:
            report(f"Fold {fold} is there already.")
        else:
            _copy_fold(part, joined, fold)
            report(f"Fold {fold} copied from {part.path}.")
    join_out_of_fold(joined)
    return joined


def join_out_of_fold(run: RunFolder) -> None:
    """Joins the out-of-fold tables of all finished folds in the run folder.

    Raises:
        UserError: if one of them is damaged.
    """
    tables = {
        name: pd.concat(
            pd.read_csv(
                of_fold(run.fold(fold) / name), dtype={"recording_id": str}, keep_default_na=False
            )
            for fold in run.finished_folds
        )
        for name in (OOF_SCORES, OOF_CROPS)
    }
    forget_checksums(run.path)
    for name, table in tables.items():
        with atomic_file(run.path / name) as temporary:
            table.to_csv(temporary, index=False)
    keep_checksums(run.path)


def _check_same_run(first: RunFolder, other: RunFolder) -> None:
    """Refuses folds that are not of one run; where the shards lie does not matter."""

    def refuse(key: str, one: object, two: object, more: int = 0):
        raise UserError(
            f"Folds of one run have one recipe, the same shards and classes. {key} is {one} in "
            f"{first.path} and {two} in {other.path}{f' (and {more} more)' if more else ''}. "
            "Join only folds that were trained alike."
        )

    changed = differences(first.config.model_dump(), other.config.model_dump())
    if changed:
        refuse(*changed[0], more=len(changed) - 1)
    classes = [
        ", ".join(f"{c.column} {c.name}" for c in run.info.classes) for run in (first, other)
    ]
    if classes[0] != classes[1]:
        refuse("The class list", *classes)
    if first.info.shards_id != other.info.shards_id:
        refuse("shards_id", first.info.shards_id, other.info.shards_id)
    if first.info.pseudo_id != other.info.pseudo_id:
        refuse("pseudo_id", *(run.info.pseudo_id or "none" for run in (first, other)))
    # The same run may lie elsewhere on another machine, so one path tells nothing of another.
    if bool(first.info.start) != bool(other.info.start):
        refuse("start", *(run.info.start or "none" for run in (first, other)))


def _open_joined(out: Path) -> RunFolder | None:
    """The run that an earlier join left, if there is one."""
    if (out / "run.json").exists():
        return RunFolder.open(out)
    if out.exists() and (not out.is_dir() or holds_something_else(out)):
        raise UserError(
            f"Folds are joined in a new, empty or joined run folder. {out} holds something else. "
            "Name another --out."
        )
    return None


def _sources(parts: Sequence[RunFolder]) -> dict[int, RunFolder]:
    """The part that each finished fold comes from."""
    source: dict[int, RunFolder] = {}
    for part in parts:
        for fold in part.finished_folds:
            if fold in source:
                raise UserError(
                    f"A fold is taken from one part. Fold {fold} is finished in both "
                    f"{source[fold].path} and {part.path}. Leave one of them out."
                )
            source[fold] = part
    if not source:
        raise UserError(
            "A join needs at least one finished fold. There is none in "
            f"{', '.join(str(part.path) for part in parts)}. Run rfcx-tf train to its end."
        )
    return source


def _check_kept_folds(joined: RunFolder, source: dict[int, RunFolder]) -> None:
    """Refuses to mix up a fold that is in the joined run with another training of it."""
    for fold, part in source.items():
        kept, given = joined.fold(fold), part.fold(fold)
        if not kept.exists():
            continue
        if fold not in joined.finished_folds:
            raise UserError(
                f"A joined run holds whole folds. {kept} is there and not finished, and {given} "
                "is. Delete the first or name another --out."
            )
        if not all(filecmp.cmp(kept / f, given / f, shallow=False) for f in _TELLING_FILES):
            raise UserError(
                f"A fold is taken from one part. {kept} is there and of another training than "
                f"{given}. Leave {part.path} out or name another --out."
            )


def _report_unfinished(part: RunFolder, report: Callable[[str], None]) -> None:
    begun = [k for k in range(part.config.training.folds) if part.fold(k).exists()]
    for fold in begun:
        if fold not in part.finished_folds:
            report(f"Left out: {part.fold(fold)} is not finished.")
    if not begun:
        report(f"Left out: {part.path} has no fold.")


def _report_differences(parts: Sequence[RunFolder], report: Callable[[str], None]) -> None:
    """Says what differs and may do so: versions, and where the run lies that folds began with."""
    first = parts[0]
    for part in parts[1:]:
        changed = differences(
            first.info.versions | {"start": first.info.start},
            part.info.versions | {"start": part.info.start},
        )
        if changed:
            found = ", ".join(f"{name} {one} and {two}" for name, one, two in changed)
            report(f"{first.path} and {part.path} differ in {found}.")


def _begin(parts: Sequence[RunFolder], out: Path) -> RunFolder:
    info = read_json(parts[0].path / "run.json", "The record of a run")
    info["command"] = " ".join(sys.argv)
    with atomic_file(out / "config.yaml") as temporary:
        save_config(parts[0].config, temporary)
    atomic_write_text(out / "run.json", sealed_json(info, indent=1))
    return RunFolder.open(out)


def _copy_fold(part: RunFolder, joined: RunFolder, fold: int) -> None:
    with temporary_folder(joined.path) as temporary:
        copy = Path(shutil.copytree(part.fold(fold), temporary / f"fold{fold}"))
        if not (copy / "run.json").exists():
            shutil.copyfile(part.path / "run.json", copy / "run.json")
        copy.rename(joined.fold(fold))
