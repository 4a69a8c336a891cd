"""Names of algorithms."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from jsafe.errors import unknown
from jsafe.options import replace
from jsafe.types import EnvSpec, Learner


class BuildFn(Protocol):
    """`(config, spec, axis_name) -> Learner`."""

    def __call__(self, config: Any, spec: EnvSpec, axis_name: str | None = None, /) -> Learner: ...


class Preset(NamedTuple):
    """A named set of options.

    Attributes:
      summary: What it is for, in one line.
      changes: What it changes, as `jsafe.options.replace` takes it.
      total_steps: Environment steps of a full run with it, where the command line is not told; None: the default.
    """

    summary: str
    changes: Mapping[str, Any]
    total_steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A named algorithm: its parts, its presets and how to build its learner.

    Attributes:
      name: Snake-case name, as used on the command line.
      family: `off_policy`, `on_policy`, `model_based` or `offline`.
      config: The frozen dataclass of its options with its defaults: an object, put together from parts.
      build: `(config, spec, axis_name) -> Learner`.
      presets: By name.
      paper: Citation with the arXiv number.
      summary: One line.
      recommended: The preset to start with; None: the defaults.
      module: Where it is defined, for the documentation.
    """

    name: str
    family: str
    config: Any
    build: BuildFn
    presets: Mapping[str, Preset]
    paper: str
    summary: str
    recommended: str | None = None
    module: str = ""

    def __post_init__(self):
        if self.recommended is not None and self.recommended not in self.presets:
            raise ValueError(unknown(f"preset of {self.name}", self.recommended, self.presets))


_ALGORITHMS: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> Algorithm:
    """Adds an algorithm to the table; the same name twice is an error."""
    if algorithm.name in _ALGORITHMS:
        raise ValueError(f"algorithm {algorithm.name!r} is registered already")
    _ALGORITHMS[algorithm.name] = algorithm
    return algorithm


def names() -> list[str]:
    """All registered algorithms, sorted."""
    importlib.import_module("jsafe.algos")  # which registers those of jsafe itself
    return sorted(_ALGORITHMS)


def get(name: str) -> Algorithm:
    """Looks an algorithm up; other spellings of its letters serve, too (`PPOLag`, `TRPO-Lag`: OmniSafe's).

    Raises:
      ValueError: If there is none of that name; the message names the closest match.
    """
    known = names()
    if name not in _ALGORITHMS:
        same = [each for each in known if _letters(each) == _letters(name)]
        if len(same) != 1:
            raise ValueError(unknown("algorithm", name, known))
        (name,) = same
    return _ALGORITHMS[name]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", str(name)).lower()


def make_config(algorithm: Algorithm, preset: str | None = None, **options: Any) -> Any:
    """The config of an algorithm: its defaults, then a preset, then options.

    Raises:
      ValueError: For an unknown preset or option (with the closest match), or a value that is not allowed.
    """
    config = algorithm.config
    if preset is not None:
        if preset not in algorithm.presets:
            raise ValueError(unknown(f"preset of {algorithm.name}", preset, sorted(algorithm.presets)))
        config = replace(config, algorithm.presets[preset].changes, algorithm.name)
    return replace(config, options, algorithm.name)


def make(name: str, spec: EnvSpec, *, preset: str | None = None, axis_name: str | None = None, **options) -> Learner:
    """Builds a learner by name.

    Args:
      name: One of `names()`, for example `"seditor"`.
      spec: Sizes of the environment.
      preset: A named set of options of that algorithm, applied before `options`.
      axis_name: The mapped axis to reduce over when the update runs under `pmap` or `shard_map`.
      **options: Options of the algorithm and of its parts, as `jsafe.options.replace` takes them: a part by name or
        as an object (`rule="pid"`, `rule=PID(kp=0.2)`), a field of one (`clip=0.1`, or `**{"step.clip": 0.1}`).

    Returns:
      A `Learner`.

    Raises:
      ValueError: For an unknown name, preset or option, or a value that is not allowed.

    Example:
      >>> spec = jsafe.EnvSpec(60, 2)
      >>> learner = jsafe.make("seditor", spec, cost_limit_per_step=5e-4)
      >>> state = learner.init(jax.random.key(0))
    """
    algorithm = get(name)
    return algorithm.build(make_config(algorithm, preset, **options), spec, axis_name)
