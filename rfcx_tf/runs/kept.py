"""Files of a run that results come from, compared with their checksums before they are used."""

from __future__ import annotations

from pathlib import Path

from rfcx_tf.core.checksums import checked, write_checksums

OOF_CROPS, OOF_SCORES = "oof_crops.csv", "oof_scores.csv"
_FILES = ("detector.weights.h5", "regressions.npz", OOF_CROPS, OOF_SCORES)


def keep_checksums(folder: Path) -> None:
    """Lists the checksums of what a run or a fold keeps, when all of it is written."""
    write_checksums(folder, [name for name in _FILES if (folder / name).exists()])


def of_fold(path: Path) -> Path:
    """A file of a fold, if it is as it was written or of an earlier version.

    Raises:
        UserError: if it is damaged.
    """
    return checked(path, again(path.parent))


def of_run(path: Path) -> Path:
    """A table of all folds of a run, if it is as it was written or of an earlier version.

    Raises:
        UserError: if it is damaged.
    """
    return checked(
        path, "Run the training again as it was: it joins the tables of the folds again."
    )


def again(fold: Path) -> str:
    """How to come by a fold that is damaged."""
    return (
        f"Copy the fold again, or move {fold} out of the run and run the training again as it was: "
        "it trains that fold and keeps the others."
    )
