"""Networks with open strides: [batch, frames, mels, channels] -> [batch, cells, bands, D].

The total stride is 16 instead of 32 in both directions (the write-up's change): 938 frames x
128 mels become 59 x 8 cells.

`rfcx_tf.core.config.backbone` has the table of networks. Each names a module beside this one with

    build(config, mels, channels, window_frames, synchronized) -> keras.Model
    load_weights(backbone, source, coordinate)

as `build_backbone` and `begin_from_weights` describe them. Another kind of network takes one more
such module and a line in the table.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import keras
from keras import layers

from rfcx_tf.core.config import BackboneConfig, Config
from rfcx_tf.model.efficientnet import LocalSqueeze


def build_backbone(
    config: BackboneConfig,
    mels: int,
    channels: int,
    *,
    window_frames: int | None = None,
    synchronized: bool = False,
) -> keras.Model:
    """The network that the recipe names, without its classifier.

    Strided convolutions pad symmetrically instead of with Keras's `same`, whose padding
    depends on whether the input length is odd or even. So the features of a recording do not
    depend on where a crop of it begins (by whole strides), and published PyTorch weights fit.

    Args:
        config: kind, depth, width and strides.
        mels: mel bands of the input.
        channels: input channels.
        window_frames: input frames around each whose mean weighs channels, in networks that do
            so (EfficientNets); None: all there are.
        synchronized: batch statistics over all replicas (for several devices).

    Returns:
        A model [batch, frames, mels, channels] -> [batch, cells, bands, features] with
        cells = ceil(frames / stride).

    Raises:
        UserError: if the network's library is not installed.
    """
    return _module(config).build(config, mels, channels, window_frames, synchronized)


def begin_from_weights(detector: keras.Model, config: Config) -> None:
    """Gives a new detector the published image weights that the recipe names, if it does.

    Published networks see an image [height, width], ours see [frames, mels]. A spectrogram is
    drawn with frequency as its height, so the kernels are turned: height becomes mels, width
    becomes frames, and the first mel band is the image's first row. `adapt_stem` says how sound
    enters. A trained run holds all of its weights itself and never needs the file again.

    Args:
        detector: a new detector of `build_detector`.
        config: its recipe.

    Raises:
        UserError: if the weights cannot be had or read, do not fit or are not finite. The
            detector is then as it was.
    """
    settings = config.model.backbone
    if settings.weights != "none":
        backbone = detector.get_layer(settings.layer_name)
        coordinate = config.model.frequency_coordinate
        load_published(backbone, settings, settings.weights, coordinate)


def load_published(
    backbone: keras.Model, config: BackboneConfig, source: str, coordinate: bool = False
) -> None:
    """Gives a network of `build_backbone` published weights.

    Args:
        backbone: the network.
        config: what it was built by.
        source: `imagenet`, a preset or a path, as `BackboneConfig.weights`.
        coordinate: the last input channel is a position, not sound (`FrequencyCoordinate`).

    Raises:
        UserError: see `begin_from_weights`.
    """
    _module(config).load_weights(backbone, source, coordinate)


def _module(config: BackboneConfig) -> ModuleType:
    return importlib.import_module(f"rfcx_tf.model.{config.source.module}")


def context_frames(backbone: keras.Model) -> int:
    """How far a cell sees: input frames on either side of the one that it stands for.

    The sum, over all layers, of the half-width of their kernel or window times the input frames
    between two frames of the layer. Where paths part, around a block and around a gate, one of
    them looks at no neighbours, so the sum is that of the farthest path.

    Args:
        backbone: a network of `build_backbone`, with `window_frames` if it is an EfficientNet.
    """
    # That of a library stands inside what pads for it.
    network = next((layer for layer in backbone.layers if isinstance(layer, keras.Model)), backbone)
    seeing = [layer for layer in network.layers if _half_width(layer) > 0]
    entering = keras.Model(network.inputs, [layer.input for layer in seeing])
    frames = 1 << 18
    image = keras.KerasTensor((1, frames, *network.input_shape[2:]))
    # Lengths hold some frames of padding more, which so long an input makes negligible.
    distances = [round(frames / f.shape[1]) for f in entering.compute_output_spec(image)]
    return sum(_half_width(layer) * d for layer, d in zip(seeing, distances, strict=True))


def _half_width(layer: keras.Layer) -> int:
    """Frames on either side of one that a layer looks at."""
    if isinstance(layer, LocalSqueeze):
        return layer.window // 2
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        return layer.kernel_size[0] // 2 * layer.dilation_rate[0]
    if isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        return layer.pool_size[0] // 2
    return 0
