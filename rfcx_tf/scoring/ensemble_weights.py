"""The weighted mean of several runs' scores, and where the weights come from."""

from __future__ import annotations

import functools
import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from rfcx_tf.core.documents import DocumentError, read_yaml, sealed_yaml
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text

_HEADER = "# Made by rfcx-tf ensemble, for --weights of rfcx-tf predict and export.\n"


def combine_scores(scores: Sequence, weights: Sequence[float]):
    """The weighted mean of the members' scores.

    Args:
        scores: of every member, arrays or tensors [..., classes] of one floating type.
        weights: of every member, in the same order, that sum to 1.

    Returns:
        [..., classes], of the type of the scores; in [0, 1] if those are.
    """
    weighted = (own * float(weight) for own, weight in zip(scores, weights, strict=True))
    return functools.reduce(operator.add, weighted)


def member_names(paths: Sequence[str | Path]) -> list[str]:
    """What members are called: the names of their folders, wherever these are."""
    return [os.path.basename(os.path.abspath(path)) for path in paths]


def write_weights(path: str | Path, names: Sequence[str], weights: Sequence[float]) -> None:
    """Writes sealed YAML, `members: [{run: NAME, weight: 0.5}, ...]`, with four digits."""
    members = [
        {"run": name, "weight": round(float(weight), 4)}
        for name, weight in zip(names, weights, strict=True)
    ]
    text = _HEADER + yaml.safe_dump({"members": members}, sort_keys=False)
    atomic_write_text(path, sealed_yaml(text))


def choose_weights(given: Sequence[str] | None, runs: Sequence[str | Path]) -> list[float]:
    """The weights that `--weights` means.

    Args:
        given: one number a run, or the path of one file of `write_weights`, which finds runs by
            the names of their folders; None for equal weights.
        runs: folders of the members.

    Returns:
        A weight for every run, in their order; scaled to a sum of 1.

    Raises:
        UserError: if there is not one number a run, one is negative or not finite or all are
            zero, or the file cannot be read or is of other runs.
    """
    if not given:
        return [1 / len(runs)] * len(runs)
    where = "--weights"
    try:
        weights = [float(text) for text in given]
    except ValueError:
        where = given[0]
        weights = _read_weights(where, runs) if len(given) == 1 else []
    if len(weights) != len(runs):
        raise UserError(
            "--weights takes one number for every run, or the file that rfcx-tf ensemble wrote. "
            f"Received: {' '.join(given)} for {len(runs)} run(s)."
        )
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
        raise UserError(
            "Weights must be finite and not negative, and one must be above 0. "
            f"Found in {where}: {' '.join(f'{w:g}' for w in weights)}."
        )
    return [weight / sum(weights) for weight in weights]


def _read_weights(path: str, runs: Sequence[str | Path]) -> list[float]:
    try:
        members = read_yaml(path, "The weights file")["members"]
        weights = {str(member["run"]): float(member["weight"]) for member in members}
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror}.") from None
    except DocumentError:
        raise
    except (TypeError, KeyError, ValueError):
        raise UserError(
            "A weights file is YAML with members, each a run and a weight, as `ensemble` writes "
            f"it. {path} is not one."
        ) from None
    names = member_names(runs)
    if len(weights) != len(members) or sorted(names) != sorted(weights):
        raise UserError(
            f"Weights must be of the runs that are combined. {path} has those of "
            f"{', '.join(weights) or 'none'}; --run names {', '.join(names)}."
        )
    return [weights[name] for name in names]
