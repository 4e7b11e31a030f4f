"""Arguments that several verbs take."""

import argparse
import re

import pytest

from rfcx_tf.cli.arguments import (
    add_config_arguments,
    add_number,
    find_recipe,
    load_recipe,
    read_folds,
)
from rfcx_tf.cli.main import Parser
from rfcx_tf.core.config import load_config
from rfcx_tf.core.errors import UserError


def test_config_and_set_say_the_recipe(tmp_path):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    arguments = parser.parse_args(
        ["--config", str(tmp_path / "c.yaml"), "--set", "seed=7", "--set", "training.epochs=3"]
    )
    config = load_recipe(arguments)
    assert (config.seed, config.training.epochs) == (7, 3)


def test_folds_are_a_number_several_or_all():
    assert read_folds("all", 3) == [0, 1, 2]
    assert read_folds("4", 5) == [4]
    assert read_folds("3, 1,3", 5) == [3, 1]
    for text in ("", "1,", "-1", "1 2", "all,1", "x"):
        with pytest.raises(UserError, match="Received: "):
            read_folds(text, 5)


def test_a_recipe_is_found_by_its_name_and_a_file_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(find_recipe("demo")).training.folds == 4
    (tmp_path / "demo").touch()
    assert find_recipe("demo") == "demo"
    assert find_recipe("none") == "none"


def test_numbers_are_above_zero_unless_zero_will_do():
    parser = Parser()
    add_number(parser, "--count", 4, "so many")
    add_number(parser, "--length", 0.5, "so long", or_zero=True)
    assert vars(parser.parse_args([])) == {"count": 4, "length": 0.5}
    assert parser.parse_args(["--length", "0"]).length == 0
    for arguments, rule in (
        (["--count", "0"], "--count: must be above 0. Received: 0"),
        (["--count", "1.5"], "invalid int value: '1.5'"),
        (["--length", "-1"], "must be 0 or more. Received: -1"),
        (["--length", "inf"], "must be 0 or more. Received: inf"),
        (["--length", "nan"], "must be 0 or more. Received: nan"),
    ):
        with pytest.raises(UserError, match=re.escape(rule)):
            parser.parse_args(arguments)
