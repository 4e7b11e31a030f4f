"""A translated TFLite graph against TensorFlow's own interpreter of the file."""

import numpy as np
import pytest
import tensorflow as tf

from rfcx_tf.core.errors import UserError
from rfcx_tf.model.litert_interpreter import Interpreter
from rfcx_tf.model.tflite_graph import TfliteGraph

SAMPLES = 1000


def random(*shape) -> tf.Tensor:
    return tf.constant(np.random.default_rng(len(shape)).normal(0, 0.3, shape), tf.float32)


def listen(sound):
    """What BirdNET is made of, small: two scales of spectrograms, gates, all kinds of layers."""
    low = tf.reduce_min(sound, axis=1, keepdims=True)
    sound = (sound - low) / (tf.reduce_max(sound - low, axis=1, keepdims=True) + 1e-6)
    spectrum = tf.cast(tf.signal.stft(sound, 128, 64, pad_end=False), tf.float32)
    mel = tf.tensordot(spectrum, random(65, 16), axes=1) ** 2.0
    mel = tf.math.log(tf.maximum(mel, 1e-3)) + tf.pow(mel, 0.4)
    image = tf.expand_dims(tf.transpose(tf.reverse(mel, [2]), [0, 2, 1]), -1)
    x = tf.nn.relu(tf.nn.conv2d(image, random(3, 3, 1, 8), [1, 2], "SAME") + random(8))
    x = tf.concat([tf.nn.avg_pool2d(x, 2, 2, "VALID"), tf.nn.max_pool2d(x, 2, 2, "VALID")], 3)
    gate = tf.reshape(tf.reduce_mean(x, [1, 2]), [tf.shape(x)[0], 1, 1, 16])
    x = x * tf.sigmoid(tf.nn.conv2d(gate, random(1, 1, 16, 16), 1, "SAME"))
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.nn.depthwise_conv2d(x, random(3, 3, 16, 1), [1, 2, 2, 1], "VALID")
    x = tf.nn.relu6(x * random(16) + 0.5)
    return tf.matmul(tf.nn.relu(tf.reduce_mean(x, [1, 2])), random(16, 5)) - 0.25


def convert(function, path, **options):
    traced = tf.function(function, [tf.TensorSpec([None, SAMPLES], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    for name, value in options.items():
        setattr(converter, name, value)
    path.write_bytes(converter.convert())
    return Interpreter(str(path), num_threads=1)


def test_a_graph_gives_what_the_interpreter_gives(tmp_path):
    path = tmp_path / "model.tflite"
    interpreter = convert(listen, path)
    sound = np.random.default_rng(0).normal(0, 0.3, (3, SAMPLES)).astype(np.float32)
    (own,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(own["index"], sound.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(own["index"], sound)
    interpreter.invoke()
    expected = interpreter.get_tensor(output["index"])
    assert expected.std(axis=0).min() > 1e-3
    graph = tf.function(TfliteGraph(path, output["index"]))
    np.testing.assert_allclose(graph(tf.constant(sound)), expected, rtol=1e-4, atol=1e-5)


def test_only_what_the_tensor_depends_on_is_read(tmp_path):
    def classify(sound):
        return tf.nn.softmax(tf.matmul(tf.matmul(sound, random(SAMPLES, 4)), random(4, 300)))

    path = tmp_path / "model.tflite"
    (output,) = convert(classify, path).get_output_details()
    # Softmax is in no table; what comes before is.
    with pytest.raises(UserError, match=r"model.tflite has SOFTMAX. Name its SavedModel"):
        TfliteGraph(path, output["index"])
    graph = TfliteGraph(path, output["index"] - 2)
    assert [weight.shape for weight in graph.weights] == [[4, SAMPLES]]
    sound = np.random.default_rng(0).normal(0, 0.3, (2, SAMPLES)).astype(np.float32)
    expected = sound @ random(SAMPLES, 4).numpy()
    np.testing.assert_allclose(graph(tf.constant(sound)), expected, atol=1e-4)


def test_quantised_weights_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    quantised = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    (output,) = convert(
        lambda sound: tf.matmul(sound, random(SAMPLES, 40)), path, **quantised
    ).get_output_details()
    with pytest.raises(UserError, match="tensors of INT8"):
        TfliteGraph(path, output["index"])
