"""Options: frozen dataclasses, their JSON form, and checks that name the field, the value and what is allowed."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from jsafe.errors import unknown


def check_fields(config: type, owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for fields of a dataclass type, with int widened to float and lists to tuples.

    Raises:
      ValueError: For an unknown field (with the closest match), or a value of the wrong type; it names `owner`.
    """
    hints = typing.get_type_hints(config)
    names = sorted(field.name for field in dataclasses.fields(config))
    for name in values:
        if name not in names:
            raise ValueError(unknown(f"option of {owner}", name, names))
    return {name: _check(f"{owner}.{name}", value, hints[name]) for name, value in values.items()}


def _check(name: str, value: Any, hint: Any) -> Any:
    """Returns `value` as `hint`, widening int to float and list to tuple; anything else is an error."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        errors = []
        for option in args:
            try:
                return _check(name, value, option)
            except ValueError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(unknown(name, value, map(str, args)))
        return value
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise ValueError(f"{name} must be a sequence, got {value!r}")
        inner = args[0] if args else Any
        return tuple(_check(name, item, inner) for item in value)
    if hint is Any:
        return value
    if hint is type(None):
        if value is not None:
            raise ValueError(f"{name} must be None, got {value!r}")
        return None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (hint is not bool and isinstance(value, bool)) or not isinstance(value, hint):
        raise ValueError(f"{name} must be {getattr(hint, '__name__', hint)}, got {value!r} ({type(value).__name__})")
    return value


def to_json(config: Any) -> Any:
    """Nested dataclasses, tuples and plain values as dicts, lists and plain values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_json(value) for key, value in config.items()}
    if isinstance(config, (tuple, list)):
        return [to_json(value) for value in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise ValueError(f"a config holds plain values, dataclasses and tuples only, got {type(config).__name__}")


def from_json(kind: type, data: dict[str, Any]) -> Any:
    """The inverse of `to_json` for a dataclass type.

    Raises:
      ValueError: For a field that `kind` lacks (with the closest match).
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for name, value in data.items():
        if name not in names:
            raise ValueError(unknown(f"field of {kind.__name__}", name, names))
        values[name] = _restore(hints[name], value)
    return kind(**values)


def _restore(hint: Any, value: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) is not tuple else ()
    for option in (hint, *options):
        if dataclasses.is_dataclass(option) and isinstance(value, dict):
            return from_json(option, value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two JSON trees in one; where both hold a value, that of `over` stays."""
    trees = {n for n in under.keys() & over.keys() if isinstance(under[n], dict) and isinstance(over[n], dict)}
    return {**under, **over, **{name: merge(under[name], over[name]) for name in trees}}


def difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for each field in which two JSON trees differ, both values named."""
    lines = []
    for name in sorted({*old, *new}):
        a, b = old.get(name, "nothing"), new.get(name, "nothing")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{prefix}{name}.")
        elif a != b and not (a is b or repr(a) == repr(b)):
            lines.append(f"{prefix}{name}: {a!r} there, {b!r} here")
    return lines
