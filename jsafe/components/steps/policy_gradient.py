"""The plain surrogate."""

from __future__ import annotations

import dataclasses

from jsafe.components.compat import Compat
from jsafe.components.steps.first_order import FirstOrder, Objective
from jsafe.ops import policy_losses
from jsafe.options import part


@part("step", "policy_gradient")
@dataclasses.dataclass(frozen=True)
class PolicyGradient(FirstOrder):
    """`policy_losses.policy_gradient` of the mixed advantage."""

    def objective(self, compat: Compat) -> Objective:
        """See `FirstOrder`."""
        return Objective(lambda out, b, view, n, mean, _: policy_losses.policy_gradient(out.ratio, b.advantage, mean))
