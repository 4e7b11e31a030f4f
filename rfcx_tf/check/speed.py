"""A recipe and a machine -> about how many examples a second it trains on.

From measured rates (docs/performance.md, docs/recipe.md), scaled by the size of crops and network.
Right to within a factor of two where nothing else runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rfcx_tf.core.config import Config, as_pair
from rfcx_tf.core.machine import cores, cpu_multiplies_bfloat16

# Examples a second of configs/fieldmix.yaml on two cores: with AMX (docs/recipe.md), and with
# AVX-512 alone (an AMD EPYC: the fastest of 27 epochs, with other work beside it).
_CPU_RATE = {True: 330.0, False: 140.0}
# Of configs/yamnet.yaml on two cores without AMX, 13 minutes a fold (docs/recipe.md).
_YAMNET_RATE = 60.0
# Of configs/rfcx.yaml in bfloat16 on an NVIDIA H200 (docs/performance.md).
_GPU_RATE = 3347.0
# What a core draws and augments a second (docs/performance.md); a GPU waits for that.
_PIPELINE_RATE = 1000.0
# Time of a step beside that of a ResNet18 of the same width (docs/performance.md).
_DEPTH = {"resnet10": 0.6, "resnet18": 1.0, "resnet34": 1.75, "resnet50": 2.8}
# Twice the width has four times the arithmetic, and better use of the hardware.
_WIDTH_POWER = 1.5
# Examples a second go down as this goes up; of configs/fieldmix.yaml.
_FIELDMIX = 128 / 2 * 64 / 4 * 32**_WIDTH_POWER
# Validation and prediction of what is held out, beside the steps.
_BESIDE_STEPS = 1.15


@dataclass(frozen=True)
class Machine:
    """What a training will run on.

    Attributes:
        has_gpu: whether it has a GPU that TensorFlow sees.
        cores: of its CPU.
        has_amx: whether the CPU multiplies bfloat16.
    """

    has_gpu: bool
    cores: int
    has_amx: bool

    @classmethod
    def this(cls, kind: str | None = None) -> Machine:
        """This machine, or one like it with a GPU (`gpu`) or without (`cpu`).

        TensorFlow is asked only where the system lists a GPU.
        """
        has_gpu = kind == "gpu"
        if kind is None and any(Path("/proc/driver/nvidia/gpus").glob("*")):
            import tensorflow as tf

            has_gpu = bool(tf.config.list_physical_devices("GPU"))
        return cls(has_gpu, cores(), cpu_multiplies_bfloat16())

    def __str__(self) -> str:
        if self.has_gpu:
            return f"a GPU and {self.cores} CPU cores"
        return f"{self.cores} CPU cores {'with' if self.has_amx else 'without'} AMX and no GPU"


def examples_per_s(config: Config, machine: Machine) -> float:
    """About how many training examples a second a machine takes of a recipe."""
    if machine.has_gpu:
        rfcx = _cost(468, 128, (2, 2), 64, "resnet34")
        return min(_GPU_RATE * rfcx / _cost_of(config), _PIPELINE_RATE * machine.cores)
    rate = _CPU_RATE[machine.has_amx] * machine.cores / 2
    return rate * _FIELDMIX / _cost_of(config)


def fold_minutes(config: Config, machine: Machine) -> float:
    """About how many minutes the training of a fold takes."""
    training = config.training
    examples = training.epochs * training.steps_per_epoch * training.batch_size
    return _BESIDE_STEPS * examples / examples_per_s(config, machine) / 60


def _cost_of(config: Config) -> float:
    backbone = config.model.backbone
    if backbone.name == "yamnet":
        of_measured = config.crop_frames * config.frontend.n_mels / (272 * 64)
        return _CPU_RATE[False] / _YAMNET_RATE * _FIELDMIX * of_measured
    stride = as_pair(backbone.stem_stride)
    return _cost(config.crop_frames, config.frontend.n_mels, stride, backbone.width, backbone.name)


def _cost(frames: int, bands: int, stride: tuple[int, int], width: int, name: str) -> float:
    return frames / stride[0] * bands / stride[1] * width**_WIDTH_POWER * _DEPTH[name]
