"""Rows of a review -> one HTML page that plays the clips and takes verdicts, without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

_TEMPLATE = Path(__file__).with_name("page.html")
_DATA = "/*REVIEW*/null"


def page_html(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    """The page; it shows clips and pictures by their paths beside it.

    Args:
        columns: of the CSV file that the page gives back.
        rows: its rows.
    """
    content = {"columns": list(columns), "rows": list(rows)}
    # Browsers keep verdicts by this name, so that no other review takes them for its own.
    content["id"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    # A name with </script> or <!-- in it must not end the script; JSON may write < as \u003c.
    data = json.dumps(content).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace(_DATA, data, 1)
