"""Backbones of keras-cv and keras-hub, up to their pyramid level of stride 16.

A library's network is taken to pieces, so that it slides over a recording as our own do and needs
the library no more once it is built:

- Its strided layers pad by their input's length, odd or even, and stand for later and later
  frames. Here the input is padded to whole strides, and by so much before its first frame that
  cell i stands for the frames around i * 16. So there are ceil(frames / 16) cells of every network.
- Squeezes of channels look at a window around every frame (`LocalSqueeze`).
- Batch normalisation is the fused one, with the momentum of our networks: those of the libraries,
  up to 0.999, are made for hundreds of thousands of steps.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
from keras import layers, tree

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.core.config.backbone import BACKBONES, PRESET
from rfcx_tf.core.config.library_networks import LIBRARY_NETWORKS
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.efficientnet import LocalSqueeze
from rfcx_tf.model.image_weights import adapt_stem, reason
from rfcx_tf.model.normalization import BatchNormalization
from rfcx_tf.model.weight_files import all_or_error
from rfcx_tf.model.whole_strides import CellsOfFrames, WholeStrides

_STRIDE, _LEVEL = 16, "P4"
_PUBLISHED_CHANNELS = 3
_INSTALL = {
    "keras_cv": "is in the set of Python 3.11, locks/card.txt",
    "keras_hub": "comes with pip install keras-hub",
}


def build(config: BackboneConfig, mels: int, channels: int, window_frames, synchronized):
    """A network of a library, as `build_backbone` describes it.

    Raises:
        UserError: if the library is not installed.
    """
    published = _library_network(config.name, (None, mels, channels))
    network, before = _own_network(published, window_frames, synchronized)
    image = keras.Input((None, mels, channels), name="image")
    cells = network(WholeStrides(_STRIDE, before, name="whole_strides")(image))
    cells = CellsOfFrames(_STRIDE, name="cells_of_frames")([cells, image])
    return keras.Model(image, cells, name=config.layer_name)


def load_weights(backbone: keras.Model, source: str, coordinate: bool = False) -> None:
    """Gives a backbone of `build` the weights of a network of its library.

    Args:
        backbone: the network that takes the weights.
        source: `preset:NAME`, which the library downloads once, or a file that it saved: the
            whole network (.keras) or its weights (.weights.h5).
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: see `begin_from_weights`.
    """
    name = next(n for n in BACKBONES if n.replace(":", "_") == backbone.name)
    published = _published(name, source, backbone.input_shape[-1])
    other = UserError(
        f"A weights file must hold the network {name}. {source} holds another. Set "
        "model.backbone.name to the file's network, or name another file."
    )
    try:
        network, _ = _own_network(published, None, False)
    except (KeyError, ValueError):
        # Of the same class, with too few stages.
        raise other from None
    values = [w.swapaxes(0, 1) if w.ndim == 4 else w for w in network.get_weights()]
    values[0] = adapt_stem(values[0], backbone.input_shape[-1], coordinate)
    if not all(np.isfinite(value).all() for value in values):
        raise UserError(f"Weights must be finite. {source} has NaN or infinity. Name another file.")
    expected = [tuple(weight.shape) for weight in backbone.weights]
    if [value.shape for value in values] != expected:
        raise other
    backbone.set_weights(values)


def check_network_is_there(config: BackboneConfig) -> None:
    """Refuses a network whose library cannot be imported, in one line (UserError)."""
    if config.source.module == "library":
        _library(config.name)


def _library(name: str) -> tuple[ModuleType, str]:
    """The module of the library, and its own name of the network."""
    library, _, network = name.partition(":")
    try:
        return importlib.import_module(library), network
    except ImportError as error:
        raise UserError(
            f"model.backbone.name={name} needs the package {library.replace('_', '-')}, which "
            f"cannot be imported ({reason(error)}). It {_INSTALL[library]}. Install it, or take "
            "another network."
        ) from None


def _library_network(name: str, input_shape: tuple) -> keras.Model:
    """The library's own network with random weights."""
    module, network = _library(name)
    class_name, sizes = LIBRARY_NETWORKS[module.__name__][network]
    kind = getattr(module.models, class_name)
    if module.__name__ == "keras_cv":
        return kind(**sizes, input_shape=input_shape, include_rescaling=False)
    shape = "input_shape" if class_name == "EfficientNetBackbone" else "image_shape"
    return kind(**sizes, **{shape: input_shape})


def _own_network(
    published: keras.Model, window_frames: int | None, synchronized: bool
) -> tuple[keras.Model, int]:
    """A copy with its weights up to the level of stride 16, of Keras's layers and our own.

    Returns:
        The network, and how many frames late its cells are: cell i stands for the frames around
        i * stride + that, where the input is whole strides long.
    """
    level = _pyramid_level(published)
    # A library's own layers are run on symbolic tensors, which leaves what they consist of.
    flat = keras.models.clone_model(
        level, clone_function=lambda layer: layer, call_function=_call_opened
    )
    copies: list[tuple[layers.Layer, layers.Layer]] = []
    # By tensor: frames of the input from one of its frames to the next, and the first and last
    # one that its frame 0 sees.
    fields: dict[int, tuple[int, int, int]] = {}

    def copy(layer):
        # Operations and layers without weights of their own have no state.
        if not isinstance(layer, layers.Layer) or isinstance(
            layer, layers.GlobalAveragePooling2D | layers.Reshape
        ):
            return layer
        settings = layer.get_config()
        kind = type(layer)
        if isinstance(layer, layers.BatchNormalization):
            kind, settings["synchronized"] = BatchNormalization, synchronized
            settings["momentum"] = 0.9
        elif "HardSigmoid" in type(getattr(layer, "activation", None)).__name__:
            settings["activation"] = "hard_sigmoid"
        copies.append((layer, kind.from_config(settings)))
        return copies[-1][1]

    def call(layer, *args, **kwargs):
        seen = [fields[id(t)] for t in tree.flatten(args) if id(t) in fields] or [(1, 0, 0)]
        jumps, firsts, lasts = zip(*seen, strict=True)
        jump, first, last = max(jumps), min(firsts), max(lasts)
        if isinstance(layer, layers.GlobalAveragePooling2D):
            window = None
            if window_frames is not None:
                window = 2 * (window_frames // (2 * jump)) + 1
            outputs = LocalSqueeze(window, name=layer.name)(args[0])
        elif isinstance(layer, layers.Reshape):
            outputs = args[0]
        else:
            outputs = layer(*args, **kwargs)
        kernel, stride, before = _sight(layer)
        field = (jump * stride, first - before * jump, last + (kernel - 1 - before) * jump)
        fields.update((id(tensor), field) for tensor in tree.flatten(outputs))
        return outputs

    network = keras.models.clone_model(flat, clone_function=copy, call_function=call)
    for theirs, ours in copies:
        ours.set_weights(theirs.get_weights())
    jump, first, last = fields[id(network.output)]
    if jump != _STRIDE:
        raise ValueError(f"{_LEVEL} of {published.name} must have stride {_STRIDE}, not {jump}.")
    return network, (first + last) // 2


def _pyramid_level(published: keras.Model) -> keras.Model:
    """The library's network up to its level of stride 16."""
    if hasattr(published, "pyramid_outputs"):
        return keras.Model(published.input, published.pyramid_outputs[_LEVEL])
    last = published.get_layer(published.pyramid_level_inputs[_LEVEL])
    return keras.Model(published.input, last.output)


def _call_opened(layer, *args, **kwargs):
    opened = type(layer).__module__.partition(".")[0] in LIBRARY_NETWORKS
    return (layer.call if opened else layer)(*args, **kwargs)


def _sight(layer) -> tuple[int, int, int]:
    """Frames of the input that a layer's frame sees, its stride, and frames padded before the
    input, where that is whole strides long."""
    if isinstance(layer, layers.ZeroPadding2D):
        return 1, 1, layer.padding[0][0]
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        kernel = layer.kernel_size[0]
    elif isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        kernel = layer.pool_size[0]
    else:
        return 1, 1, 0
    stride = layer.strides[0]
    return kernel, stride, max(kernel - stride, 0) // 2 if layer.padding == "same" else 0


def _published(name: str, source: str, channels: int) -> keras.Model:
    """The library's network with the weights of `source`."""
    if source.startswith(PRESET):
        preset = source.removeprefix(PRESET)
        try:
            module, network = _library(name)
            kind = getattr(module.models, LIBRARY_NETWORKS[module.__name__][network].class_name)
            return kind.from_preset(preset)
        except Exception as error:  # Of the library, its downloads or the file system.
            raise UserError(
                f"model.backbone.weights={source} is downloaded by the library, which failed: "
                f"{reason(error)}. Try again with a connection, or set model.backbone.weights "
                "to the path of a file that the library saved."
            ) from None
    path = Path(source)
    if not path.is_file():
        raise UserError(
            f"model.backbone.weights must name a file that is there. Not found: {path}."
        )
    try:
        if path.suffix == ".keras":
            with all_or_error():
                network = keras.models.load_model(path, compile=False)
            if type(network) is not type(_library_network(name, (None, None, channels))):
                raise ValueError(f"it holds a {type(network).__name__}")
            return network
        try:
            network = _library_network(name, (None, None, _PUBLISHED_CHANNELS))
            with all_or_error():
                network.load_weights(path)
        except (ValueError, UserWarning):
            # Of a network that somebody trained on sound.
            network = _library_network(name, (None, None, channels))
            with all_or_error():
                network.load_weights(path)
        return network
    except Exception as error:  # Of HDF5, zipfile, Keras or the library, as the bytes have it.
        raise UserError(
            f"A weights file must be one of {name}, saved by its library as .keras or "
            f".weights.h5. {path} cannot be loaded: {reason(error)}. Name another file, or set "
            "model.backbone.name to the file's network."
        ) from None
