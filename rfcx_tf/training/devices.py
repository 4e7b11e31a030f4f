"""What a run computes on, and with which numbers."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import keras
import tensorflow as tf

from rfcx_tf.core.config import TrainingConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.machine import cores, cpu_multiplies_bfloat16
from rfcx_tf.training.multi_worker import read_worker
from rfcx_tf.training.unseen_gpu import why_unseen

_AMPERE = (8, 0)


def open_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """MirroredStrategy over all visible GPUs, or over logical CPUs if there is none.

    Where TF_CONFIG names several workers, MultiWorkerMirroredStrategy over the devices of all;
    it waits for them. Must be called before TensorFlow touches a device, since that fixes their
    number.

    Raises:
        UserError: if there are workers and `training.logical_cpus` too.
    """
    workers = read_worker().count
    if workers > 1 and config.logical_cpus > 1:
        raise UserError(
            "training.logical_cpus is for one machine, to try several devices there. Received: "
            f"{config.logical_cpus}, and {workers} workers in TF_CONFIG. Leave one of them out."
        )
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if workers > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if gpus:
        return tf.distribute.MirroredStrategy()
    if config.logical_cpus > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * config.logical_cpus,
        )
        names = [f"/cpu:{number}" for number in range(config.logical_cpus)]
        # The default all-reduce wants NCCL; there is none between CPUs.
        return tf.distribute.MirroredStrategy(
            names, cross_device_ops=tf.distribute.HierarchicalCopyAllReduce()
        )
    return tf.distribute.MirroredStrategy(["/cpu:0"])


def choose_precision(config: TrainingConfig) -> str:
    """The Keras dtype policy for `training.precision`; `auto` asks the hardware."""
    if config.precision != "auto":
        return config.precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        capabilities = [d.get("compute_capability", (0, 0)) for d in details]
        if min(capabilities) >= _AMPERE:
            return "mixed_bfloat16"
        # Keras 3 looks for overflow on one device only, so float16 is safe on one only.
        return "mixed_float16" if len(gpus) == 1 else "float32"
    return "mixed_bfloat16" if cpu_multiplies_bfloat16() else "float32"


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """The devices in words, and why a GPU that is there is none of them."""
    reason = None if tf.config.list_physical_devices("GPU") else why_unseen()
    return f"{_name_devices(strategy)}. {reason}" if reason else _name_devices(strategy)


def _name_devices(strategy: tf.distribute.Strategy) -> str:
    """`1 x CPU` or `4 x GPU (NVIDIA H100 80GB HBM3)`."""
    count, workers = strategy.num_replicas_in_sync, read_worker().count
    of_workers = f", {workers} workers" if workers > 1 else ""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "unknown")
        return f"{count} x GPU ({name}){of_workers}"
    return f"{count} x CPU" + (of_workers or (" (logical)" if count > 1 else ""))


def describe_machine(config: TrainingConfig) -> tuple[dict[str, str], str | None]:
    """What a training will use, in words.

    Args:
        config: of the recipe.

    Returns:
        lines by name, and why a GPU that is there will not be used, or None.
    """
    precision = choose_precision(config)
    why = {"float32": "", "mixed_bfloat16": "the hardware multiplies it"}.get(precision, "one GPU")
    if config.precision != "auto":
        why = "training.precision"
    gpus = tf.config.list_physical_devices("GPU")
    lines = {
        "packages": f"TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"Python {platform.python_version()}",
        "devices": _name_devices(open_strategy(config)),
        "precision": f"{precision}{f' ({why})' if why else ''}",
        "XLA": "on (training.xla)" if config.xla else "off (training.xla; pays on GPUs)",
        "memory": _memory(),
        "input threads": str(cores()),
    }
    if gpus:
        lines["GPU memory"] = _gpu_memory()
    return lines, None if gpus else why_unseen()


def _gpu_memory() -> str:
    """Memory in use and in all of every GPU, as the driver's own program says it."""
    command = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no nvidia-smi)"
    return "; ".join(line.strip().replace(",", " used of") for line in said.splitlines())


def _memory() -> str:
    """Memory of the machine, free and in all; `unknown` where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
        free, total = (kib[name] / 2**20 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError):
        return "unknown"
    return f"{free:.1f} of {total:.1f} GiB free"
