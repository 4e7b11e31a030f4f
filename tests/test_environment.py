"""The pinned packages work together: the combination is narrow, see requirements.txt."""

import subprocess
import sys


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
