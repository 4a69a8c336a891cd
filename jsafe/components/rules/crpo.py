"""Constraint rectification: reward or cost, one at a time."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.rules.base import Switch, check_costs
from jsafe.options import Options, part, traced, traced_values
from jsafe.types import ConstraintRule, EnvSpec, Weights


@part("rule", "crpo")
@dataclasses.dataclass(frozen=True)
class CRPO(Options):
    """Switches: reward while every cost is within `limit + distance`, else only the most violated cost.

    It answers the newest measurement alone: where that is zero most of the time, as with rare bursts, costs hardly
    count. Average over more episodes (`CostLimit.window`) then.

    Source: Xu, Liang & Lan 2021 (arXiv 2011.05869), algorithm 1 (any violated constraint may be picked there).
    """

    distance: float = traced(0.0, low=0)
    """Tolerance `eta` above the limit, in its unit."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> ConstraintRule:
        """The rule, with a `Switch`."""
        m = spec.num_costs

        def weights(state, J_cost, limit):
            check_costs(m, J_cost, limit)
            violation = J_cost - limit - state.numbers.distance
            unsafe = state.begun & jnp.any(violation > 0)
            worst = jax.nn.one_hot(jnp.argmax(violation), m)
            return Weights(1.0 - unsafe.astype(jnp.float32), unsafe * worst)

        return ConstraintRule(
            init=lambda: Switch.off(traced_values(self)),
            update=lambda state, J_cost, limit: state._replace(begun=jnp.ones((), bool)),
            weights=weights,
        )
