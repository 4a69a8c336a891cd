"""No rule: costs are measured, and do not count."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.options import Options, part
from jsafe.types import ConstraintRule, EnvSpec, Weights


@part("rule", "none")
@dataclasses.dataclass(frozen=True)
class NoRule(Options):
    """Reward weight 1, cost weights 0."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> ConstraintRule:
        """The rule; its state is `()`."""
        return ConstraintRule(
            init=lambda: (),
            update=lambda state, J_cost, limit: state,
            weights=lambda state, J_cost, limit: Weights(jnp.ones(()), jnp.zeros(spec.num_costs)),
        )
