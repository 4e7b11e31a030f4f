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

from rfcx_tf.core.config import Config, PredictionConfig, differences, load_config, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.score_table import read_scores

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
        UserError: if it cannot be read or says something else.
    """
    try:
        return Plan.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"The experiment {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, pydantic.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not an experiment file: {reason:.200}") from None


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


def select_trials(
    trials: list[Trial],
    variants: list[str] | None = None,
    folds: list[int] | None = None,
    seeds: list[int] | None = None,
) -> list[Trial]:
    """The trials of these variants, folds and seeds, in the plan's order; None is all.

    Raises:
        UserError: if the plan has none of a name or number.
    """
    kept = trials
    for key, wanted in (("variant", variants), ("fold", folds), ("seed", seeds)):
        if wanted is None:
            continue
        known = list(dict.fromkeys(getattr(trial, key) for trial in trials))
        unknown = [str(value) for value in wanted if value not in known]
        if unknown:
            raise UserError(
                f"A chosen {key} must be one of the plan's. It has no {', '.join(unknown)}; "
                f"it has {', '.join(map(str, known))}."
            )
        kept = [trial for trial in kept if getattr(trial, key) in wanted]
    return kept


def run_trials(
    trials: list[Trial],
    data_dir: Path,
    truth: pd.DataFrame,
    out_dir: Path,
    chosen: list[Trial] | None = None,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Trains every chosen trial that is not finished, scores it, and writes the tables.

    Args:
        trials: the whole plan; `trials.csv` and `summary.md` hold whatever of it is finished.
        data_dir: recordings and annotations.
        truth: complete truth of the recordings, for scoring only.
        out_dir: for shards, runs and tables.
        chosen: those to train now, in this order; None is all.
        report: takes a line at a time.

    Returns:
        A row a finished trial: variant, seed, fold, lwlrap, chance, val_tp_log_loss,
        val_fp_log_loss, val_lrap, seconds.
    """
    chosen = trials if chosen is None else chosen
    for trial in trials:
        _check_recipe(trial, _run_dir(trial, out_dir))
    rows = {trial: _score(trial, out_dir, truth) for trial in trials if _done(trial, out_dir)}
    for number, trial in enumerate(chosen, start=1):
        if trial not in rows:
            _reuse_weights(trial, list(rows), out_dir)
            _train(trial, data_dir, out_dir)
            rows[trial] = _score(trial, out_dir, truth)
        report(
            f"[{number}/{len(chosen)}] {trial.variant} seed {trial.seed} fold {trial.fold}: "
            f"LWLRAP {rows[trial]['lwlrap']:.4f} ({rows[trial]['seconds']:.0f} s)"
        )
        table = pd.DataFrame([rows[trial] for trial in trials if trial in rows])
        with atomic_file(out_dir / "trials.csv") as temporary:
            table.to_csv(temporary, index=False)
        summary = summarise(table, reference=trials[0].variant)
        atomic_write_text(out_dir / "summary.md", format_summary(summary))
    return table


def _done(trial: Trial, out_dir: Path) -> bool:
    return (_run_dir(trial, out_dir) / f"fold{trial.fold}" / "done.json").exists()


def _run_dir(trial: Trial, out_dir: Path) -> Path:
    return out_dir / "runs" / f"{trial.variant}-seed{trial.seed}"


def _check_recipe(trial: Trial, run_dir: Path) -> None:
    """Refuses results of what a variant was called before the plan or its recipe changed."""
    if not (run_dir / "run.json").exists():
        return
    changed = differences(RunFolder.open(run_dir).config.model_dump(), trial.config.model_dump())
    if changed:
        key, old, new = changed[0]
        raise UserError(
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


def _train(trial: Trial, data_dir: Path, out_dir: Path) -> None:
    config, run_dir = trial.config, _run_dir(trial, out_dir)
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
                raise UserError(
                    f"A trial must train to its end. {trial.variant}, seed {trial.seed}, fold "
                    f"{trial.fold} ended with status {done.returncode}; see {log}."
                )


def _score(trial: Trial, out_dir: Path, truth: pd.DataFrame) -> dict:
    run = RunFolder.open(_run_dir(trial, out_dir))
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


def summarise(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """A row a variant, best first.

    Args:
        table: a row a trial, as `run_trials` returns it.
        reference: the variant that the others are compared with.

    Returns:
        variant; trials; lwlrap and sd, mean and standard deviation over trials; difference,
        the mean difference to `reference` over the (seed, fold) pairs that both have, and its
        standard_error; tp_log_loss and crop_lrap of the held-out TP crops, and seconds, means.
    """
    wide = table.pivot_table(index=["seed", "fold"], columns="variant", values="lwlrap")
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        pairs = pd.Series(dtype=float)
        if variant != reference and reference in wide:
            pairs = (wide[variant] - wide[reference]).dropna()
        several = len(pairs) > 1
        rows.append(
            {
                "variant": variant,
                "trials": len(own),
                "lwlrap": own["lwlrap"].mean(),
                "sd": own["lwlrap"].std() if len(own) > 1 else np.nan,
                "difference": pairs.mean() if len(pairs) else np.nan,
                "standard_error": pairs.std() / np.sqrt(len(pairs)) if several else np.nan,
                "tp_log_loss": own["val_tp_log_loss"].mean(),
                "crop_lrap": own["val_lrap"].mean(),
                "seconds": own["seconds"].mean(),
            }
        )
    return pd.DataFrame(rows).sort_values("lwlrap", ascending=False, ignore_index=True)


def format_summary(summary: pd.DataFrame) -> str:
    """The summary as a Markdown table."""

    def cell(value: float, form: str) -> str:
        return "" if np.isnan(value) else f"{value:{form}}"

    lines = [
        "| variant | trials | LWLRAP | sd | difference | standard error | TP log loss "
        "| crop LRAP | s a training |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summary.itertuples(index=False):
        cells = [
            row.variant,
            str(row.trials),
            cell(row.lwlrap, ".4f"),
            cell(row.sd, ".4f"),
            cell(row.difference, "+.4f"),
            cell(row.standard_error, ".4f"),
            cell(row.tp_log_loss, ".3f"),
            cell(row.crop_lrap, ".3f"),
            cell(row.seconds, ".0f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def log_hparams(table: pd.DataFrame, out_dir: Path) -> None:
    """Writes every trial to TensorBoard's HParams page under `out_dir`/hparams."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp

    for row in table.to_dict("records"):
        name = f"{row['variant']}-seed{row['seed']}-fold{row['fold']}"
        writer = tf.summary.create_file_writer(str(out_dir / "hparams" / name))
        with writer.as_default():
            hp.hparams({key: row[key] for key in ("variant", "seed", "fold")})
            for key in ("lwlrap", "val_tp_log_loss", "val_fp_log_loss", "val_lrap", "seconds"):
                tf.summary.scalar(key, row[key], step=0)
        writer.close()
