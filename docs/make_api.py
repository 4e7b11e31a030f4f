"""Docstrings of what is public -> docs/api/, pages to read in a browser.

    make docs

Everything that pdoc would warn of (an annotation or a name that leads nowhere) ends it. Beside the
package's own names there are pages of the card and of tables, for their columns.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import pdoc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Names of every module that are on its page; None: those of its __all__.
PAGES = {
    "rfcx_tf": None,
    "rfcx_tf.scoring.card": ["ModelCard"],
    "rfcx_tf.events.table": ["EVENT_COLUMNS"],
    "rfcx_tf.events.read": ["read_events"],
    "rfcx_tf.events.window_table": [],
    "rfcx_tf.scoring.score_table": ["read_scores", "read_truth"],
    "rfcx_tf.scoring.left_out": ["read_left_out"],
}


def make_api(out: Path) -> int:
    """Writes the pages; how many there are."""
    for name, shown in PAGES.items():
        module = importlib.import_module(name)
        if shown is not None:
            module.__all__ = shown
        for public in module.__all__:
            # The package imports its names when they are asked for, and pdoc does not ask.
            setattr(module, public, getattr(module, public))
    pdoc.render.configure(docformat="google", search=False, show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*PAGES, output_directory=out)
    return len(PAGES)


if __name__ == "__main__":
    folder = ROOT / "docs" / "api"
    print(f"Wrote {make_api(folder)} pages. Open {folder / 'index.html'}.")
