"""PPO on the reward, then a projection that lowers the cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jsafe import distributions
from jsafe.components.compat import Compat
from jsafe.components.steps.first_order import Clipped, Objective
from jsafe.ops import policy_losses
from jsafe.options import part, traced
from jsafe.types import EnvSpec


@part("step", "cup")
@dataclasses.dataclass(frozen=True)
class CUP(Clipped):
    """Passes on `policy_losses.clipped` of the reward's advantage alone, then on `policy_losses.cup_projection`.

    The second stage weights costs by the rule's multiplier times `(1 - gamma lam) / (1 - gamma)`, starts from the
    policy of the first, and has its own early stop. Where all multipliers are 0 the projection is the policy itself,
    and the stage is left out (as released it runs, and the optimiser's momentum moves the policy on).
    """

    constrained: ClassVar[bool] = True
    discounted: ClassVar[bool] = True
    target_kl: float = traced(0.01, above=0)
    """Largest `KL(old || new)` of each stage."""

    def update(self, spec: EnvSpec, axis_name: str | None, compat: Compat) -> Callable[..., Any]:
        """Both stages."""

        def improvement(out, b, view, n, mean, _):
            return policy_losses.clipped(out.ratio, b.advantage_reward, n.clip, mean)

        def projection(out, b, view, n, mean, _):
            kl = distributions.kl(out.dist, b.old)
            gamma, lam = view.discounts.gamma, getattr(view.discounts, "lam", 0.0)
            scale = (1 - gamma * lam) / (1 - gamma)
            return policy_losses.cup_projection(out.ratio, b.advantage_cost, kl, view.multiplier, scale, mean)

        def wanted(view):
            return jnp.any(view.multiplier > 0) | (compat == "omnisafe")

        improve = self.descend(Objective(improvement))
        project = self.descend(Objective(projection), train_critics=False, wanted=wanted)

        def update(descent, params, state, batch, view, key):
            keys = [jax.random.fold_in(key, i) for i in range(2)]
            params, state, first = improve(descent, params, state, batch, view, keys[0])
            middle = batch._replace(old=descent.policy(params.actor, batch))
            params, state, second = project(descent, params, state, middle, view, keys[1])
            metrics = {**second, **descent.metrics(params, batch)}
            passes = [metrics["update/passes"] for metrics in (first, second)]
            metrics |= {"update/passes": sum(passes), "update/passes_projection": passes[1]}
            return params, state, metrics | {"policy/kl_improvement": first["policy/kl"]}

        return update
