"""Species detection in forest recordings, trained on expert-marked boxes."""

import os

# Before the first import of TensorFlow: its C++ side otherwise prints pages of notes about
# plugins and CPU features. Real failures still arrive as Python exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
