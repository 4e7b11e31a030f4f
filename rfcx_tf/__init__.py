"""Species detection in forest recordings, trained on expert-marked boxes.

What `__all__` names is public and stays; the rest may change from version to version.
"""

from rfcx_tf.core.tensorflow_import import quiet_import

quiet_import()

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
