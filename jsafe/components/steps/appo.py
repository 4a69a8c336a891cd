"""Reward and costs clipped apart, under the rule's weights."""

from __future__ import annotations

import dataclasses

from jsafe.components.compat import Compat
from jsafe.components.steps.first_order import Clipped, Objective
from jsafe.ops import policy_losses
from jsafe.options import part


@part("step", "appo")
@dataclasses.dataclass(frozen=True)
class APPO(Clipped):
    """`w_r L_clip(A_r) + sum_i w_i mean(max(ratio A_c,i, clip(ratio) A_c,i))`, each pessimistic on its own.

    PPO clips the mixed advantage instead, which trades a worse cost for a better reward within one row.
    """

    def objective(self, compat: Compat) -> Objective:
        """See `FirstOrder`."""

        def loss(out, b, view, n, mean, _):
            reward = policy_losses.clipped(out.ratio, b.advantage_reward, n.clip, mean)
            costs = policy_losses.cost_surrogates(out.ratio, b.advantage_cost, n.clip, mean)
            return view.weights.reward * reward + view.weights.cost @ costs

        return Objective(loss)
