"""An embedding model that the tests make themselves."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tone_model(tmp_path_factory):
    """A TFLite file: 1 s at 16 kHz -> 32 log energies of tones, 200 Hz apart -> 3 numbers."""
    import keras
    import tensorflow as tf

    rate, length = 16000, 320
    times_s = np.arange(length) / rate
    phases = 2 * np.pi * np.outer(times_s, np.arange(200, 3400, 200))
    kernel = np.concatenate([np.sin(phases), np.cos(phases)], axis=1)[:, np.newaxis] / length
    sound = keras.Input((rate,))
    cells = keras.layers.Reshape((rate, 1))(sound)
    convolution = keras.layers.Conv1D(32, length, strides=160, use_bias=False)
    energies = keras.layers.GlobalAveragePooling1D()(keras.ops.square(convolution(cells)))
    scores = keras.layers.Dense(3)(keras.ops.log(energies + 1e-6))
    convolution.set_weights([kernel])
    path = tmp_path_factory.mktemp("tone_model") / "tones.tflite"
    model = keras.Model(sound, scores)
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path
