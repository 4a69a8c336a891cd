"""Options as JSON trees, and what two such trees make together or differ in."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from jsafe.errors import unknown
from jsafe.options.fields import hints_of, kinds


def to_json(config: Any) -> Any:
    """Nested dataclasses, tuples and plain values as dicts, lists and plain values; a part says its `kind`.

    Raises:
      ValueError: For a part that is no registered dataclass, or another object.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        data = {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if "seam" in field.metadata and kinds(field.metadata["seam"]).get(getattr(value, "kind", "")) is not type(
                value
            ):
                raise ValueError(_not_saved(value))
        kind = getattr(type(config), "kind", "")
        return {"kind": kind, **data} if kind else data
    if isinstance(config, dict):
        return {key: to_json(value) for key, value in config.items()}
    if isinstance(config, (tuple, list)):
        return [to_json(value) for value in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise ValueError(_not_saved(config))


def static(config: Any) -> Any:
    """`to_json` without the numbers that live in the learner's state (`traced`): what the compiled program depends on.

    In their place stands how many they are.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        data = {"kind": getattr(type(config), "kind", "")}
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if field.metadata.get("traced") and value is not None:
                value = len(value) if isinstance(value, tuple) else 1
            data[field.name] = static(value)
        return data
    return [static(value) for value in config] if isinstance(config, (tuple, list)) else to_json(config)


def _not_saved(value: Any) -> str:
    return (
        f"a config that is saved holds plain values, dataclasses and tuples, got {type(value).__name__}: "
        "make your part a frozen dataclass and register it with `jsafe.options.part`"
    )


def from_json(kind: type, data: dict[str, Any]) -> Any:
    """The inverse of `to_json` for a dataclass type.

    Raises:
      ValueError: For a field that `kind` lacks, or a kind of part that is not registered (with the closest match).
    """
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__} must be a table of options, got {data!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints, values = hints_of(kind), {}
    for name, value in data.items():
        if name == "kind" and getattr(kind, "kind", None):
            continue
        if name not in fields:
            raise ValueError(unknown(f"field of {kind.__name__}", name, fields))
        if seam_name := fields[name].metadata.get("seam"):
            known = kinds(seam_name)
            word = value.get("kind") if isinstance(value, dict) else value
            if word not in known:
                raise ValueError(unknown(seam_name, word, known))
            values[name] = from_json(known[word], value)
        else:
            values[name] = _restore(hints[name], value)
    return kind(**values)


def _restore(hint: Any, value: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) is not tuple else ()
    for option in (hint, *options):
        if isinstance(option, type) and dataclasses.is_dataclass(option) and isinstance(value, dict):
            return from_json(option, value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def completed(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """A JSON tree of options that may be older than some of them: those that it lacks are at their defaults.

    A tree that `from_json` does not read (of another version, with other parts) comes back as it is.
    """
    try:
        return to_json(from_json(kind, data))
    except (TypeError, ValueError):
        return data


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
