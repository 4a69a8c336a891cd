"""Changes of options by name: full names, short ones, the last words that only one option has."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jsafe.errors import closest, unknown
from jsafe.options.fields import FieldError, as_part, hints_of, kinds

SEVERAL, ONE, EXACT = range(3)
"""Kinds of names: a word for several options, a word for one, its full name."""


def replace(options: Any, changes: Mapping[str, Any], owner: str = "") -> Any:
    """A copy with changes; a part keeps what is not changed.

    Args:
      options: A dataclass of options.
      changes: By name. A field of a part is `rule.kp`, or `kp` where no other part has one. A part is given as an
        object, as the name of its kind (with its defaults), or as a mapping of its fields (and `kind`). Short names
        of the type (`Options.SHORT`) come first. Of names that mean one option the full one counts, then a word for it
        alone, then a word for several, in whatever order they are given.
      owner: Whose options they are, for messages.

    Raises:
      ValueError: For an unknown or ambiguous name, with the closest match, a value that is not allowed, or two
        names of one option that are equally exact.
    """
    try:
        return _replace(options, changes, owner)
    except FieldError as error:
        said = str(error).split(" ", 1)[0]
        names = [name for name in changes if name != said and said in _targets(options, name, changes[name])]
        raise FieldError(f"{names[0]}: {error}" if names else str(error)) from None


def _targets(options: Any, name: str, value: Any) -> Iterable[str]:
    """The full names that a short name stands for, where it is another word."""
    short = getattr(type(options), "SHORT", {}).get(name, ())
    return short(value) if callable(short) else [short] if short else ()


def _replace(options: Any, changes: Mapping[str, Any], owner: str) -> Any:
    tree: dict[str, Any] = {}
    for name, value in _spelled_out(options, changes, owner).items():
        head, _, rest = name.partition(".")
        if rest:
            tree.setdefault(head, {})[rest] = value
        else:
            tree[head] = tree[head] | {"": value} if isinstance(tree.get(head), dict) else {"": value}
    fields = {field.name: field for field in dataclasses.fields(options)}
    values = {}
    for name, inner in tree.items():
        if name not in fields:
            raise ValueError(_no_such_option(options, name, owner))
        old = getattr(options, name)
        nested = {key: value for key, value in inner.items() if key}
        if "seam" in fields[name].metadata:
            values[name] = _inside(name, _part, fields[name], old, inner.get("", old), nested)
        elif nested or (dataclasses.is_dataclass(old) and isinstance(inner.get(""), Mapping)):
            if not dataclasses.is_dataclass(old):
                raise ValueError(f"option {name!r}{f' of {owner}' if owner else ''} has no parts, got {nested!r}")
            base = inner.get("", old)
            base = _inside(name, replace, old, base, name) if isinstance(base, Mapping) else base
            values[name] = _inside(name, replace, base, nested, name)
        else:
            values[name] = inner[""]
    return dataclasses.replace(options, **values)


def _inside(name: str, make: Callable[..., Any], *args: Any) -> Any:
    """What `make` makes of a field's value; a field inside that refuses its value is named in full."""
    try:
        return make(*args)
    except FieldError as error:
        raise FieldError(f"{name}.{error}") from None


def _part(field: dataclasses.Field, old: Any, given: Any, nested: Mapping[str, Any]) -> Any:
    """The part that a seam's field gets."""
    if isinstance(given, str):
        known = kinds(field.metadata["seam"])
        if given not in known:
            raise ValueError(unknown(field.metadata["seam"], given, known))
        given = old if getattr(type(old), "kind", None) == given else known[given]()
    elif isinstance(given, Mapping):
        rest = {key: value for key, value in given.items() if key != "kind"}
        base = _part(field, old, given["kind"], {}) if "kind" in given else old
        given = replace(base, rest, field.name)
    else:
        given = as_part(field, given)
    return replace(given, nested, field.name) if nested else given


def _spelled_out(options: Any, changes: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Changes by full names. The exacter name counts; a part that is exchanged comes before the fields it brings."""
    own = {field.name for field in dataclasses.fields(options)}
    full: dict[str, Any] = {}
    said: dict[str, tuple[int, str]] = {}
    loose = {}

    def put(path: str, rank: int, name: str, value: Any) -> None:
        before, other = said.get(path, (-1, ""))
        if before == rank:
            raise ValueError(
                f"{other}={full[path]!r} and {name}={value!r} are two values of one option"
                f"{f' of {owner}' if owner else ''}, {path}: leave one out"
            )
        if before < rank:
            full[path], said[path] = value, (rank, name)

    for name, value in changes.items():
        short = getattr(type(options), "SHORT", {}).get(name)
        if callable(short):
            for path, inner in short(value).items():
                put(path, SEVERAL, name, inner)
        elif short is not None:
            put(short, ONE, name, value)
        elif name in own or "." in name:
            put(name, EXACT, name, value)
        else:
            loose[name] = value
    if loose:
        exchanged = _exchanged(options, full)
        known = paths(options, exchanged=exchanged)
        for name, value in loose.items():
            hits = [path for path in known if path.rpartition(".")[2] == name]
            if not hits:
                raise ValueError(_no_such_option(dataclasses.replace(options, **exchanged), name, owner))
            if len(hits) > 1:
                raise ValueError(
                    f"option {name!r}{f' of {owner}' if owner else ''} is one of {', '.join(hits)}: say which"
                )
            put(hits[0], ONE, name, value)
    return full


def _exchanged(options: Any, full: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that changes put in the place of others; the rest may not fit together yet."""
    seams = [field for field in dataclasses.fields(options) if "seam" in field.metadata and field.name in full]
    return {field.name: _part(field, getattr(options, field.name), full[field.name], {}) for field in seams}


def paths(
    options: Any, prefix: str = "", exchanged: Mapping[str, Any] = types.MappingProxyType({})
) -> dict[str, dataclasses.Field]:
    """All options by full name, those of parts behind a dot; `exchanged` parts in the place of its own."""
    found: dict[str, dataclasses.Field] = {}
    for field in dataclasses.fields(options):
        value = exchanged.get(field.name, getattr(options, field.name))
        found[f"{prefix}{field.name}"] = field
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= paths(value, f"{prefix}{field.name}.")
    return found


def spellings(options: Any) -> dict[str, tuple[str, ...]]:
    """Every name that `replace` takes, with the full names whose value it sets.

    Those of `Options.SHORT` (which hand their value on as it is), full names, and last words that only one option has.
    """
    full = paths(options)
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in full}
    words = [name.rpartition(".")[2] for name in full]
    found |= {word: (name,) for name, word in zip(full, words) if words.count(word) == 1}
    value = object()
    for name, short in getattr(type(options), "SHORT", {}).items():
        targets = short(value) if callable(short) else {short: value}
        found[name] = tuple(target for target, given in targets.items() if given is value)
    return found


def type_of(options: Any, name: str) -> Any:
    """The annotated type of an option by its full name."""
    head, _, last = name.rpartition(".")
    for part_name in filter(None, head.split(".")):
        options = getattr(options, part_name)
    kind: type = type(options)
    return hints_of(kind)[last]


def elsewhere(options: Any, name: str) -> str:
    """`belongs to the rule 'pid', and the rule here is 'none'`, for an option of a part that is not in use."""
    for path, field in paths(options).items():
        known = kinds(field.metadata.get("seam", ""))
        having = [
            kind
            for kind, cls in known.items()
            if dataclasses.is_dataclass(cls) and name in {inner.name for inner in dataclasses.fields(cls)}
        ]
        part_here = options
        for part_name in path.split("."):
            part_here = getattr(part_here, part_name)
        now = getattr(type(part_here), "kind", "") or "its own"
        if having and now not in having:
            return f"belongs to the {path} {' or '.join(map(repr, having))}, and the {path} here is {now!r}"
    return ""


def _no_such_option(options: Any, name: str, owner: str) -> str:
    """Names the closest option, or the part that would have this one."""
    where = f" of {owner}" if owner else ""
    if told := elsewhere(options, name):
        return f"option {name!r}{where} {told}"
    known = [*paths(options), *getattr(type(options), "SHORT", {})]
    short = [path.rpartition(".")[2] for path in known]
    hint = closest(name, known) or closest(name, short)
    return f"unknown option {name!r}{where}{hint} Allowed: {', '.join(known)}"
