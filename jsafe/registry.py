"""Names of algorithms, and the one place that turns options into a config with clear errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jsafe.errors import unknown
from jsafe.options import check_fields
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
