"""The page that people judge on, in two forms of one text.

Served, it asks `server` for everything. Given away, it lies beside clips and pictures, holds the
rows itself, keeps verdicts in the browser and gives them back as a download.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

_FOLDER = Path(__file__).parent / "templates"
# In the order in which they build on one another.
_SCRIPTS = ("stores.js", "picture.js", "species.js", "page.js")


def served_page() -> tuple[str, str]:
    """The page, and the Content-Security-Policy that lets it run nothing else."""
    style, script = _style_and_script()
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return _fill(None), policy


def given_away_page(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    views: Sequence[tuple[float, float, float]],
) -> str:
    """The page for a folder with clips and pictures; it needs neither server nor network.

    Args:
        columns: of review.csv.
        rows: of review.csv, as text by column.
        views: what the clip and the picture of each row show: begin and end in s, top in Hz.
    """
    content = {"columns": columns, "rows": rows, "views": views}
    # Browsers keep verdicts by this name, so that no other review takes them for its own.
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return _fill(content | {"id": name})


def _fill(review: dict | None) -> str:
    style, script = _style_and_script()
    template = (_FOLDER / "page.html").read_text(encoding="utf-8")
    return jinja2.Template(template, autoescape=True).render(
        review=review, style=Markup(style), script=Markup(script)
    )


def _style_and_script() -> tuple[str, str]:
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return style, script


def _source(text: str) -> str:
    """Names a script or style to the policy, by the hash of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
