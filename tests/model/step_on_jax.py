"""A network, its weights and a batch from a file -> what JAX makes of them, in another file.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python step_on_jax.py GIVEN.npz FOUND.npz

For a process without TensorFlow. Where there are several devices, the batch lies on all of them.
"""

import json
import sys

import jax
import keras
import numpy as np

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.model.detector import build_detector
from rfcx_tf.training.classifier import CropClassifier, compile_classifier

sys.modules["tensorflow"] = None
given_path, found_path = sys.argv[1:]
with np.load(given_path) as given:
    given = dict(given)
config = Config.model_validate(json.loads(str(given["config"])))
classes = [SpeciesClass(number, "") for number in range(given["target"].shape[1])]
several = len(jax.devices()) > 1
if several:
    keras.distribution.set_distribution(keras.distribution.DataParallel())
detector = build_detector(config, classes, {0: 0.4}, synchronized=several)
detector.set_weights([given[f"weight{n}"] for n in range(len(detector.weights))])
classifier = CropClassifier(detector, config)
compile_classifier(classifier, config.training)
classifier.build(given["spectrogram"].shape)
labels = {name: given[name] for name in ("target", "known", "partly", "pseudo")}
trainable = [v.value for v in classifier.trainable_variables]
other = [v.value for v in classifier.non_trainable_variables]


def loss_of(trainable, spectrogram, labels):
    predicted, changed = classifier.stateless_call(trainable, other, spectrogram, training=True)
    return classifier.compute_loss(spectrogram, labels, predicted, training=True), changed


batch = (given["spectrogram"], labels)
if several:
    layout = keras.distribution.distribution().get_data_layout
    backend = keras.src.backend.distribution_lib
    batch = jax.tree.map(
        lambda v: backend.distribute_data_input(v, layout(v.shape), "batch"), batch
    )
(loss, changed), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(trainable, *batch)
found = {f"gradient{n}": np.asarray(value) for n, value in enumerate(gradients)}
found |= {f"changed{n}": np.asarray(value) for n, value in enumerate(changed)}
# Keras's own training on this backend: loss, gradients, AdamW.
if not several:
    found["fitted"] = [float(classifier.train_on_batch(given["spectrogram"], labels))]
    front_end = FrontEnd(config.frontend)
    found["frames"] = np.asarray(front_end(given["waveform"]))
    found["fast"] = np.asarray(FrontEnd(config.frontend, "float32")(given["waveform"]))
found["devices"] = len(batch[0].devices()) if several else 1
np.savez(found_path, loss=np.asarray(loss), **found)
