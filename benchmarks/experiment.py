"""Trains variants of a recipe and writes one table of what each is worth.

    python benchmarks/experiment.py --plan configs/experiments/frontend.yaml --data DIR \\
        --truth DIR/train_truth.csv --out experiments/frontend

All variants are trained on the same folds with the same seeds, so differences are taken pair by
pair. The truth is for scoring held-out recordings only. Run it again to go on after a stop. With
--variants, --folds or --seeds it trains a part of the plan; the tables hold whatever is finished.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import pydantic
import yaml

from benchmarks.report import markdown_table
from rfcx_tf.cli.main import Parser, exit_status
from rfcx_tf.core.config import Config, differences, load_config, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.score_table import read_scores, read_truth

ROOT = Path(__file__).resolve().parents[1]
# Of done.json, in the table of trials.
_FOLD_FIGURES = ["val_tp_log_loss", "val_fp_log_loss", "val_lrap", "seconds"]
# Columns of the summary: head and format.
_SUMMARY = {
    "variant": ("variant", "s"),
    "trials": ("trials", "d"),
    "lwlrap": ("LWLRAP", ".4f"),
    "sd": ("sd", ".4f"),
    "difference": ("difference", "+.4f"),
    "standard_error": ("standard error", ".4f"),
    "tp_log_loss": ("TP log loss", ".3f"),
    "crop_lrap": ("crop LRAP", ".3f"),
    "seconds": ("s a training", ".0f"),
}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, type=Path, help="experiment file, YAML")
    parser.add_argument("--data", required=True, type=Path, help="folder in the Kaggle layout")
    parser.add_argument("--truth", required=True, type=Path, help="complete truth, for scoring")
    parser.add_argument("--out", required=True, type=Path, help="folder for runs and tables")
    parser.add_argument("--variants", nargs="+", help="of the plan, to train now; default: all")
    parser.add_argument("--folds", nargs="+", type=int, help="the same for folds")
    parser.add_argument("--seeds", nargs="+", type=int, help="the same for seeds")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise UserError(f"--data must be a folder. Not found: {arguments.data}.")
    trials = list_trials(read_plan(arguments.plan))
    truth = read_truth(arguments.truth)
    chosen = select_trials(trials, arguments.variants, arguments.folds, arguments.seeds)
    run_trials(trials, chosen, arguments.data, truth, arguments.out)
    print((arguments.out / "summary.md").read_text(encoding="utf-8"))
    print(f"Wrote {arguments.out}/trials.csv and summary.md.")


class Plan(pydantic.BaseModel):
    """What an experiment file says.

    Attributes:
        config: the recipe that all variants start from, relative to the project.
        set: overrides for all variants.
        folds, seeds: every variant is trained on each pair.
        variants: overrides by name; the others are compared with the first.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    config: str
    set: list[str] = []
    folds: list[int]
    seeds: list[int]
    variants: dict[str, list[str]]


@dataclass(frozen=True)
class Trial:
    """One training: a variant, a seed and a fold, and the recipe that they give."""

    variant: str
    seed: int
    fold: int
    config: Config

    def run_dir(self, out_dir: Path) -> Path:
        """The run that the training is a fold of."""
        return out_dir / "runs" / f"{self.variant}-seed{self.seed}"

    def is_done(self, out_dir: Path) -> bool:
        """Whether the training is finished."""
        return (self.run_dir(out_dir) / f"fold{self.fold}" / "done.json").exists()

    def __str__(self) -> str:
        return f"{self.variant} seed {self.seed} fold {self.fold}"


def read_plan(path: Path) -> Plan:
    """Reads an experiment file.

    Raises:
        UserError: if it cannot be read or says something else.
    """
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"The experiment {path} cannot be read: {error.strerror}.") from None
    except (ValueError, yaml.YAMLError) as error:
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
            load_config(ROOT / plan.config, [*plan.set, *overrides, f"seed={seed}"]),
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
    """The trials of these variants, folds and seeds, in the plan's order; None means all.

    Raises:
        UserError: if the plan has none of a name or number.
    """
    kept = trials
    for key, wanted in (("variant", variants), ("fold", folds), ("seed", seeds)):
        known = list(dict.fromkeys(getattr(trial, key) for trial in trials))
        wanted = known if wanted is None else wanted
        unknown = [str(value) for value in wanted if value not in known]
        if unknown:
            raise UserError(
                f"A chosen {key} must be one of the plan's. It has no {', '.join(unknown)}; "
                f"it has {', '.join(map(str, known))}."
            )
        kept = [trial for trial in kept if getattr(trial, key) in wanted]
    return kept


def run_trials(
    trials: list[Trial], chosen: list[Trial], data_dir: Path, truth: pd.DataFrame, out_dir: Path
) -> pd.DataFrame:
    """Trains every chosen trial that is not finished, scores it, and writes the tables.

    Args:
        trials: the whole plan; `trials.csv` and `summary.md` hold whatever of it is finished.
        chosen: those to train now, in this order.
        data_dir: recordings and annotations.
        truth: complete truth of the recordings, for scoring only.
        out_dir: for shards, runs and tables.

    Returns:
        A row a finished trial: variant, seed, fold, lwlrap, chance, val_tp_log_loss,
        val_fp_log_loss, val_lrap, seconds.

    Raises:
        UserError: if a training fails, or `out_dir` holds one of another recipe.
    """
    for trial in trials:
        _check_recipe(trial, trial.run_dir(out_dir))
    rows = {trial: _score(trial, out_dir, truth) for trial in trials if trial.is_done(out_dir)}
    for number, trial in enumerate(chosen, start=1):
        if trial not in rows:
            _train(trial, data_dir, out_dir)
            rows[trial] = _score(trial, out_dir, truth)
        print(
            f"[{number}/{len(chosen)}] {trial}: LWLRAP {rows[trial]['lwlrap']:.4f} "
            f"({rows[trial]['seconds']:.0f} s)",
            flush=True,
        )
        table = pd.DataFrame([rows[trial] for trial in trials if trial in rows])
        with atomic_file(out_dir / "trials.csv") as temporary:
            table.to_csv(temporary, index=False)
        summary = summarise(table, reference=trials[0].variant)
        text = markdown_table(summary.to_dict("records"), _SUMMARY)
        atomic_write_text(out_dir / "summary.md", text)
    return table


def _check_recipe(trial: Trial, run_dir: Path) -> None:
    """Refuses results of what a variant was before the plan or its recipe changed."""
    if not (run_dir / "run.json").exists():
        return
    changed = differences(RunFolder.open(run_dir).config.model_dump(), trial.config.model_dump())
    if changed:
        key, old, new = changed[0]
        raise UserError(
            f"An experiment goes on with the recipes that it began with. {run_dir}: {key} was "
            f"{old}, is {new}. Name another --out, or delete that folder."
        )


def _train(trial: Trial, data_dir: Path, out_dir: Path) -> None:
    """Makes the shards, if no trial has made them, and trains, each in a process of its own."""
    config, name = trial.config, f"{trial.variant}-seed{trial.seed}"
    folds = (config.training.folds, config.training.fold_seed)
    key = f"{config.frontend.model_dump()}{config.crops.model_dump()}{folds}{data_dir.resolve()}"
    shards = out_dir / "shards" / hashlib.sha256(key.encode()).hexdigest()[:12]
    recipe = out_dir / "recipes" / f"{name}.yaml"
    with atomic_file(recipe) as temporary:
        save_config(config, temporary)
    make = ["make_tfrecords.py", "--config", recipe, "--data", data_dir, "--out", shards]
    train = ["train.py", "--config", recipe, "--tfrecords", shards]
    train += ["--run", trial.run_dir(out_dir), "--fold", trial.fold]
    log = out_dir / "logs" / f"{name}-fold{trial.fold}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        for script, *arguments in [train] if (shards / "manifest.json").exists() else [make, train]:
            command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
            status = subprocess.run(command, stdout=output, stderr=output).returncode
            # Status 1 may mean that something was left out, which the log lists.
            if status not in (0, 1):
                break
    if not trial.is_done(out_dir):
        raise UserError(
            f"A trial must train to its end. {trial} ended with status {status}; see {log}."
        )


def _score(trial: Trial, out_dir: Path, truth: pd.DataFrame) -> dict:
    fold_dir = trial.run_dir(out_dir) / f"fold{trial.fold}"
    scores = read_scores(fold_dir / "oof_scores.csv")
    held_out = truth[truth["recording_id"].isin(scores["recording_id"])]
    evaluation = evaluate_scores(scores, held_out)
    done = json.loads((fold_dir / "done.json").read_text(encoding="utf-8"))
    return {
        "variant": trial.variant,
        "seed": trial.seed,
        "fold": trial.fold,
        "lwlrap": evaluation.lwlrap,
        "chance": evaluation.chance,
        **{name: done[name] for name in _FOLD_FIGURES},
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
    # Without a trial of the reference nothing can be paired.
    pairs = wide.drop(columns=reference, errors="ignore").sub(wide.get(reference, np.nan), axis=0)
    summary = table.groupby("variant").agg(
        trials=("lwlrap", "size"),
        lwlrap=("lwlrap", "mean"),
        sd=("lwlrap", "std"),
        tp_log_loss=("val_tp_log_loss", "mean"),
        crop_lrap=("val_lrap", "mean"),
        seconds=("seconds", "mean"),
    )
    summary["difference"], summary["standard_error"] = pairs.mean(), pairs.sem()
    summary = summary.sort_values("lwlrap", ascending=False).reset_index()
    return summary[list(_SUMMARY)]


if __name__ == "__main__":
    sys.exit(exit_status(main))
