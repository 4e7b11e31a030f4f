# ruff: noqa: F401 (what others import from here)
"""The one schema of every YAML in configs/: file + overrides -> a checked, immutable Config.

Every section has its values and its rules in one module; rules that involve several sections
stand in `recipe`. A wrong recipe is refused before any work starts, so every other module can
trust what it is given.
"""

from rfcx_tf.core.config.audio import AudioConfig
from rfcx_tf.core.config.augment import AugmentConfig
from rfcx_tf.core.config.backbone import BackboneConfig, as_pair
from rfcx_tf.core.config.baseline import BaselineConfig
from rfcx_tf.core.config.crops import CropConfig, DatasetConfig
from rfcx_tf.core.config.frontend import COMPRESSIONS, FrontEndConfig, PcenConfig
from rfcx_tf.core.config.listener import ListenerConfig
from rfcx_tf.core.config.load import (
    ConfigError,
    Recipe,
    differences,
    load_config,
    load_recipe_of_any_kind,
    load_yaml,
    save_config,
)
from rfcx_tf.core.config.loss import LossConfig
from rfcx_tf.core.config.model import HeadConfig, ModelConfig
from rfcx_tf.core.config.pseudo import PseudoConfig
from rfcx_tf.core.config.recipe import Config
from rfcx_tf.core.config.training import PredictionConfig, TrainingConfig
