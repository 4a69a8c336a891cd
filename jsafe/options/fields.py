"""Fields of options and their seams, the checks of every value, and the numbers that live in the state."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jsafe.errors import unknown

LARGEST_FLOAT, LARGEST_INT = 3.4e38, 2**63 - 1
"""What fits into float32 and int64: beyond, learners would calculate with infinity."""
SMALLEST_FLOAT = 1.2e-38
"""Below, a program that flushes small numbers calculates with zero."""

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
    told: bool = False,
) -> Any:
    """A field with a range; numbers are finite without saying so.

    Args:
      default: Its default; None is allowed where the type says so, and is not checked.
      low, high: Smallest and largest value allowed.
      above, below: Bounds that are not allowed themselves.
      traced: The number is an array in the learner's state (`traced_values`): people sweep or anneal it, and runs that
        differ in nothing else share a program (`static`).
      told: It changes what is told of a run and kept of it, and nothing that is learned.
    """
    limits = {"low": low, "high": high, "above": above, "below": below}
    given = {name: value for name, value in limits.items() if value is not None}
    return dataclasses.field(default=default, metadata={"range": given, "traced": traced, "told": told})


def traced(default: Any, **limits: Any) -> Any:
    """A `number` that lands in the state."""
    return number(default, traced=True, **limits)


def told(default: Any, **limits: Any) -> Any:
    """A `number`, word or choice that changes what is told of a run and kept of it, and nothing that is learned."""
    return number(default, told=True, **limits)


def word(default: str, or_a: type) -> Any:
    """A field of words (annotated as a `Literal`) that takes an object of one's own, too, where it is given in code."""
    return dataclasses.field(default=default, metadata={"or_a": or_a})


def seam(name: str, default: Any, built: type | tuple[type, ...] = ()) -> Any:
    """A field that holds a part: one of `kinds(name)`, or any object with `build`.

    Args:
      name: Of the seam.
      default: A part.
      built: Type of what parts of this seam build; such an object is taken, too, and wrapped as a part (`Built`).
    """
    return dataclasses.field(default=default, metadata={"seam": name, "built": built})


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
        cls.kind = kind  # type: ignore[attr-defined]
        return cls

    return add


def kinds(seam: str) -> dict[str, type]:
    """The registered parts of a seam, by kind."""
    return dict(_SEAMS.get(seam, {}))


# ---- checks ------------------------------------------------------------------------------------------------------


class FieldError(ValueError):
    """A value that a field does not take; the message begins with the field's name."""


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
      FieldError: Naming the field, the value and what is allowed.
    """
    kind: type = type(options)
    hints = hints_of(kind)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, field.metadata.get("or_a", ())):
            continue
        try:
            if "seam" in field.metadata:
                value = as_part(field, value)
            else:
                value = _typed(field.name, value, hints[field.name])
                _in_range(field.name, value, field.metadata.get("range", {}))
        except ValueError as error:
            raise FieldError(str(error)) from None
        object.__setattr__(options, field.name, value)


@dataclasses.dataclass(frozen=True, eq=False)
class Built:
    """A part that somebody has built already; it cannot be saved."""

    value: Any

    def build(self, spec: Any, axis_name: str | None = None) -> Any:
        """The object itself."""
        del spec, axis_name
        return self.value


def as_part(field: dataclasses.Field, value: Any) -> Any:
    """A part as it is; what parts of the seam build, wrapped as one.

    Raises:
      ValueError: For anything else.
    """
    if hasattr(value, "build"):
        return value
    kinds_built = field.metadata.get("built") or (tuple if hasattr(value, "_fields") else ())
    if isinstance(value, kinds_built):
        return Built(value)
    seam_name = field.metadata["seam"]
    raise ValueError(f"{field.name} must be a {seam_name} (with `build`), the name of one, or a mapping, got {value!r}")


def check_fields(config: type, owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for fields of a dataclass type, with int widened to float and lists to tuples.

    Raises:
      ValueError: For an unknown field (with the closest match), or a value of the wrong type; it names `owner`.
    """
    hints = hints_of(config)
    names = sorted(field.name for field in dataclasses.fields(config))
    for name in values:
        if name not in names:
            raise ValueError(unknown(f"option of {owner}", name, names))
    return {name: _typed(f"{owner}.{name}", value, hints[name]) for name, value in values.items()}


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The annotated type of every field of a dataclass type."""
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
    if abs(value) > (LARGEST_INT if isinstance(value, int) else LARGEST_FLOAT):
        raise ValueError(f"{name} is too large for a number of {64 if isinstance(value, int) else 32} bits: {value!r}")
    if 0 < abs(value) < SMALLEST_FLOAT:
        raise ValueError(f"{name} is too small for a number of 32 bits, where it is 0: {value!r}")


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
        if not any(value == arg and type(value) is type(arg) for arg in args):
            if all(isinstance(arg, str) for arg in args):
                raise ValueError(unknown(name, value, args))
            raise ValueError(f"{name} must be one of {', '.join(map(repr, args))}, got {value!r}")
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


# ---- numbers in the state ----------------------------------------------------------------------------------------


@functools.cache
def _traced_type(kind: type) -> Any:
    names = [field.name for field in dataclasses.fields(kind) if field.metadata.get("traced")]
    return namedtuple(f"{kind.__name__}Numbers", names)


def traced_values(options: Any) -> Any:
    """The traced fields of one dataclass (not of its parts) as a NamedTuple of float32 arrays, for the state."""
    import jax.numpy as jnp

    owner: type = type(options)
    kind = _traced_type(owner)
    return kind(*(jnp.asarray(getattr(options, name), jnp.float32) for name in kind._fields))
