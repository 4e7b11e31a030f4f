"""Weights go into a network as a whole or not at all."""

import h5py
import keras
import numpy as np
import pytest
from refused import refused
from small_networks import randomize

from rfcx_tf.model.weight_files import load_network


@pytest.fixture
def network():
    layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    return keras.Sequential([*layers, keras.layers.Dense(2)])


def test_weights_are_those_of_the_file(network, tmp_path):
    randomize(network)
    network.save_weights(tmp_path / "a.weights.h5")
    other = keras.models.clone_model(network)
    load_network(other, tmp_path / "a.weights.h5", "")
    for one, two in zip(network.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("lost", ["layers", "layers/dense_1", "layers/dense/vars/0", None])
def test_a_file_without_all_of_them_is_refused(network, tmp_path, lost):
    """Keras only warns where the group of all layers is not there."""
    path = tmp_path / "a.weights.h5"
    network.save_weights(path)
    if lost is None:
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with h5py.File(path, "r+") as file:
            del file[lost]
    message = refused(load_network, network, path, "Copy it again.")
    assert str(path) in message and message.endswith("Copy it again.")
    path.unlink()
    assert str(path) in refused(load_network, network, path, "")
