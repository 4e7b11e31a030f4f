"""A network, its weights and a batch from a file -> what JAX makes of them, in another file.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python step_on_jax.py GIVEN.npz FOUND.npz

For a process without TensorFlow and with several devices. A step is computed on the first of them,
and with the batch on all of them.
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
labels = {name: given[name] for name in ("target", "known", "partly", "pseudo", "boxes", "inside")}
classes = [SpeciesClass(number, "") for number in range(labels["target"].shape[1])]


def step(batch, synchronized):
    """Loss, gradients and changed statistics by name."""
    detector = build_detector(config, classes, {0: 0.4}, synchronized=synchronized)
    detector.set_weights([given[f"weight{n}"] for n in range(len(detector.weights))])
    classifier = CropClassifier(detector, config)
    classifier.build(batch[0].shape)
    trainable = [v.value for v in classifier.trainable_variables]
    other = [v.value for v in classifier.non_trainable_variables]

    def loss_of(trainable, spectrogram, labels):
        predicted, changed = classifier.stateless_call(trainable, other, spectrogram, training=True)
        return classifier.compute_loss(spectrogram, labels, predicted, training=True), changed

    (loss, changed), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(
        trainable, *batch
    )
    found = {f"gradient{n}": value for n, value in enumerate(gradients)}
    found |= {f"changed{n}": value for n, value in enumerate(changed)}
    return {"loss": loss} | found


batch = (given["spectrogram"], labels)
found = {f"one_{name}": value for name, value in step(batch, False).items()}

for precision in ("float64", "float32"):
    front_end = FrontEnd(config.frontend, precision)
    found[precision] = jax.jit(front_end.call)(given["waveform"])

# Keras's own training on this backend, of a network that compiles quickly.
sound = keras.Input((5, 4))
small = keras.Model(sound, {"logits": keras.layers.Dense(len(classes))(sound)})
small = CropClassifier(small, config)
compile_classifier(small, config.training.model_copy(update={"warmup_epochs": 0.0}))
crops = given["spectrogram"][:, :5, :4]
found["losses"] = [float(small.train_on_batch(crops, labels)) for _ in range(4)]

keras.distribution.set_distribution(keras.distribution.DataParallel())
layout_of = keras.distribution.distribution().get_data_layout
batch = jax.tree.map(lambda v: jax.device_put(v, layout_of(v.shape).backend_layout), batch)
found["devices"] = len(batch[0].devices())
found |= {f"several_{name}": value for name, value in step(batch, True).items()}

np.savez(found_path, **{name: np.asarray(value) for name, value in found.items()})
