"""Weights on disk -> a network of ours, all of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from rfcx_tf.core.config import BackboneConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.model.image_weights import reason


@contextmanager
def all_or_error() -> Iterator[None]:
    """Within it Keras raises UserWarning where it only warns, of layers that a file lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def load_network(network: keras.Model, path: Path, way_out: str) -> None:
    """Puts the weights of a file of Keras into a network that has its layers.

    Args:
        network: built.
        path: a `.weights.h5` file.
        way_out: what to do if that fails, a sentence.

    Raises:
        UserError: if the file is missing or damaged, or any layer's weights are not in it.
    """
    try:
        with all_or_error():
            network.load_weights(path)
    except Exception as error:  # Of HDF5, h5py or Keras, as the bytes have it.
        raise UserError(
            f"The weights {path} cannot be loaded: {reason(error)}. {way_out}"
        ) from None


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives a network the weights of another one, layer by layer and by name.

    Stochastic depth changes the order of layers, and networks of an earlier version have none that
    find boxes: those of the target stay as they are.
    """
    for layer in source.layers:
        if isinstance(layer, keras.Model):
            copy_weights(layer, target.get_layer(layer.name))
        elif layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def check_weights_are_there(config: BackboneConfig) -> None:
    """Refuses a recipe whose weights file, or folder of a SavedModel, is not there (UserError)."""
    path = config.weights_file
    if path is not None and not Path(path).exists():
        raise UserError(
            f"model.backbone.weights must name a file that is there. Not found: {path}."
        )
