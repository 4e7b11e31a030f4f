"""Published image weights of residual networks: files of torchvision, timm and transformers."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np

from rfcx_tf.core.errors import UserError
from rfcx_tf.model.image_weights import adapt_stem, reason

# timm's, of R. Wightman et al. (2021), "ResNet strikes back": ImageNet-1k at 224 x 224.
_IMAGENET_REPOSITORIES = {
    "resnet18": "timm/resnet18.a1_in1k",
    "resnet34": "timm/resnet34.a1_in1k",
    "resnet50": "timm/resnet50.a1_in1k",
}
_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_STEM = "conv1.weight"
_PREFIXES = re.compile(r"^((module|model|backbone|net|resnet)\.)+")
_UNUSED = re.compile(r"^(fc|classifier)\.|\.num_batches_tracked$")
_TRANSFORMERS_STEM = re.compile(r"^embedder\.embedder\.(convolution|normalization)\.")
_TRANSFORMERS_BLOCK = re.compile(
    r"^encoder\.stages\.(\d+)\.layers\.(\d+)\."
    r"(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\."
)
_OUR_LAYER = re.compile(r"^stage(\d+)_block(\d+)_(\d+|down)_(conv|bn)$")


def load_weights(backbone: keras.Model, source: str, coordinate: bool = False) -> None:
    """Fills all weights of a residual network from a file; the file's classifier is left out.

    Args:
        backbone: a residual network of `build_backbone`, whose strides and pooling do not matter.
        source: `imagenet`, downloaded once from the Hugging Face hub, or the path of a
            `.safetensors` file, or of a `.pth`, `.pt` or `.bin` file where PyTorch is installed.
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: if the file cannot be had or read, a tensor is missing, surplus, of another
            shape or not finite. The backbone is then as it was.
    """
    path = _download_imagenet(backbone.name) if source == "imagenet" else Path(source)
    variables = _published_variables(backbone)
    tensors = _by_published_name(_read_tensors(path), path)
    advice = "Set model.backbone.name to the file's network, or name another file."
    rule = f"A weights file must hold the tensors of {backbone.name}."
    for name in variables:
        if name not in tensors:
            raise UserError(f"{rule} {path} has no {name}. {advice}")
    for name in tensors:
        if name not in variables:
            raise UserError(f"{rule} {path} has {name} as well. {advice}")
    values = []
    for name, variable in variables.items():
        tensor = np.asarray(tensors[name], np.float32)
        # [out, in, height, width] backwards is [width, height, in, out].
        expected = list(reversed(variable.shape))
        if name == _STEM and tensor.ndim == 4:
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
        if name == _STEM:
            value = adapt_stem(value, variable.shape[2], coordinate)
        values.append(value)
    for variable, value in zip(variables.values(), values, strict=True):
        variable.assign(value)


def _published_variables(backbone: keras.Model) -> dict[str, keras.Variable]:
    """Every variable of a residual network, by torchvision's name for it."""
    variables = {}
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D):
            variables[f"{_published_layer(layer.name)}.weight"] = layer.kernel
        elif isinstance(layer, keras.layers.BatchNormalization):
            name = _published_layer(layer.name)
            variables[f"{name}.weight"] = layer.gamma
            variables[f"{name}.bias"] = layer.beta
            variables[f"{name}.running_mean"] = layer.moving_mean
            variables[f"{name}.running_var"] = layer.moving_variance
    if len(variables) != len(backbone.weights):
        raise ValueError(f"{backbone.name} has weights beside convolutions and normalisations.")
    return variables


def _published_layer(name: str) -> str:
    """torchvision's name of one of our layers: `stage1_block2_1_conv` is `layer1.1.conv1`."""
    if name in ("stem_conv", "stem_bn"):
        return {"stem_conv": "conv1", "stem_bn": "bn1"}[name]
    stage, block, part, kind = _OUR_LAYER.match(name).groups()
    inside = f"downsample.{int(kind == 'bn')}" if part == "down" else f"{kind}{part}"
    return f"layer{stage}.{int(block) - 1}.{inside}"


def _by_published_name(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The tensors that count, by torchvision's names, whichever naming the file follows."""
    found = {}
    for own_name, tensor in tensors.items():
        name = _published_name(own_name)
        if _UNUSED.search(name):
            continue
        if name in found:
            raise UserError(
                f"A weights file must hold one network. {path} has {name} under two names, one "
                f"of them {own_name}. Save one of the two networks by itself."
            )
        found[name] = tensor
    return found


def _published_name(name: str) -> str:
    """torchvision's name of a tensor that it, timm or transformers named."""

    def stem(match: re.Match) -> str:
        return "conv1." if match[1] == "convolution" else "bn1."

    def in_block(match: re.Match) -> str:
        stage, block, layer, kind = match.groups()
        convolution = kind == "convolution"
        if layer is None:
            inside = f"downsample.{0 if convolution else 1}"
        else:
            inside = f"{'conv' if convolution else 'bn'}{int(layer) + 1}"
        return f"layer{int(stage) + 1}.{block}.{inside}."

    name = _PREFIXES.sub("", name)
    return _TRANSFORMERS_BLOCK.sub(in_block, _TRANSFORMERS_STEM.sub(stem, name))


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".safetensors" and path.suffix not in _TORCH_SUFFIXES:
        raise UserError(
            "model.backbone.weights must be none, imagenet or a file that ends in .safetensors, "
            f"{', '.join(_TORCH_SUFFIXES)}. Received: {path}."
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


def _download_imagenet(name: str) -> Path:
    """The file of a published network, from the hub or from its cache of earlier downloads."""
    repository = _IMAGENET_REPOSITORIES.get(name)
    if repository is None:
        raise UserError(
            f"model.backbone.weights can be imagenet for {', '.join(_IMAGENET_REPOSITORIES)}. "
            f"Received: {name}. Change model.backbone.name or set weights to none."
        )
    instead = (
        f"or set model.backbone.weights to the path of model.safetensors from "
        f"https://huggingface.co/{repository}"
    )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise UserError(
            "model.backbone.weights=imagenet needs the package huggingface_hub, which is not "
            f"installed. Run .venv/bin/pip install huggingface_hub, {instead}."
        ) from None
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # Of the hub, its network library or the file system.
        raise UserError(
            f"model.backbone.weights=imagenet downloads {repository}, which failed: "
            f"{reason(error)}. Try again with a connection, {instead}."
        ) from None
