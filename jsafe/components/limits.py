"""What a cost may be: one limit for all families, in one of two units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jax.numpy as jnp

from jsafe.options import FieldError, Options, number, traced
from jsafe.types import Array, Metrics


@dataclasses.dataclass(frozen=True)
class CostLimit(Options):
    """The largest mean cost, one number for all costs or one for each.

    Raises:
      ValueError: If a number is out of its range.
    """

    value: float | tuple[float, ...] = traced(25.0, low=0)
    """In the unit `per`."""
    per: Literal["episode", "step"] = "episode"
    """`episode`: of the undiscounted sum over an episode; `step`: of the mean over environment steps."""
    margin: float = number(0.0, low=0, below=1)
    """Share of the limit that the constraint rule keeps in reserve: at 0.1 it aims at nine tenths of the limit. A rule
    that settles on the limit itself is above it half of the time."""
    window: int = number(1, low=1)
    """Finished episodes over which the cost is averaged (whole batches, newest first). 1: those of the newest batch."""

    def __post_init__(self):
        super().__post_init__()
        if self.value == ():
            raise FieldError("value must be a number or one for each cost, got ()")

    def values(self, num_costs: int) -> tuple[float, ...]:
        """One limit per cost; a single number serves all.

        Raises:
          ValueError: If the number of limits is neither 1 nor `num_costs`.
        """
        values = self.value if isinstance(self.value, tuple) else (self.value,) * num_costs
        if len(values) != num_costs:
            raise ValueError(f"cost_limit: limit.value has {len(values)} values, the environment has {num_costs} costs")
        return values

    def array(self, num_costs: int) -> Array:
        """`values` as `[M]`, for the learner's state."""
        return jnp.array(self.values(num_costs), jnp.float32)

    def aim(self, limit: Array) -> Array:
        """What a constraint rule steers for: the limits `[M]` less the margin."""
        return limit if self.margin == 0 else (1 - self.margin) * limit

    def per_episode(self, limit: Array, horizon: int) -> Array:
        """Limits `[M]` in the unit `per`, for an episode of `horizon` steps."""
        return limit if self.per == "episode" else limit * horizon

    def told(self, names: Sequence[str], horizon: int) -> str:
        """Each cost with its limit in both units, for people: `cost: 25 per episode (0.025 per step of 1000)`.

        Args:
          names: Of the costs.
          horizon: Steps of the longest episode, which the other unit is reckoned for.
        """
        lines = []
        for name, value in zip(names, self.values(len(names)), strict=True):
            if self.per == "episode":
                lines.append(f"{name}: {value:.6g} per episode ({value / horizon:.3g} per step of {horizon})")
            else:
                lines.append(f"{name}: {value:.6g} per step ({value * horizon:.3g} per episode of {horizon} steps)")
        return ", ".join(lines)

    def metrics(self, J_episodic: Array, per_step: Array, limit: Array, multiplier: Array) -> Metrics:
        """`cost/{i}/...` of each cost, with its limit in its unit and its weight relative to the reward's; `[M]` each.

        Args:
          J_episodic: Mean cost of an episode.
          per_step: Mean cost of an environment step.
          limit: In the unit `per`.
          multiplier: See `components.rules.multiplier`.
        """
        return self.columns(limit, {"episodic": J_episodic, "per_step": per_step, "multiplier": multiplier})

    def columns(self, limit: Array, more: Mapping[str, Array] = MappingProxyType({})) -> Metrics:
        """`cost/{i}/...` of each cost: its limit in its unit, and more `[M]` by name."""
        named = {"limit" if self.per == "episode" else "limit_per_step": limit, **more}
        return {f"cost/{i}/{column}": values[i] for i in range(limit.shape[0]) for column, values in named.items()}


def limit_of(options: Any) -> CostLimit | None:
    """The limit that an algorithm keeps, of its options; None if costs have no say in what it learns."""
    return getattr(options, "limit", None) if getattr(options, "constrained", True) else None
