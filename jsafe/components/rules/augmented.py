"""The augmented Lagrangian."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jsafe.components.rules.base import Normalize, check_costs, mix
from jsafe.options import Options, number, part, traced, traced_values
from jsafe.types import Array, ConstraintRule, EnvSpec


class AugmentedState(NamedTuple):
    """`multiplier [M]`, `begun` (bool) once it was updated, and `numbers` (`learning_rate`, `penalty`)."""

    multiplier: Array
    begun: Array
    numbers: Any


@part("rule", "augmented")
@dataclasses.dataclass(frozen=True)
class Augmented(Options):
    """Dual ascent on `lam` plus a quadratic penalty that damps its oscillation.

    `lam <- max(0, lam + learning_rate (J - limit))`; weight `max(0, lam + penalty (J - limit))`.

    Source: Platt & Barr 1988, "Constrained differential optimization" (modified method of multipliers).
    """

    learning_rate: float = traced(1e-3, low=0)
    """Step of the multiplier, per unit of violation."""
    penalty: float = traced(1e-3, low=0)
    """Weight of the quadratic term, per unit of violation."""
    init: float = number(0.0, low=0)
    """Initial multiplier of each cost."""
    upper_bound: float | None = number(None, low=0)
    """Largest multiplier (and weight before mixing)."""
    normalize: Normalize = "sum"
    """See `Lagrange`."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> ConstraintRule:
        """The rule, with an `AugmentedState`."""
        m, ceiling = spec.num_costs, jnp.inf if self.upper_bound is None else self.upper_bound

        def init():
            return AugmentedState(jnp.full(m, self.init, jnp.float32), jnp.zeros((), bool), traced_values(self))

        def update(state, J_cost, limit):
            check_costs(m, J_cost, limit)
            raised = state.multiplier + state.numbers.learning_rate * (J_cost - limit)
            return state._replace(multiplier=jnp.clip(raised, 0.0, ceiling), begun=jnp.ones((), bool))

        def weights(state, J_cost, limit):
            check_costs(m, J_cost, limit)
            penalty = jnp.where(state.begun, state.numbers.penalty * (J_cost - limit), 0.0)
            return mix(jnp.clip(state.multiplier + penalty, 0.0, ceiling), self.normalize)

        return ConstraintRule(init, update, weights)
