"""The predicted return of the candidates whose cost is within the limit even where the model is unsure."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.scores.base import Score, ScorePart, mean_return, ranked
from jsafe.options import part
from jsafe.types import EnvSpec


@part("score", "penalised")
@dataclasses.dataclass(frozen=True)
class Penalised(ScorePart):
    """Mean costs with a penalty for what the model does not know: `c~ = c + kappa u`, `u = max_e ||sd_e(s, a)||_2`.

    `kappa` is the multiplier of the constraint rule, one for each cost: it grows while real episodes cost more than
    the limit.

    Source: Ma et al. 2022 (arXiv 2112.07701), equations 6 and 8. OmniSafe (`compat="omnisafe"`) repeats the penalties
    in an order that hands them to other candidates, and counts the spread of the learnt reward.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper", steps: int = 1) -> Score:
        """A `Score`."""
        del axis_name
        scale = spec.horizon / steps

        def judge(rollout, terminal, aim, enough):
            spread = rollout.spread[None]
            if compat == "omnisafe":
                nets = rollout.reward.shape[0]
                spread = jnp.repeat(spread.reshape(-1), nets).reshape(rollout.reward.shape)
            cost = rollout.cost + aim.kappa * spread[..., None]
            return ranked(mean_return(rollout, terminal), scale * cost.mean(axis=(0, 1)), aim.limit, enough)

        return Score(judge, uses_kappa=True)
