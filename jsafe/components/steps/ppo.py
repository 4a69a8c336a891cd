"""The clipped surrogate."""

from __future__ import annotations

import dataclasses

from jsafe.components.compat import Compat
from jsafe.components.steps.first_order import Clipped, Objective
from jsafe.ops import policy_losses
from jsafe.options import part


@part("step", "ppo")
@dataclasses.dataclass(frozen=True)
class PPO(Clipped):
    """`policy_losses.clipped` of the mixed advantage."""

    def objective(self, compat: Compat) -> Objective:
        """See `FirstOrder`."""
        return Objective(lambda out, b, view, n, mean, _: policy_losses.clipped(out.ratio, b.advantage, n.clip, mean))
