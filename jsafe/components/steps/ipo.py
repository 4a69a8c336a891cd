"""A logarithmic barrier on the cost surrogate."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jsafe.components.compat import Compat
from jsafe.components.steps.base import WithMargin
from jsafe.components.steps.first_order import Clipped, Objective
from jsafe.ops import policy_losses
from jsafe.options import number, part, traced


@part("step", "ipo")
@dataclasses.dataclass(frozen=True)
class IPO(WithMargin, Clipped):
    """PPO plus `policy_losses.log_barrier`.

    The barrier's slope is taken on the whole batch before each pass; the minibatches of the pass descend on that
    multiple of the cost surrogates, which are clipped like the reward's: a plain ratio under a steep slope moves the
    policy by a KL of 0.3 to 1.3 an epoch. As released IPO is PPO under the rule `ipo`, another pair of parts.
    """

    constrained: ClassVar[bool] = True
    passes: int = number(10, low=1, high=10**6)
    kappa: float = traced(0.01, low=0)
    """Strength of the barrier, `1 / t` in the paper; in units of reward times cost per step."""
    slope: float = traced(10.0, above=0)
    """Steepest slope of the barrier: it goes on as a straight line from there."""

    def objective(self, compat: Compat) -> Objective:
        """See `FirstOrder`.

        Raises:
          ValueError: With `compat="omnisafe"`.
        """
        if compat == "omnisafe":
            raise ValueError(
                "the released IPO is another algorithm: step='ppo' with rule='ipo', as its preset omnisafe"
            )

        def slopes(out, b, view, n, mean):
            surrogate = policy_losses.cost_surrogates(out.ratio, b.advantage_cost, n.clip, mean)
            return policy_losses.log_barrier_slope(surrogate + view.gap, n.kappa, n.slope)

        def loss(out, b, view, n, mean, slopes):
            surrogate = policy_losses.cost_surrogates(out.ratio, b.advantage_cost, n.clip, mean)
            return policy_losses.clipped(out.ratio, b.advantage, n.clip, mean) + (slopes * surrogate).sum()

        return Objective(loss, slopes)
