"""No critics."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.components.valuations.base import Judgement, Valuation, Valued
from jsafe.options import Options, part
from jsafe.types import EnvSpec


@part("valuation", "none")
@dataclasses.dataclass(frozen=True)
class NoValuation(Options):
    """For imitation, which asks nobody what an action is worth."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Valuation:
        """A `Valuation` without parameters."""
        del spec, axis_name
        return Valuation(
            init=lambda key: {},
            loss=lambda params, slow, context, key: Valued(jnp.zeros(()), {}),
            judge=lambda params, slow, context, key: Judgement(),
        )
