"""A logarithmic barrier, linearised at the measured cost."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.components.rules.base import Normalize, Switch, check_costs, mix
from jsafe.options import Options, part, traced, traced_values
from jsafe.types import ConstraintRule, EnvSpec


@part("rule", "ipo")
@dataclasses.dataclass(frozen=True)
class IPO(Options):
    """The slope of a log barrier: `lam = kappa / (limit - J)`, `penalty_max` beyond the limit.

    `kappa` has to suit the unit of the limit: with the default, limits below `kappa / penalty_max` (a hundredth, as a
    cost per step often is) give `penalty_max` whatever the cost.

    Source: Liu, Ding & Liu 2020 (arXiv 1910.09615), linearised at the current policy as in OmniSafe. The step `ipo`
    keeps the barrier on the surrogate, as the paper does.
    """

    kappa: float = traced(0.01, low=0)
    """Strength of the barrier (`1 / t` in the paper), in reward times the unit of the limit."""
    penalty_max: float = traced(1.0, low=0)
    """Largest multiplier, also used at and beyond the limit."""
    normalize: Normalize = "sum"
    """See `Lagrange`."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> ConstraintRule:
        """The rule, with a `Switch`."""
        m = spec.num_costs

        def weights(state, J_cost, limit):
            check_costs(m, J_cost, limit)
            kappa, penalty_max = state.numbers
            multiplier = kappa / (limit - J_cost + 1e-8)
            bad = (multiplier < 0) | (multiplier > penalty_max)
            return mix(state.begun * jnp.where(bad, penalty_max, multiplier), self.normalize)

        return ConstraintRule(
            init=lambda: Switch.off(traced_values(self)),
            update=lambda state, J_cost, limit: state._replace(begun=jnp.ones((), bool)),
            weights=weights,
        )
