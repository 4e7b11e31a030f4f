"""Species detection in forest recordings, trained on expert-marked boxes.

What `__all__` names is public and stays; the rest may change from version to version.
"""

import os

# Before the first import of TensorFlow: its C++ side otherwise prints pages of notes about
# plugins and CPU features. Real failures still arrive as Python exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
__all__ = ["Model", "UserError", "__version__", "draw", "load"]


def __getattr__(name: str):
    """Imports what is public when it is asked for, so that the command line starts at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "UserError":
        from rfcx_tf.core.errors import UserError

        return UserError
    from rfcx_tf import api

    return getattr(api, name)
