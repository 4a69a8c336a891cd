"""An exact penalty on the cost surrogate."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jsafe.components.compat import Compat
from jsafe.components.steps.base import WithMargin
from jsafe.components.steps.first_order import Clipped, Objective
from jsafe.ops import policy_losses
from jsafe.options import number, part, traced


@part("step", "p3o")
@dataclasses.dataclass(frozen=True)
class P3O(WithMargin, Clipped):
    """PPO plus `kappa sum_i max(0, cost surrogate_i + gap_i)`.

    The kink is looked at on the whole batch: before each pass the surrogate of all rows opens or shuts the gate of each
    cost, and the minibatches of the pass descend on `kappa` times the surrogates of open gates. As released, every
    minibatch takes the relu of its own mean, with an unclipped ratio; its noise keeps the gate half open.
    """

    constrained: ClassVar[bool] = True
    passes: int = number(10, low=1, high=10**6)
    kappa: float = traced(20.0, low=0)
    """Weight of the penalty; exact above the optimal multiplier."""

    def objective(self, compat: Compat) -> Objective:
        """See `FirstOrder`."""

        def ppo(out, b, n, mean):
            return policy_losses.clipped(out.ratio, b.advantage, n.clip, mean)

        def released(out, b, view, n, mean, _):
            surrogate = policy_losses.cost_surrogates(out.ratio, b.advantage_cost, None, mean)
            return ppo(out, b, n, mean) + policy_losses.exact_penalty(surrogate, view.gap, n.kappa)

        def gates(out, b, view, n, mean):
            return policy_losses.cost_surrogates(out.ratio, b.advantage_cost, n.clip, mean) + view.gap > 0

        def loss(out, b, view, n, mean, gates):
            surrogate = policy_losses.cost_surrogates(out.ratio, b.advantage_cost, n.clip, mean)
            return ppo(out, b, n, mean) + n.kappa * (gates * surrogate).sum()

        return Objective(released) if compat == "omnisafe" else Objective(loss, gates)
