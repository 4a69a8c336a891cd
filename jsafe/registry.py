"""Names of algorithms, and the one place that turns options into a config with clear errors."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from jsafe.types import EnvSpec, Learner


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A named algorithm: its config type, its presets and how to build its learner.

    Attributes:
      name: Snake-case name, as used on the command line.
      family: `off_policy` or `on_policy`.
      config: Frozen dataclass type with a default for every field.
      build: `(config, spec, axis_name) -> Learner`.
      presets: Named sets of field values that differ from the defaults.
      paper: Citation with the arXiv number.
      summary: One line.
      total_steps: Environment steps of a full run, by preset, where the command line is not told.
    """

    name: str
    family: str
    config: type
    build: Callable[[Any, EnvSpec, str | None], Learner]
    presets: Mapping[str, Mapping[str, Any]]
    paper: str
    summary: str
    total_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)


_ALGORITHMS: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> Algorithm:
    """Adds an algorithm to the table; the same name twice is an error."""
    if algorithm.name in _ALGORITHMS:
        raise ValueError(f"algorithm {algorithm.name!r} is registered already")
    _ALGORITHMS[algorithm.name] = algorithm
    return algorithm


def names() -> list[str]:
    """All registered algorithms, sorted."""
    return sorted(_ALGORITHMS)


def get(name: str) -> Algorithm:
    """Looks an algorithm up.

    Raises:
      ValueError: If there is none of that name; the message names the closest match.
    """
    if name not in _ALGORITHMS:
        raise ValueError(unknown("algorithm", name, names()))
    return _ALGORITHMS[name]


def unknown(what: str, value: str, allowed) -> str:
    """The message for an unknown name: the value, the closest match, and what is allowed."""
    allowed = list(allowed)
    close = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {value!r}{hint} Allowed: {', '.join(allowed)}"


def make_config(algorithm: Algorithm, preset: str | None = None, **options: Any) -> Any:
    """Builds a config from defaults, then a preset, then options.

    Raises:
      ValueError: For an unknown preset or option (with the closest match), or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in algorithm.presets:
            raise ValueError(unknown(f"preset of {algorithm.name}", preset, sorted(algorithm.presets)))
        values.update(algorithm.presets[preset])
    values.update(options)
    return algorithm.config(**check_fields(algorithm.config, algorithm.name, values))


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


def make(name: str, spec: EnvSpec, *, preset: str | None = None, axis_name: str | None = None, **options) -> Learner:
    """Builds a learner by name.

    Args:
      name: One of `names()`, for example `"seditor"`.
      spec: Sizes of the environment.
      preset: A named set of options of that algorithm, applied before `options`.
      axis_name: The mapped axis to reduce over when the update runs under `pmap` or `shard_map`.
      **options: Any field of the algorithm's config.

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name, preset or option, or an ill-typed value.

    Example:
      >>> spec = jsafe.EnvSpec(obs_dim=60, act_dim=2)
      >>> learner = jsafe.make("seditor", spec, cost_limit_per_step=5e-4)
      >>> state = learner.init(jax.random.key(0))
    """
    algorithm = get(name)
    return algorithm.build(make_config(algorithm, preset, **options), spec, axis_name)
