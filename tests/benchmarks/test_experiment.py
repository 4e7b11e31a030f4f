"""The table of an experiment by hand, and one of two made-up trials, resumed."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import experiment
from rfcx_tf.cli.main import Parser
from rfcx_tf.core.config import ConfigError, load_config, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import read_manifest


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
def run_experiment(tmp_path, tiny_config, tiny_data, monkeypatch, capsys):
    """A function that runs an experiment of two trials and returns its table and its commands.

    The commands' arguments are read as the verbs read them; what they would write is made up.
    """
    plan = plan_file(tmp_path, tiny_config)
    commands = []

    def run_command(command, stdout, stderr):
        assert command[0] == sys.executable
        verb = importlib.import_module(f"rfcx_tf.cli.{Path(command[1]).stem}")
        parser = Parser()
        verb.add_arguments(parser)
        arguments = parser.parse_args(command[2:])
        commands.append(Path(command[1]).stem)
        if commands[-1] == "make_tfrecords":
            make_shards(
                read_kaggle_folder(arguments.data), tiny_config, arguments.data, arguments.out
            )
        else:
            finish_fold(arguments)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(experiment, "subprocess", SimpleNamespace(run=run_command))

    def run(*more):
        truth, out = tiny_data / "train_truth.csv", tmp_path / "out"
        arguments = ["--plan", plan, "--data", tiny_data, "--truth", truth, "--out", out, *more]
        monkeypatch.setattr(sys, "argv", ["experiment.py", *map(str, arguments)])
        commands.clear()
        experiment.main()
        assert capsys.readouterr().out.splitlines()[-1] == f"Wrote {out}/trials.csv and summary.md."
        return pd.read_csv(out / "trials.csv"), list(commands)

    return run


def finish_fold(arguments):
    """Writes what `train` leaves of a fold: here, scores that are higher for later recordings."""
    manifest = read_manifest(arguments.tfrecords)
    run = RunFolder.create(
        arguments.run, load_config(arguments.config), manifest, arguments.tfrecords
    )
    fold = int(arguments.fold)
    run.fold(fold).mkdir()
    held_out = sorted(manifest.audio_sources(fold))
    columns = [f"s{c.species_id}" for c in manifest.classes]
    scores = np.linspace(0, 1, len(held_out) * 3).reshape(-1, 3)
    table = pd.DataFrame(scores, columns=columns)
    table.insert(0, "recording_id", held_out)
    table.to_csv(run.fold(fold) / "oof_scores.csv", index=False)
    figures = {"val_tp_log_loss": 0.5, "val_fp_log_loss": 0.25, "val_lrap": 0.75, "seconds": 2.0}
    (run.fold(fold) / "done.json").write_text(json.dumps(figures))


def test_trials_are_trained_once_and_scored(tmp_path, tiny_config, run_experiment):
    table, commands = run_experiment("--variants", "tp_only")
    assert commands == ["make_tfrecords", "train"]
    assert table["variant"].tolist() == ["tp_only"]
    table, commands = run_experiment()
    assert commands == ["train"]
    assert table["variant"].tolist() == ["base", "tp_only"]
    assert table["lwlrap"].between(0, 1).all()
    again, commands = run_experiment()
    assert commands == []
    pd.testing.assert_frame_equal(table, again)
    assert (tmp_path / "out" / "summary.md").read_text().count("\n| ") == 3
    # Results of another recipe are not taken for this plan's.
    plan_file(tmp_path, tiny_config, variants={"base": ["training.batch_size=4"]})
    with pytest.raises(UserError, match=r"training\.batch_size was 8, is 4"):
        run_experiment()


# A defect's traceback ends with status 1 too.
@pytest.mark.parametrize("status", [1, 2])
def test_a_training_that_fails_ends_the_experiment(run_experiment, monkeypatch, status):
    failing = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=status))
    monkeypatch.setattr(experiment, "subprocess", failing)
    with pytest.raises(UserError, match=rf"base seed 0 fold 0 ended with status {status}; see"):
        run_experiment()


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
