"""Why TensorFlow does not see an NVIDIA GPU that this machine has, and what to do."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

# What CUDA 12 needs at the least, on Linux (NVIDIA's CUDA compatibility, table of drivers).
_CUDA_12_DRIVER = (525, 60, 13)
# Libraries that TensorFlow opens by name, the one that fails first where nothing is installed.
_LIBRARIES = ("libcudart.so", "libcublas.so", "libcudnn.so")


def find_nvidia_gpus(root: Path = Path("/")) -> list[str]:
    """The names of the GPUs that the NVIDIA driver of this machine lists.

    Args:
        root: of the file system.
    """
    names = []
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        found = re.search(r"^Model:\s*(.+?)\s*$", path.read_text(encoding="utf-8"), re.M)
        names.append(found[1] if found else "unknown")
    return names


def why_unseen(
    build: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
) -> str | None:
    """One sentence or two: why TensorFlow sees none of the GPUs, what to do. None: there is none.

    Args:
        build: TensorFlow's `tf.sysconfig.get_build_info()`.
        environment: variables of the process.
        root: of the file system.
    """
    gpus = find_nvidia_gpus(root)
    if not gpus:
        return None
    build = tf.sysconfig.get_build_info() if build is None else build
    there_is = f"This machine has {len(gpus)} x {gpus[0]}, which TensorFlow does not see: "
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not re.match(r"\s*(\d|GPU-|MIG-)", visible):
        return there_is + f"CUDA_VISIBLE_DEVICES={visible!r} hides it. Unset it."
    if not build.get("is_cuda_build"):
        return (
            there_is + "this TensorFlow was built without CUDA. Install tensorflow instead of "
            "tensorflow-cpu."
        )
    nodes = list(root.glob("dev/nvidia[0-9]*"))
    if not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return (
            there_is + "its device /dev/nvidia0 is missing or may not be opened. In a container, "
            "start it with the GPU (`docker run --gpus all`)."
        )
    driver = _driver_version(root)
    if driver is not None and driver < _CUDA_12_DRIVER:
        return (
            there_is + f"the driver {'.'.join(map(str, driver))} is older than CUDA "
            f"{build.get('cuda_version', '12')} wants (525.60.13). Install a newer driver."
        )
    missing = _missing_library(build)
    if missing:
        return (
            there_is + f"{missing} is not installed. Run: "
            f"pip install 'tensorflow[and-cuda]=={tf.__version__}'"
        )
    return (
        there_is + "why is not known here. TensorFlow says it: "
        "TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow as tf; "
        'tf.config.list_physical_devices("GPU")\''
    )


def _driver_version(root: Path) -> tuple[int, ...] | None:
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b(\d+(?:\.\d+){1,2})\b", text)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def _missing_library(build: Mapping[str, str]) -> str | None:
    """The first of the libraries that neither pip's packages nor the system have."""
    versions = {"libcudnn.so": build.get("cudnn_version", "9")}
    for name in _LIBRARIES:
        version = versions.get(name, build.get("cuda_version", "12")).split(".")[0]
        library = f"{name}.{version}"
        # pip's packages nvidia-* lie beside TensorFlow, which finds them there.
        if any(Path(tf.__file__).parents[1].glob(f"nvidia/*/lib/{library}")):
            continue
        try:
            ctypes.CDLL(library)
        except OSError:
            return library
    return None
