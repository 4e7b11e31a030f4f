"""A list of variants of a recipe -> one table of what each is worth.

Every variant is trained on the same folds with the same seeds, so differences are taken pair
by pair. Each training is a process of its own; what is finished is not done again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic
import yaml

from rfcx_tf.config import Config, PredictionConfig, differences, load_config, save_config
from rfcx_tf.errors import InputError
from rfcx_tf.files import atomic_file, atomic_write_text
from rfcx_tf.inference.evaluation import evaluate_scores
from rfcx_tf.inference.tables import read_scores
from rfcx_tf.run_folder import RunFolder

_PROJECT = Path(__file__).resolve().parents[2]


class Plan(pydantic.BaseModel):
    """What an experiment file says.

    Attributes:
        config: the recipe that all variants start from, relative to the project.
        set: overrides for all variants.
        folds, seeds: every variant is trained on each pair.
        variants: overrides by name; the first variant is what the others are compared with.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    config: str
    set: list[str] = []
    folds: list[int]
    seeds: list[int]
    variants: dict[str, list[str]]


@dataclass(frozen=True)
class Trial:
    """One training: a variant, a seed and a fold."""

    variant: str
    seed: int
    fold: int
    config: Config


def read_plan(path: str | Path) -> Plan:
    """Reads an experiment file.

    Raises:
        InputError: if it cannot be read or says something else.
    """
    try:
        return Plan.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"The experiment {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, pydantic.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not an experiment file: {reason:.200}") from None


def list_trials(plan: Plan) -> list[Trial]:
    """All trials, seed by seed and fold by fold, so that a first row is complete early.

    Raises:
        ConfigError: if a variant is not a valid recipe.
    """
    return [
        Trial(
            variant,
            seed,
            fold,
            load_config(_PROJECT / plan.config, [*plan.set, *overrides, f"seed={seed}"]),
        )
        for seed in plan.seeds
        for fold in plan.folds
        for variant, overrides in plan.variants.items()
    ]


def run_trials(
    trials: list[Trial],
    data_dir: Path,
    truth: pd.DataFrame,
    out_dir: Path,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Trains and scores every trial that is not finished, and writes the tables as it goes.

    Args:
        trials: in the order in which they are run.
        data_dir: recordings and annotations.
        truth: complete truth of the recordings, for scoring only.
        out_dir: for shards, runs, `trials.csv` and `summary.md`.
        report: takes a line at a time.

    Returns:
        A row a trial: variant, seed, fold, lwlrap, chance, val_tp_log_loss, val_fp_log_loss,
        val_lrap, seconds.
    """
    rows = []
    for number, trial in enumerate(trials, start=1):
        run_dir = _run_dir(trial, out_dir)
        _check_recipe(trial, run_dir)
        if not (run_dir / f"fold{trial.fold}" / "done.json").exists():
            _reuse_weights(trial, trials[: number - 1], out_dir)
            _train(trial, run_dir, data_dir, out_dir)
        row = _score(trial, run_dir, truth)
        rows.append(row)
        report(
            f"[{number}/{len(trials)}] {trial.variant} seed {trial.seed} fold {trial.fold}: "
            f"LWLRAP {row['lwlrap']:.4f} ({row['seconds']:.0f} s)"
        )
        table = pd.DataFrame(rows)
        with atomic_file(out_dir / "trials.csv") as temporary:
            table.to_csv(temporary, index=False)
        atomic_write_text(out_dir / "summary.md", format_summary(summarise(table)))
    return table


def _run_dir(trial: Trial, out_dir: Path) -> Path:
    return out_dir / "runs" / f"{trial.variant}-seed{trial.seed}"


def _check_recipe(trial: Trial, run_dir: Path) -> None:
    """Refuses results of what a variant was called before the plan or its recipe changed."""
    if not (run_dir / "run.json").exists():
        return
    changed = differences(RunFolder.open(run_dir).config.model_dump(), trial.config.model_dump())
    if changed:
        key, old, new = changed[0]
        raise InputError(
            f"An experiment goes on with the recipes that it began with. {run_dir}: {key} was "
            f"{old}, is {new}. Name another --out, or delete that folder."
        )


def _reuse_weights(trial: Trial, finished: list[Trial], out_dir: Path) -> None:
    """Copies a finished training that differs in nothing but how it predicts, if there is one.

    The trial then goes on with it as with an interrupted one, and only predicts.
    """

    def training(one: Trial) -> tuple:
        return one.fold, one.config.model_copy(update={"prediction": PredictionConfig()})

    run_dir, fold = _run_dir(trial, out_dir), f"fold{trial.fold}"
    alike = [other for other in finished if training(other) == training(trial)]
    if not alike or (run_dir / fold).exists():
        return
    source = _run_dir(alike[0], out_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    if not (run_dir / "run.json").exists():
        info = json.loads((source / "run.json").read_text(encoding="utf-8"))
        info["command"] = f"weights of {source}"
        with atomic_file(run_dir / "config.yaml") as temporary:
            save_config(trial.config, temporary)
        atomic_write_text(run_dir / "run.json", json.dumps(info, indent=1))
    results = shutil.ignore_patterns("done.json", "oof_*.csv", "logs")
    with tempfile.TemporaryDirectory(prefix=".", dir=run_dir) as temporary_dir:
        copy = shutil.copytree(source / fold, Path(temporary_dir) / fold, ignore=results)
        copy.rename(run_dir / fold)


def _train(trial: Trial, run_dir: Path, data_dir: Path, out_dir: Path) -> None:
    config = trial.config
    folds = (config.training.folds, config.training.fold_seed)
    key = f"{config.frontend.model_dump()}{config.crops.model_dump()}{folds}{data_dir.resolve()}"
    shards = out_dir / "shards" / hashlib.sha256(key.encode()).hexdigest()[:12]
    recipe = out_dir / "recipes" / f"{trial.variant}-seed{trial.seed}.yaml"
    with atomic_file(recipe) as temporary:
        save_config(config, temporary)
    log = out_dir / "logs" / f"{trial.variant}-seed{trial.seed}-fold{trial.fold}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    commands = [["train.py", "--tfrecords", shards, "--run", run_dir, "--fold", trial.fold]]
    if not (shards / "manifest.json").exists():
        commands.insert(0, ["make_tfrecords.py", "--data", data_dir, "--out", shards])
    with log.open("a", encoding="utf-8") as output:
        for script, *arguments in commands:
            command = [
                sys.executable,
                _PROJECT / "scripts" / script,
                "--config",
                recipe,
                *arguments,
            ]
            done = subprocess.run([str(part) for part in command], stdout=output, stderr=output)
            # Status 1: done, but something was left out, which the log lists.
            if done.returncode not in (0, 1):
                raise InputError(
                    f"A trial must train to its end. {trial.variant}, seed {trial.seed}, fold "
                    f"{trial.fold} ended with status {done.returncode}; see {log}."
                )


def _score(trial: Trial, run_dir: Path, truth: pd.DataFrame) -> dict:
    run = RunFolder.open(run_dir)
    fold_dir = run.fold(trial.fold)
    scores = read_scores(fold_dir / "oof_scores.csv")
    held_out = truth[truth["recording_id"].isin(set(scores["recording_id"]))]
    evaluation = evaluate_scores(scores, held_out)
    summary = pd.read_json(fold_dir / "done.json", typ="series")
    return {
        "variant": trial.variant,
        "seed": trial.seed,
        "fold": trial.fold,
        "lwlrap": evaluation.lwlrap,
        "chance": evaluation.chance,
        **{name: summary[name] for name in ("val_tp_log_loss", "val_fp_log_loss", "val_lrap")},
        "seconds": summary["seconds"],
    }


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """A row a variant, best first.

    Returns:
        variant; trials; lwlrap and sd, mean and standard deviation over trials; difference,
        the mean difference to the first variant over the (seed, fold) pairs that both have,
        and its standard error; seconds, mean.
    """
    first = table["variant"].iloc[0]
    wide = table.pivot_table(index=["seed", "fold"], columns="variant", values="lwlrap")
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        pairs = (wide[variant] - wide[first]).dropna()
        several = len(pairs) > 1 and variant != first
        rows.append(
            {
                "variant": variant,
                "trials": len(own),
                "lwlrap": own["lwlrap"].mean(),
                "sd": own["lwlrap"].std() if len(own) > 1 else np.nan,
                "difference": np.nan if variant == first else pairs.mean(),
                "standard_error": pairs.std() / np.sqrt(len(pairs)) if several else np.nan,
                "seconds": own["seconds"].mean(),
            }
        )
    return pd.DataFrame(rows).sort_values("lwlrap", ascending=False, ignore_index=True)


def format_summary(summary: pd.DataFrame) -> str:
    """The summary as a Markdown table."""

    def cell(value: object, sign: str = "") -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:{sign}.4f}"
        return str(value)

    lines = [
        "| variant | trials | LWLRAP | sd | difference | standard error | s a training |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary.itertuples(index=False):
        cells = [
            row.variant,
            str(row.trials),
            cell(row.lwlrap),
            cell(row.sd),
            cell(row.difference, "+"),
            cell(row.standard_error),
            f"{row.seconds:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def log_hparams(table: pd.DataFrame, trials: list[Trial], out_dir: Path) -> None:
    """Writes every trial to TensorBoard's HParams page under `out_dir`/hparams."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp

    for trial, row in zip(trials, table.to_dict("records"), strict=True):
        folder = out_dir / "hparams" / f"{trial.variant}-seed{trial.seed}-fold{trial.fold}"
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default():
            hp.hparams({"variant": trial.variant, "seed": trial.seed, "fold": trial.fold})
            for name in ("lwlrap", "val_tp_log_loss", "val_fp_log_loss", "val_lrap", "seconds"):
                tf.summary.scalar(name, row[name], step=0)
        writer.close()
