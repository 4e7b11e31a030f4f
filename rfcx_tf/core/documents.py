"""YAML and JSON: read within bounds, and sealed with a checksum of their own content.

A document that a command writes and another reads is sealed: YAML in a comment, its first line,
JSON in the entry `seal`. A bit that flips on the disk then ends in one line and not in another
result. Documents without a seal, of people and of earlier versions, open as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import yaml

from rfcx_tf.core.errors import UserError

# Far more than the largest calibration has, and little enough to be read in seconds.
_MOST_NODES = 1_000_000
# Recipes have 4 levels. Every one takes several of Python's calls, of which it allows a thousand.
_MOST_LEVELS = 50
_YAML_SEAL = re.compile(r"# sha256 of what follows: ([0-9a-f]{64})\n")
# One flipped bit leaves one of its two signs.
_LOOKS_SEALED = re.compile(r"sha256 of what|[0-9a-f]{64}")
_JSON_SEAL = "seal"
_JSON_MARK = "sha256:"


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's, which stops where values are nested too deep instead of at the end of the text."""

    _level = 0

    def compose_node(self, parent, index):
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise ValueError(_too_deep())
        node = super().compose_node(parent, index)
        self._level -= 1
        return node


class DocumentError(UserError):
    """A document that is not what it should be; the message is one line that names it."""


def read_yaml(path: str | Path, what: str, *, sealed: bool = True):
    """The plain values in a YAML file.

    Args:
        path: the file.
        what: it is, for messages: "The calibration".
        sealed: whether a seal must fit. That of a recipe need not: people take a run's and go on
            from there.

    Raises:
        OSError: if it cannot be read.
        DocumentError: if it is no YAML, unfolds beyond the bounds, or does not fit its seal.
    """
    text = _read_text(path, what, "YAML")
    if sealed:
        _check_yaml_seal(text, f"{what} {path}")
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise DocumentError(f"{what} {path} is not valid YAML: {error}.") from None


def parse_yaml(text: str):
    """The plain values in a YAML text.

    Raises:
        ValueError: saying why not, in a clause. Aliases that unfold to more than a million
            values and more than 50 levels are refused before anything is made of them.
    """
    try:
        loader = _BoundedLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check_size(root)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except Exception as error:  # Of any kind, for numbers and dates that are none.
        raise ValueError(" ".join(str(error).split())) from None


def sealed_yaml(text: str) -> str:
    """YAML text behind a line with its checksum."""
    return f"# sha256 of what follows: {_sha256(text)}\n{text}"


def read_json(path: str | Path, what: str) -> dict:
    """The object in a JSON file, without its seal.

    Args:
        path: the file.
        what: it is, for messages: "The manifest".

    Raises:
        OSError: if it cannot be read.
        DocumentError: if it is no JSON object, or does not fit its seal.
    """
    try:
        return parse_json(_read_text(path, what, "JSON"))
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"{what} {path} is damaged: {error}.") from None


def parse_json(text: str | bytes) -> dict:
    """The object in a JSON text, without its seal.

    Raises:
        ValueError: saying why not, in a clause.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    except ValueError as error:
        raise ValueError(f"no valid JSON ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    seal = values.pop(_JSON_SEAL, None)
    marked = any(isinstance(v, str) and v.startswith(_JSON_MARK) for v in values.values())
    if (seal is not None or marked) and seal != _json_seal(values):
        raise ValueError(
            "it does not match its checksum. If somebody edited it and meant it, delete its entry "
            f"`{_JSON_SEAL}`; otherwise make it again or copy it again"
        )
    return values


def sealed_json(values: dict, indent: int | None = None) -> str:
    """JSON text of an object, with a checksum of its values as the last entry."""
    # As they are read: keys are text, tuples lists.
    values = json.loads(json.dumps(values))
    return json.dumps(values | {_JSON_SEAL: _json_seal(values)}, indent=indent)


def _read_text(path: str | Path, what: str, kind: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        reason = " ".join(str(error).split())
        raise DocumentError(f"{what} {path} is not valid {kind}: {reason}.") from None


def _check_yaml_seal(text: str, which: str) -> None:
    found = _YAML_SEAL.match(text)
    if found and _sha256(text[found.end() :]) == found[1]:
        return
    if found or _LOOKS_SEALED.search(text):
        raise DocumentError(
            f"{which} does not match the checksum in its first line. If somebody edited it and "
            "meant it, delete that line; otherwise make it again or copy it again."
        )


def _check_size(root: yaml.Node) -> None:
    """Raises ValueError for a tree that unfolds beyond the bounds; every node is seen once."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def measure(node: yaml.Node, level: int) -> int:
        if level > _MOST_LEVELS:
            raise ValueError(_too_deep())
        if id(node) in open_nodes:
            raise ValueError("an alias names what it is in")
        if id(node) in sizes:
            return sizes[id(node)]
        open_nodes.add(id(node))
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in children for part in pair]
        size = 1 + sum(measure(child, level + 1) for child in children)
        if size > _MOST_NODES:
            raise ValueError(f"its aliases unfold to more than {_MOST_NODES:,} values")
        open_nodes.discard(id(node))
        sizes[id(node)] = size
        return size

    measure(root, 1)


def _too_deep() -> str:
    return f"values may be nested {_MOST_LEVELS} levels deep, and these go deeper"


def _json_seal(values: dict) -> str:
    return _JSON_MARK + _sha256(json.dumps(values, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
