"""Published image weights of residual networks: files of torchvision, timm and transformers."""

from __future__ import annotations

import re
from pathlib import Path

import keras

from rfcx_tf.core.errors import UserError
from rfcx_tf.model.image_weights import reason
from rfcx_tf.model.tensor_files import fill_from_tensors, read_tensors

# timm's, of R. Wightman et al. (2021), "ResNet strikes back": ImageNet-1k at 224 x 224.
_IMAGENET_REPOSITORIES = {
    "resnet18": "timm/resnet18.a1_in1k",
    "resnet34": "timm/resnet34.a1_in1k",
    "resnet50": "timm/resnet50.a1_in1k",
}
_PREFIXES = re.compile(r"^((module|model|backbone|net|resnet)\.)+")
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
    tensors = read_tensors(path, _published_name)
    fill_from_tensors(backbone, _published_layer, tensors, path, coordinate)


def _published_layer(name: str) -> str:
    """torchvision's name of one of our layers: `stage1_block2_1_conv` is `layer1.1.conv1`."""
    if name in ("stem_conv", "stem_bn"):
        return {"stem_conv": "conv1", "stem_bn": "bn1"}[name]
    stage, block, part, kind = _OUR_LAYER.match(name).groups()
    inside = f"downsample.{int(kind == 'bn')}" if part == "down" else f"{kind}{part}"
    return f"layer{stage}.{int(block) - 1}.{inside}"


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
