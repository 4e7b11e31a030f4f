"""`Interpreter` runs LiteRT files: ai-edge-litert's where it is installed, else TensorFlow's own.

TensorFlow announces that it will drop its own; both take the same arguments.
"""

import importlib.util

if importlib.util.find_spec("ai_edge_litert") is not None:
    from ai_edge_litert.interpreter import Interpreter
else:
    from tensorflow.lite.python.interpreter import Interpreter

__all__ = ["Interpreter"]
