"""What several devices and several workers are compared with: the same training on one."""

import pytest

from rfcx_tf.config import load_config, save_config


@pytest.fixture(scope="session")
def recipe_of_single_steps(tiny_config, tmp_path_factory):
    """A recipe file: epochs of one step, so every figure is that of one step.

    Dropout is off, since each device draws its own masks.
    """
    path = tmp_path_factory.mktemp("single_steps") / "recipe.yaml"
    save_config(tiny_config, path)
    values = {
        "model.head.dropout": 0,
        "training.epochs": 3,
        "training.steps_per_epoch": 1,
        "training.warmup_epochs": 0,
        "training.batch_size": 6,
        "training.learning_rate": 1e-3,
        "training.ema": 0.5,
    }
    save_config(load_config(path, [f"{key}={value}" for key, value in values.items()]), path)
    return path


@pytest.fixture(scope="session")
def run_on_one_device(recipe_of_single_steps, tiny_shards, tmp_path_factory):
    """The run folder of that recipe, trained in this process."""
    from rfcx_tf.training.run import train_run

    path = tmp_path_factory.mktemp("one_device") / "run"
    config = load_config(recipe_of_single_steps)
    train_run(config, tiny_shards, path, [0], verbose=False, report=lambda line: None)
    return path
