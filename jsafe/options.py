"""Options: frozen dataclasses made of parts, their checks, their JSON form, and the numbers that live in the state.

    @part("rule", "lagrange")
    @dataclasses.dataclass(frozen=True)
    class Lagrange(Options):
        init: float = number(0.001, low=0)
        learning_rate: float = traced(0.035, low=0)      # swept: lands in the state, never recompiles

        def build(self, spec, axis_name=None) -> ConstraintRule: ...

    @dataclasses.dataclass(frozen=True)
    class Config(Options):
        rule: Part = seam("rule", Lagrange())

    replace(Config(), {"rule": "pid", "rule.kp": 0.2})   # or, as no other part has a kp: {"rule": "pid", "kp": 0.2}

One place checks every number: types, finiteness and ranges, when an object is made.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jsafe.errors import closest, unknown

_SEAMS: dict[str, dict[str, type]] = {}


# ---- fields ------------------------------------------------------------------------------------------------------


def number(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    traced: bool = False,
) -> Any:
    """A field with a range; numbers are finite without saying so.

    Args:
      default: Its default; None is allowed where the type says so, and is not checked.
      low, high: Smallest and largest value allowed.
      above, below: Bounds that are not allowed themselves.
      traced: The number is an array in the learner's state (`traced_values`): people sweep or anneal it.
    """
    limits = {"low": low, "high": high, "above": above, "below": below}
    given = {name: value for name, value in limits.items() if value is not None}
    return dataclasses.field(default=default, metadata={"range": given, "traced": traced})


def traced(default: Any, **limits: float) -> Any:
    """A `number` that lands in the state."""
    return number(default, traced=True, **limits)


def word(default: str, or_a: type) -> Any:
    """A field of words (annotated as a `Literal`) that takes an object of one's own, too, where it is given in code."""
    return dataclasses.field(default=default, metadata={"or_a": or_a})


def seam(name: str, default: Any) -> Any:
    """A field that holds a part: one of `kinds(name)`, any object with `build`, or what parts build (see `Ready`)."""
    return dataclasses.field(default=default, metadata={"seam": name})


def part(seam: str, kind: str) -> Callable[[type], type]:
    """Class decorator: this dataclass is the member `kind` of a seam, for the command line and run folders.

    Raises:
      ValueError: If the kind is taken by another class.
    """

    def add(cls: type) -> type:
        known = _SEAMS.setdefault(seam, {})
        if kind in known and known[kind].__qualname__ != cls.__qualname__:
            raise ValueError(f"the {seam} {kind!r} is registered already")
        known[kind] = cls
        cls.kind = kind
        return cls

    return add


def kinds(seam: str) -> dict[str, type]:
    """The registered parts of a seam, by kind."""
    return dict(_SEAMS.get(seam, {}))


# ---- checks ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of all options: an object that exists is within its ranges."""

    kind: ClassVar[str] = ""
    """The word for it on the command line, set by `part`."""
    SHORT: ClassVar[Mapping[str, str | Callable[[Any], Mapping[str, Any]]]] = {}
    """Short names of options: of one inside a part (`"limit.value"`), or a function of the value to several."""

    def __post_init__(self):
        check(self)


def check(options: Any) -> None:
    """Checks every field of a dataclass: type, finiteness, range; ints become floats and lists tuples where they may.

    Raises:
      ValueError: Naming the field, the value and what is allowed.
    """
    hints = _hints(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if "seam" in field.metadata:
            if _ready(value):
                object.__setattr__(options, field.name, Ready(value))
            elif not hasattr(value, "build"):
                raise ValueError(f"{field.name} must be a {field.metadata['seam']} (with `build`), got {value!r}")
            continue
        if isinstance(value, field.metadata.get("or_a", ())):
            continue
        value = _typed(field.name, value, hints[field.name])
        object.__setattr__(options, field.name, value)
        _in_range(field.name, value, field.metadata.get("range", {}))


def check_fields(config: type, owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for fields of a dataclass type, with int widened to float and lists to tuples.

    Raises:
      ValueError: For an unknown field (with the closest match), or a value of the wrong type; it names `owner`.
    """
    hints = _hints(config)
    names = sorted(field.name for field in dataclasses.fields(config))
    for name in values:
        if name not in names:
            raise ValueError(unknown(f"option of {owner}", name, names))
    return {name: _typed(f"{owner}.{name}", value, hints[name]) for name, value in values.items()}


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _in_range(name: str, value: Any, limits: Mapping[str, float]) -> None:
    if isinstance(value, tuple):
        for item in value:
            _in_range(name, item, limits)
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    tests = {"low": value >= limits.get("low", value), "high": value <= limits.get("high", value)}
    tests |= {"above": value > limits.get("above", -math.inf), "below": value < limits.get("below", math.inf)}
    if not all(tests.values()):
        words = {"low": "at least", "high": "at most", "above": "above", "below": "below"}
        allowed = " and ".join(f"{words[side]} {limit:g}" for side, limit in limits.items())
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Returns `value` as `hint`, widening int to float and list to tuple; anything else is an error."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        errors = []
        for option in args:
            try:
                return _typed(name, value, option)
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
        return tuple(_typed(name, item, inner) for item in value)
    if hint is Any or origin is not None or not isinstance(hint, type):
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


@dataclasses.dataclass(frozen=True, eq=False)
class Ready:
    """A part that is built already: functions of one's own in the place of options. It cannot be saved in a run."""

    built: Any

    def build(self, spec: Any, axis_name: str | None = None) -> Any:
        """What it holds."""
        del spec, axis_name
        return self.built


def _ready(value: Any) -> bool:
    """Whether it is a NamedTuple (of functions), as parts build them."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


# ---- numbers in the state ----------------------------------------------------------------------------------------


@functools.cache
def _traced_type(kind: type) -> type:
    names = [field.name for field in dataclasses.fields(kind) if field.metadata.get("traced")]
    return namedtuple(f"{kind.__name__}Numbers", names)


def traced_values(options: Any) -> Any:
    """The traced fields of one dataclass (not of its parts) as a NamedTuple of float32 arrays, for the state."""
    import jax.numpy as jnp

    kind = _traced_type(type(options))
    return kind(*(jnp.asarray(getattr(options, name), jnp.float32) for name in kind._fields))


# ---- changes -----------------------------------------------------------------------------------------------------


def replace(options: Any, changes: Mapping[str, Any], owner: str = "") -> Any:
    """A copy with changes; a part keeps what is not changed.

    Args:
      options: A dataclass of options.
      changes: By name. A field of a part is `rule.kp`, or `kp` where no other part has one. A part is given as an
        object, as the name of its kind (with its defaults), as a mapping of its fields (and `kind`), or built already
        (a NamedTuple of functions). Short names of the type (`Options.SHORT`) come first.
      owner: Whose options they are, for messages.

    Raises:
      ValueError: For an unknown or ambiguous name, with the closest match, or a value that is not allowed.
    """
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
            values[name] = _part(name, fields[name].metadata["seam"], old, inner.get("", old), nested)
        elif nested or (dataclasses.is_dataclass(old) and isinstance(inner.get(""), Mapping)):
            if not dataclasses.is_dataclass(old):
                raise ValueError(f"option {name!r}{f' of {owner}' if owner else ''} has no parts, got {nested!r}")
            base = inner.get("", old)
            base = replace(old, base, name) if isinstance(base, Mapping) else base
            values[name] = replace(base, nested, name)
        else:
            values[name] = inner[""]
    return dataclasses.replace(options, **values)


def _part(name: str, seam_name: str, old: Any, given: Any, nested: Mapping[str, Any]) -> Any:
    """The part that a seam's field gets."""
    if isinstance(given, str):
        known = kinds(seam_name)
        if given not in known:
            raise ValueError(unknown(seam_name, given, known))
        given = old if getattr(type(old), "kind", None) == given else known[given]()
    elif isinstance(given, Mapping):
        rest = {key: value for key, value in given.items() if key != "kind"}
        base = _part(name, seam_name, old, given["kind"], {}) if "kind" in given else old
        given = replace(base, rest, name)
    elif _ready(given):
        given = Ready(given)
    elif not hasattr(given, "build"):
        raise ValueError(f"{name} must be a {seam_name} (with `build`), the name of one, or a mapping, got {given!r}")
    return replace(given, nested, name) if nested else given


def _spelled_out(options: Any, changes: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Changes by full names; a part that is exchanged comes before the fields it brings."""
    own = {field.name for field in dataclasses.fields(options)}
    full: dict[str, Any] = {}
    loose = {}
    for name, value in changes.items():
        short = getattr(type(options), "SHORT", {}).get(name)
        if callable(short):
            full |= short(value)
        elif short is not None:
            full[short] = value
        elif name in own or "." in name:
            full[name] = value
        else:
            loose[name] = value
    if loose:
        exchanged = replace(options, {name: value for name, value in full.items() if "." not in name}, owner)
        known = paths(exchanged)
        for name, value in loose.items():
            hits = [path for path in known if path.rpartition(".")[2] == name]
            if not hits:
                raise ValueError(_no_such_option(exchanged, name, owner))
            if len(hits) > 1:
                raise ValueError(
                    f"option {name!r}{f' of {owner}' if owner else ''} is one of {', '.join(hits)}: say which"
                )
            full[hits[0]] = value
    return full


def paths(options: Any, prefix: str = "") -> dict[str, dataclasses.Field]:
    """All options by full name, those of parts behind a dot."""
    found: dict[str, dataclasses.Field] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        found[f"{prefix}{field.name}"] = field
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= paths(value, f"{prefix}{field.name}.")
    return found


def _no_such_option(options: Any, name: str, owner: str) -> str:
    """Names the closest option, or the part that would have this one."""
    where = f" of {owner}" if owner else ""
    for field in dataclasses.fields(options):
        for kind, cls in kinds(field.metadata.get("seam", "")).items():
            if dataclasses.is_dataclass(cls) and name in {inner.name for inner in dataclasses.fields(cls)}:
                now = getattr(type(getattr(options, field.name)), "kind", "its own")
                return (
                    f"option {name!r}{where} belongs to the {field.name} {kind!r}, and the {field.name} here is {now!r}"
                )
    known = [*paths(options), *getattr(type(options), "SHORT", {})]
    short = [path.rpartition(".")[2] for path in known]
    hint = closest(name, known) or closest(name, short)
    return f"unknown option {name!r}{where}{hint} Allowed: {', '.join(known)}"


# ---- JSON --------------------------------------------------------------------------------------------------------


def to_json(config: Any) -> Any:
    """Nested dataclasses, tuples and plain values as dicts, lists and plain values; a part says its `kind`.

    Raises:
      ValueError: For a part that is no registered dataclass, or another object.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        data = {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
        for field in dataclasses.fields(config):
            value, known = getattr(config, field.name), kinds(field.metadata.get("seam", ""))
            if "seam" in field.metadata and known.get(getattr(value, "kind", "")) is not type(value):
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
    hints, values = _hints(kind), {}
    for name, value in data.items():
        if name == "kind" and getattr(kind, "kind", ""):
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
