"""Names, attributes and text -> HTML in which no text can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = ("input", "br")


class Html(str):
    """Text that is markup already; every other string is escaped where it enters a page."""


def escape(content: object) -> Html:
    """The content as markup: `Html` as it is, all else as the text that it is."""
    if isinstance(content, Html):
        return content
    # File names may hold bytes that are no UTF-8, which Python keeps as lone surrogates.
    text = str(content).encode("utf-8", "replace").decode("utf-8")
    return Html(html.escape(text))


def element(name: str, *content: object, **attributes: object) -> Html:
    """One element.

    Args:
        name: of the element.
        *content: text, which is escaped, and `Html`.
        **attributes: `class_` is class, and other underscores are hyphens. True gives an
            attribute without a value; None and False leave it out.

    Example:
        element("p", "a < b", class_="note") == '<p class="note">a &lt; b</p>'
    """
    written = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(key if value is True else f'{key}="{escape(value)}"')
    begin = f"<{' '.join(written)}>"
    return Html(begin if name in _VOID else f"{begin}{join(content)}</{name}>")


def join(content: Iterable[object]) -> Html:
    """Pieces one after the other, as `escape` has them."""
    return Html("".join(map(escape, content)))
