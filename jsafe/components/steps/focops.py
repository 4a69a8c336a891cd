"""First-order projection of the optimal constrained policy."""

from __future__ import annotations

import dataclasses

from jsafe import distributions
from jsafe.components.compat import Compat
from jsafe.components.steps.first_order import FirstOrder, Objective
from jsafe.ops import policy_losses
from jsafe.options import part, traced


@part("step", "focops")
@dataclasses.dataclass(frozen=True)
class FOCOPS(FirstOrder):
    """`policy_losses.focops` with `KL(new || old)` per state; as released, every row is paired with every other."""

    temperature: float = traced(1.5, above=0)
    """`lambda` of the paper: how much divergence is worth an advantage of 1."""
    radius: float = traced(0.02, low=0)
    """`eta` of the paper: rows further from the old policy do not count."""

    def objective(self, compat: Compat) -> Objective:
        """See `FirstOrder`."""

        def loss(out, b, view, n, mean, _):
            kl = distributions.kl(out.dist, b.old)
            return policy_losses.focops(
                out.ratio, b.advantage, kl, n.temperature, n.radius, mean, pairwise=compat == "omnisafe"
            )

        return Objective(loss)
