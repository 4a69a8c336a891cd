"""The predicted return alone."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.scores.base import Judged, Score, ScorePart, mean_return
from jsafe.options import part
from jsafe.types import EnvSpec


@part("score", "returns")
@dataclasses.dataclass(frozen=True)
class Returns(ScorePart):
    """`R_s = mean_p (sum_t r_t + Q)`: costs are predicted, and do not count.

    Source: Chua et al. 2018 (arXiv 1805.12114), algorithm 1.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper", steps: int = 1) -> Score:
        """A `Score`."""
        del axis_name, compat
        scale = spec.horizon / steps

        def judge(rollout, terminal, aim, enough):
            del enough
            returns, cost = mean_return(rollout, terminal), scale * rollout.cost.mean(axis=(0, 1))
            return Judged(returns, returns, cost, (cost <= aim.limit).all(axis=-1), jnp.ones((), bool))

        return Score(judge)
