"""The table of an experiment by hand, and one real pair of tiny trials, resumed."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import experiment_runner as experiment
from rfcx_tf.core.config import ConfigError, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.score_table import read_truth


def plan_file(tmp_path, config, **changes):
    save_config(config, tmp_path / "base.yaml")
    values = {
        "config": str(tmp_path / "base.yaml"),
        "set": ["training.epochs=1", "training.steps_per_epoch=2", "training.warmup_epochs=0"],
        "folds": [0],
        "seeds": [0],
        "variants": {"base": [], "tp_only": ["dataset.tp_fraction=1.0"]},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def test_the_summary_pairs_trials_of_the_same_seed_and_fold():
    table = pd.DataFrame(
        {
            "variant": ["base", "new", "base", "new"],
            "seed": [0, 0, 1, 1],
            "fold": [0, 0, 0, 0],
            "lwlrap": [0.5, 0.6, 0.7, 0.9],
            "val_tp_log_loss": [0.4, 0.2, 0.4, 0.4],
            "val_lrap": [0.5, 0.6, 0.5, 0.6],
            "seconds": [10.0, 20.0, 10.0, 20.0],
        }
    )
    summary = experiment.summarise(table, "base").set_index("variant")
    assert list(summary.index) == ["new", "base"]
    assert summary.loc["new", "lwlrap"] == pytest.approx(0.75)
    assert summary.loc["new", "difference"] == pytest.approx(0.15)
    # Differences 0.1 and 0.2: standard deviation 0.0707, over the root of 2 pairs.
    assert summary.loc["new", "standard_error"] == pytest.approx(0.05)
    assert summary.loc["base", "sd"] == pytest.approx(np.sqrt(0.02))
    assert summary.loc["new", "tp_log_loss"] == pytest.approx(0.3)
    text = experiment.format_summary(experiment.summarise(table, "base"))
    assert "| new | 2 | 0.7500 |" in text
    # A variant without its partner has no difference.
    alone = experiment.summarise(table[table["variant"] == "new"], "base")
    assert np.isnan(alone.loc[0, "difference"])


def test_a_variant_that_is_no_recipe_is_refused_before_anything_runs(tmp_path, tiny_config):
    path = plan_file(tmp_path, tiny_config, variants={"base": [], "odd": ["training.epoch=1"]})
    with pytest.raises(ConfigError, match=r"training\.epoch"):
        experiment.list_trials(experiment.read_plan(path))


def test_an_unknown_key_in_the_plan_is_one_line(tmp_path, tiny_config):
    path = plan_file(tmp_path, tiny_config, fold=3)
    with pytest.raises(UserError, match="fold") as error:
        experiment.read_plan(path)
    assert "\n" not in str(error.value)


@pytest.fixture
def one_process(monkeypatch, run_script):
    """Of the processes that an experiment starts, only the first is one: the others take place
    here, which saves them the seconds that a process takes to begin."""
    real_run, commands = subprocess.run, []

    def run(command, stdout, stderr):
        commands.append(command)
        if len(commands) == 1:
            return real_run(command, stdout=stdout, stderr=stderr)
        assert command[0] == sys.executable
        done = run_script(Path(command[1]).stem, *command[2:])
        stdout.write(done.stdout + done.stderr)
        return done

    monkeypatch.setattr(experiment, "subprocess", SimpleNamespace(run=run))


def test_trials_are_trained_once_and_scored(tmp_path, tiny_config, tiny_data, one_process):
    variants = {
        "base": [],
        "tp_only": ["dataset.tp_fraction=1.0"],
        "smoothed": ["prediction.running_mean_s=2.0"],
    }
    path = plan_file(tmp_path, tiny_config, variants=variants)
    trials = experiment.list_trials(experiment.read_plan(path))
    truth = read_truth(tiny_data / "train_truth.csv")
    out = tmp_path / "out"
    first_look = experiment.select_trials(trials, variants=["tp_only"])
    table = experiment.run_trials(
        trials, tiny_data, truth, out, first_look, report=lambda line: None
    )
    assert table["variant"].tolist() == ["tp_only"]
    table = experiment.run_trials(trials, tiny_data, truth, out, report=lambda line: None)
    assert table["variant"].tolist() == sorted(variants)
    assert table["lwlrap"].between(0, 1).all()
    done = out / "runs" / "base-seed0" / "fold0" / "done.json"
    written = done.stat().st_mtime_ns
    again = experiment.run_trials(trials, tiny_data, truth, out, report=lambda line: None)
    assert done.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(table, again)
    experiment.log_hparams(table, out)
    assert len(list((out / "hparams").glob("*/events*"))) == 3
    # A variant that only predicts otherwise takes the weights of the first.
    names = ("detector.weights.h5", "history.csv", "oof_scores.csv")
    first, smoothed = (
        [(out / "runs" / f"{name}-seed0" / "fold0" / file).read_bytes() for file in names]
        for name in ("base", "smoothed")
    )
    assert smoothed[:2] == first[:2]
    assert smoothed[2] != first[2]


def test_a_part_of_a_plan_is_chosen_by_name_and_number(tmp_path, tiny_config):
    path = plan_file(tmp_path, tiny_config, folds=[0, 1], seeds=[3, 4])
    trials = experiment.list_trials(experiment.read_plan(path))
    chosen = experiment.select_trials(trials, ["tp_only"], seeds=[4])
    assert [(t.variant, t.fold, t.seed) for t in chosen] == [("tp_only", 0, 4), ("tp_only", 1, 4)]
    with pytest.raises(UserError, match=r"fold must be one of the plan's.* no 7; it has 0, 1"):
        experiment.select_trials(trials, folds=[1, 7])


@pytest.mark.parametrize("name", ["frontend", "parts"])
def test_every_variant_of_an_experiment_is_a_recipe_of_its_own(name):
    path = Path(__file__).resolve().parents[2] / "configs" / "experiments" / f"{name}.yaml"
    trials = experiment.list_trials(experiment.read_plan(path))
    one_of_each = [t for t in trials if (t.seed, t.fold) == (0, 0)]
    configs = [trial.config.model_dump_json() for trial in one_of_each]
    assert len(set(configs)) == len(configs), "two variants are the same"


def test_the_front_end_experiment_compares_what_its_variants_are_called():
    path = Path(__file__).resolve().parents[2] / "configs" / "experiments" / "frontend.yaml"
    for trial in experiment.list_trials(experiment.read_plan(path)):
        kind, _, rest = trial.variant.partition("_")
        named = "pcen_log" if rest == "and_log" else kind
        assert trial.config.frontend.compression == named
