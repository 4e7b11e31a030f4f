"""A YAML file and `a.b=value` overrides -> a checked configuration, and back to YAML."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pydantic
import yaml

from rfcx_tf.core.config.baseline import BaselineConfig
from rfcx_tf.core.config.listener import ListenerConfig
from rfcx_tf.core.config.recipe import Config
from rfcx_tf.core.documents import DocumentError, parse_yaml, read_yaml, sealed_yaml
from rfcx_tf.core.errors import UserError

Schema = TypeVar("Schema", bound=pydantic.BaseModel)
# What `rfcx-tf train` takes. A recipe says its kind, such as `kind: listener`; the first is the
# default.
Recipe = Config | ListenerConfig | BaselineConfig


class ConfigError(UserError):
    """A configuration that cannot be used; the message is one line that names the key."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a recipe; see `load_yaml`."""
    return load_yaml(Config, path, overrides)


def load_recipe_of_any_kind(
    path: str | Path, overrides: Sequence[str] = (), *, sealed: bool = False
) -> Recipe:
    """Reads a recipe by the schema of its `kind`; see `load_yaml`.

    Args:
        path, overrides: as of `load_yaml`.
        sealed: whether it must be as it was written, as that of a run must: what was trained does
            not change. A recipe to train by may be a run's that somebody went on from.
    """
    values = _read(path, overrides, sealed)
    kind = values.pop("kind", Config.kind)
    schemas = {str(schema.kind): schema for schema in Recipe.__args__}
    if str(kind) not in schemas:
        raise ConfigError(f"{path}: kind must be one of {', '.join(schemas)}. Received: {kind}.")
    return _check(schemas[str(kind)], values, path)


def load_yaml(schema: type[Schema], path: str | Path, overrides: Sequence[str] = ()) -> Schema:
    """Reads a YAML file, applies `a.b=value` overrides, and checks the result.

    Args:
        schema: what the file describes; what it leaves out keeps its default.
        path: a YAML file.
        overrides: such as `training.epochs=3`; values are read as YAML.

    Raises:
        ConfigError: with one line that names the file or the key.
    """
    return _check(schema, _read(path, overrides), path)


def _read(path: str | Path, overrides: Sequence[str], sealed: bool = False) -> dict:
    try:
        values = read_yaml(path, "The config", sealed=sealed) or {}
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read: {error.strerror}.") from None
    except DocumentError as error:
        raise ConfigError(str(error)) from None
    if sealed and not values:
        raise ConfigError(f"The config of a run has every value. {path} is empty: copy it again.")
    if not isinstance(values, dict):
        raise ConfigError(f"The config {path} must map keys to values. Received: {_short(values)}.")
    for override in overrides:
        _apply_override(values, override)
    return values


def _check(schema: type[Schema], values: dict, path: str | Path) -> Schema:
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def save_config(config: Recipe, path: str | Path) -> None:
    """Writes every value, defaults included, as sealed YAML that can be read again."""
    kind = {} if config.kind == Config.kind else {"kind": config.kind}
    values = kind | config.model_dump(mode="json")
    text = sealed_yaml(yaml.safe_dump(values, sort_keys=False))
    Path(path).write_text(text, encoding="utf-8")


def differences(old: dict, new: dict, prefix: str = "") -> list[tuple[str, object, object]]:
    """The values of `new` that differ from those of `old`: (dotted key, old, new)."""
    changed = []
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            changed += differences(old[key], value, f"{prefix}{key}.")
        elif old.get(key) != value:
            changed.append((f"{prefix}{key}", old.get(key), value))
    return changed


def _apply_override(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes key.sub=value. Received: {override!r}.")
    try:
        value = parse_yaml(text)
    except ValueError:
        raise ConfigError(
            f"--set {key}: the value is not valid YAML. Received: {text!r}."
        ) from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no point) as text; people mean the number.
        with contextlib.suppress(ValueError):
            value = float(value)
    *parents, last = key.strip().split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {key}: {parent} is a value, not a section.")
    section[last] = value


def _first_problem(error: pydantic.ValidationError) -> str:
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        text = f"{key} is not a known key."
    elif first["type"] == "value_error":
        # A rule of a section names the key from that section on.
        text = f"{key}." * bool(key) + str(first["ctx"]["error"])
    else:
        text = f"{key}: {first['msg']}. Received: {_short(first['input'])}."
    more = len(problems) - 1
    return text + (f" (and {more} more)" if more else "")


def _short(value: object) -> str:
    """A value as the user wrote it, cut short: aliases of YAML can unfold without end."""
    return f"{reprlib.repr(value):.60}"
