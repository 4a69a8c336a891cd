"""Weighted imitation."""

from __future__ import annotations

import dataclasses

import jax

from jsafe.components.improvements.base import Improved, Improvement
from jsafe.ops.regression import effective_share
from jsafe.options import Options, part
from jsafe.types import EnvSpec


@part("improvement", "regress")
@dataclasses.dataclass(frozen=True)
class Regress(Options):
    """`L = mean_h mean w_h(s, a) loss_h(s, a)`: recorded actions are imitated, the better the more.

    With weights of 1 it is plain behaviour cloning.

    Source: Peng et al. 2019 (arXiv 1910.00177); Wang et al. 2020 (arXiv 2006.15134).
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Improvement:
        """An `Improvement` that weighs rows."""
        del spec

        def loss(params, context, frozen, state, key):
            judge_key, loss_key = jax.random.split(key)
            judgement = frozen.judge(judge_key)
            weights = jax.lax.stop_gradient(frozen.weigh(judgement))
            rows = context.generator.loss(params, context.rows.obs, context.rows.action, loss_key)
            total = (weights * rows).mean()
            metrics = {
                "loss/actor": total,
                "weight/mean": weights.mean(),
                "weight/effective": effective_share(weights, axis_name),
            }
            return Improved(total, metrics, state, judgement.cost)

        return Improvement(loss, weighs=True)
