"""The pinned packages work together: the combination is narrow, see requirements.txt."""

import subprocess
import sys

import numpy as np
import soundfile

from rfcx_tf.audio.decode import read_audio


def test_tensorflow_io_decodes_flac_as_we_do(tmp_path):
    import tensorflow_io as tfio

    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 4000).astype(np.int16)
    path = tmp_path / "a.flac"
    soundfile.write(path, samples, 48000, subtype="PCM_16")
    decoded = tfio.audio.decode_flac(path.read_bytes(), dtype="int16").numpy()[:, 0]
    np.testing.assert_array_equal(decoded, samples)
    np.testing.assert_array_equal(read_audio(path, 48000), decoded / np.float32(2**15))


def test_keras_cv_builds_a_backbone():
    # In a process of its own: keras-cv takes long to import and leaves much behind.
    code = """
import rfcx_tf, numpy as np
from keras_cv.models import ResNetBackbone
net = ResNetBackbone(
    stackwise_filters=[64, 128], stackwise_blocks=[1, 1], stackwise_strides=[1, 2],
    block_type="basic_block", include_rescaling=False, input_shape=(None, 32, 1),
)
print(net(np.zeros([1, 64, 32, 1], "float32")).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1, 8, 4, 128)" in done.stdout


def test_import_is_quiet():
    code = "import rfcx_tf, rfcx_tf.training.run, rfcx_tf.serving.export"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
