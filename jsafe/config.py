"""What a run is made of besides its algorithm, and the JSON form of frozen dataclasses."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, Literal

import numpy as np

from jsafe import registry


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of a run that every algorithm shares.

    None of `num_threads`, `log_interval`, `checkpoint_seconds`, `keep_checkpoints`, `tensorboard` and `wandb` changes
    what is learned.

    Raises:
      ValueError: For a number outside of its range.
    """

    env: str
    """Id of the task, for example Safexp-PointGoal1-v0 (`jsafe list` prints them)."""
    costs: Literal["sum", "separate"] = "sum"
    """One cost signal, or one for each kind of cost of the task."""
    total_steps: int = 1_000_000
    """Environment steps to take, over all environments (5e6 is accepted); a preset may bring its own number."""
    seed: int = 0
    """Seed of everything: parameters, exploration, replay and environments."""
    preset: str | None = None
    """Named set of options of the algorithm, applied before the ones given here."""
    num_threads: int | None = None
    """Threads that step the environments (default: one per core). Results do not depend on it."""
    depth: Literal[0, 1] = 0
    """1 collects the next batch during the update: data is one update old (`jsafe.collect.PrefetchCollector`)."""
    log_interval: int = 10_000
    """Environment steps between two rows of progress.csv."""
    checkpoint_seconds: float = 300.0
    """Wall-clock seconds between two checkpoints."""
    keep_checkpoints: int = 2
    """Newest checkpoints to keep."""
    tensorboard: bool = True
    """Write TensorBoard event files beside progress.csv."""
    wandb: bool = False
    """Mirror the rows of progress.csv to Weights & Biases (needs the extra `wandb`)."""

    def __post_init__(self):
        if self.costs not in ("sum", "separate"):
            raise ValueError(registry.unknown("costs", self.costs, ("sum", "separate")))
        if self.depth not in (0, 1) or isinstance(self.depth, bool):
            raise ValueError(f"depth must be 0 or 1, got {self.depth!r}")
        for name, low in (("total_steps", 1), ("seed", 0), ("log_interval", 1), ("keep_checkpoints", 1)):
            _require(name, getattr(self, name), low)
        if self.num_threads is not None:
            _require("num_threads", self.num_threads, 1)
        if not self.checkpoint_seconds >= 0 or math.isinf(self.checkpoint_seconds):
            raise ValueError(f"checkpoint_seconds must be finite and at least 0, got {self.checkpoint_seconds}")


def _require(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")


def env_seed(seed: int, purpose: int = 0) -> int:
    """Seed of environment 0 in a run with this root seed.

    Environment i has the stream of seed s + i, so that the roots 0 and 1 used as they are would share all but one of
    their streams. `purpose` separates training (0) from evaluation (1).
    """
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0] >> 1)


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
            raise ValueError(registry.unknown(f"field of {kind.__name__}", name, names))
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
