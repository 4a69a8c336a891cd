"""Advantage estimators, with their discounts: the reward has its own, all costs share another.

As released (`compat="omnisafe"`) costs are discounted like the reward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax.numpy as jnp

from jsafe.components.compat import Compat, Released
from jsafe.ops import advantages
from jsafe.options import part, traced, traced_values
from jsafe.types import Array, EnvSpec


class EstimateFn(Protocol):
    """`(numbers, signals [T, N, K], value, next_value, terminated [T, N], truncated) -> Advantages`."""

    def __call__(
        self, numbers: Any, signals: Array, value: Array, next_value: Array, terminated: Array, truncated: Array, /
    ) -> advantages.Advantages: ...


class Estimator(NamedTuple):
    """From rewards and costs to advantages. `init: () -> numbers`, with `gamma` (and `lam`) of the reward."""

    init: Callable[[], Any]
    estimate: EstimateFn


@part("estimator", "gae")
@dataclasses.dataclass(frozen=True)
class GAE(Released):
    """`ops.advantages.gae`."""

    function: ClassVar[Callable[..., advantages.Advantages]] = staticmethod(advantages.gae)

    gamma: float = traced(0.99, low=0, high=1)
    """Discount of the reward."""
    lam: float = traced(0.95, low=0, high=1)
    """Trace decay of the reward."""
    cost_gamma: float = traced(0.99, low=0, high=1)
    """Discount of costs."""
    cost_lam: float = traced(0.95, low=0, high=1)
    """Trace decay of costs."""

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Estimator:
        """The estimator; its numbers go into the learner's state."""

        def estimate(n, signals, value, next_value, terminated, truncated):
            costs = signals.shape[-1] - 1
            gamma = jnp.stack([n.gamma] + [n.gamma if compat == "omnisafe" else n.cost_gamma] * costs)
            lam = jnp.stack([n.lam] + [n.cost_lam] * costs)
            return self.function(signals, value, next_value, terminated, truncated, gamma, lam)

        return Estimator(lambda: traced_values(self), estimate)


@part("estimator", "gae_rtg")
@dataclasses.dataclass(frozen=True)
class GAERewardToGo(GAE):
    """`ops.advantages.gae_rtg`: targets are discounted rewards to go."""

    function: ClassVar[Callable[..., advantages.Advantages]] = staticmethod(advantages.gae_rtg)


@part("estimator", "vtrace")
@dataclasses.dataclass(frozen=True)
class VTrace(GAE):
    """`ops.advantages.vtrace` on fresh data, where all ratios are 1."""

    function: ClassVar[Callable[..., advantages.Advantages]] = staticmethod(advantages.vtrace)


@part("estimator", "plain")
@dataclasses.dataclass(frozen=True)
class Plain(GAE):
    """`ops.advantages.plain`: one step, targets are discounted rewards to go; without traces (`lam` has no effect)."""

    function: ClassVar[Callable[..., advantages.Advantages]] = staticmethod(advantages.plain)
