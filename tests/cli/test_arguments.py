"""Arguments that several verbs take."""

import argparse

import pytest

from rfcx_tf.cli.arguments import add_config_arguments, read_folds
from rfcx_tf.core.config import load_config
from rfcx_tf.core.errors import UserError


def test_config_arguments_go_to_load_config(tmp_path):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    arguments = parser.parse_args(
        ["--config", str(tmp_path / "c.yaml"), "--set", "seed=7", "--set", "training.epochs=3"]
    )
    config = load_config(arguments.config, arguments.overrides)
    assert (config.seed, config.training.epochs) == (7, 3)
    with pytest.raises(SystemExit):
        parser.parse_args([])


def test_folds_are_a_number_several_or_all():
    assert read_folds("all", 3) == [0, 1, 2]
    assert read_folds("4", 5) == [4]
    assert read_folds("3, 1,3", 5) == [3, 1]
    for text in ("", "1,", "-1", "1 2", "all,1", "x"):
        with pytest.raises(UserError, match="Received: "):
            read_folds(text, 5)
