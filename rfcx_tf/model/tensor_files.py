"""Files of PyTorch's tensors, by their names -> the layers of a network of ours, all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from rfcx_tf.core.errors import UserError
from rfcx_tf.model.image_weights import adapt_stem, reason

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_UNUSED = re.compile(r"^(_?fc|classifier)\.|\.num_batches_tracked$")


def read_tensors(path: Path, published_name: Callable[[str], str]) -> dict[str, np.ndarray]:
    """The tensors of a file that count, by their published names; its classifier does not.

    Args:
        path: a `.safetensors` file, or a `.pth`, `.pt` or `.bin` file where PyTorch is installed.
        published_name: the published name of a tensor, by the name that it has in the file.

    Raises:
        UserError: if the file cannot be read or holds two networks.
    """
    found = {}
    for own_name, tensor in _read_file(path).items():
        name = published_name(own_name)
        if _UNUSED.search(name):
            continue
        if name in found:
            raise UserError(
                f"A weights file must hold one network. {path} has {name} under two names, one "
                f"of them {own_name}. Save one of the two networks by itself."
            )
        found[name] = tensor
    return found


def fill_from_tensors(
    backbone: keras.Model,
    published_layer: Callable[[str], str],
    tensors: dict[str, np.ndarray],
    path: Path,
    coordinate: bool,
) -> None:
    """Fills all convolutions and normalisations of a network.

    Published networks see [height, width], ours [frames, mels]: kernels are turned, so that height
    becomes mels (`begin_from_weights`).

    Args:
        backbone: its first convolution is the one that meets sound.
        published_layer: the published name of a layer, by the name of ours.
        tensors: by published name: `LAYER.weight`, and of normalisations `LAYER.bias`,
            `LAYER.running_mean` and `LAYER.running_var`.
        path: where they come from.
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: if a tensor is missing, surplus, of another shape or not finite. The backbone is
            then as it was.
    """
    targets = _targets(backbone, published_layer)
    advice = "Set model.backbone.name to the file's network, or name another file."
    rule = f"A weights file must hold the tensors of {backbone.name}."
    for name in targets:
        if name not in tensors:
            raise UserError(f"{rule} {path} has no {name}. {advice}")
    for name in tensors:
        if name not in targets:
            raise UserError(f"{rule} {path} has {name} as well. {advice}")
    values = []
    stem = next(iter(targets))
    for name, (variable, is_depthwise) in targets.items():
        tensor = np.asarray(tensors[name], np.float32)
        # [out, in, height, width] backwards is [width, height, in, out].
        expected = list(reversed(variable.shape))
        if is_depthwise:
            expected[:2] = expected[1::-1]
        if name == stem and tensor.ndim == 4:
            expected[1] = tensor.shape[1]
        if list(tensor.shape) != expected:
            raise UserError(
                f"{rule} {path} has {name} in shape {list(tensor.shape)}, not {expected}. {advice}"
            )
        if not np.isfinite(tensor).all():
            raise UserError(
                f"Weights must be finite. {path} has NaN or infinity in {name}. Name another file."
            )
        value = tensor.T
        if is_depthwise:
            value = value.swapaxes(2, 3)
        if name == stem:
            value = adapt_stem(value, variable.shape[2], coordinate)
        values.append(value)
    for (variable, _), value in zip(targets.values(), values, strict=True):
        variable.assign(value)


def _targets(
    backbone: keras.Model, published_layer: Callable[[str], str]
) -> dict[str, tuple[keras.Variable, bool]]:
    """Every variable, by its tensor's published name, and whether it is a depthwise kernel."""
    targets = {}
    for layer in backbone.layers:
        if not layer.weights:
            continue
        name = published_layer(layer.name)
        if isinstance(layer, layers.BatchNormalization):
            targets[f"{name}.weight"] = (layer.gamma, False)
            targets[f"{name}.bias"] = (layer.beta, False)
            targets[f"{name}.running_mean"] = (layer.moving_mean, False)
            targets[f"{name}.running_var"] = (layer.moving_variance, False)
        else:
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            targets[f"{name}.weight"] = (layer.kernel, depthwise)
    if len(targets) != len(backbone.weights):
        raise ValueError(f"{backbone.name} has weights beside convolutions and normalisations.")
    return targets


def _read_file(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors" and path.suffix not in TORCH_SUFFIXES:
        raise UserError(
            "model.backbone.weights must be none, imagenet or a file that ends in .safetensors, "
            f"{', '.join(TORCH_SUFFIXES)}. Received: {path}."
        )
    if not path.is_file():
        raise UserError(
            f"model.backbone.weights must name a file that is there. Not found: {path}."
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(_not_readable(path, "safetensors", error)) from None


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path.suffix} files need PyTorch, which is not installed, to read {path}. Convert "
            "it where PyTorch is, with safetensors.torch.save_file(state_dict, "
            "'weights.safetensors'), and name that file."
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of pickle, zipfile or PyTorch itself, as the bytes will have it.
        raise UserError(_not_readable(path, "PyTorch", error)) from None
    # Training scripts save the network inside a dictionary of other things.
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(map(torch.is_tensor, content.values())):
        raise UserError(
            f"A PyTorch file must hold a state_dict, tensors by name. {path} holds something "
            "else. Save model.state_dict()."
        )
    return {name: tensor.float().numpy() for name, tensor in content.items()}


def _not_readable(path: Path, kind: str, error: Exception) -> str:
    return f"{path} cannot be read as a {kind} file: {reason(error)}. Download or save it again."
