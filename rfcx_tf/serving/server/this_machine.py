"""Who may ask a page's server on this machine: the page itself, in a browser on this machine.

Pages of other sites that such a browser shows can reach the server too. So a request must name this
machine as its host (no name that somebody points here), and come from the server's own page.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost", "::1")


def refuse_others(request: web.Request) -> None:
    """Raises HTTPForbidden for a request that is not of the server's own page."""
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        host = None
    if host not in _NAMES:
        raise web.HTTPForbidden(reason="This server answers under the name of this machine only")
    origin = request.headers.get("Origin")
    # A link from anywhere may lead to the page, which holds nothing by itself.
    fetched_by = request.headers.get("Sec-Fetch-Site", "none")
    is_elsewhere = request.path != "/" and fetched_by not in ("none", "same-origin")
    if is_elsewhere or (origin is not None and origin != f"http://{request.headers['Host']}"):
        raise web.HTTPForbidden(reason="Pages of other sites may not ask")


def keep_private(response: web.StreamResponse) -> None:
    """Headers by which browsers keep an answer from other sites, and from their own stores."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
