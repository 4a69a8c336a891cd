"""Critics that bootstrap from actions which the policy proposes."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
from jsafe.components.critics import Blended, Critics
from jsafe.components.valuations.base import (
    Judgement,
    Valuation,
    Valued,
    critic_metrics,
    expectation,
    one_step,
    pick,
    signals_of,
    weighed,
)
from jsafe.options import Options, number, part, seam
from jsafe.types import EnvSpec, Part


@part("valuation", "bootstrapped")
@dataclasses.dataclass(frozen=True)
class Bootstrapped(Options):
    """`y = r + gamma d Q'(s', a*)` with a* the best of n actions that the policy's slow copy proposes for s'.

    The best is the one of the largest `w_r Q'_r - w_c . Q'_c`, weights from the constraint rule: the action that the
    policy would take. Reward and costs bootstrap from the same one. `Q'` is what the critics' targets make of their
    slow replicas. With n = 1 it is a sample of the policy.

    A recorded action's advantage is `q(s, a) - mean_i q(s, a_i)` over `samples` of the current policy, q as the policy
    sees the critics.

    Source: Fujimoto, Meger & Precup 2019 (arXiv 1812.02900), algorithm 1; Wang et al. 2020 (arXiv 2006.15134).
      OmniSafe and OSRL bootstrap a cost from the costliest candidate (`cost_target="max"`), which is not the one
      that the policy takes: far too high wherever candidates differ.
    """

    critics: Part = seam("critics", Blended(), Critics)
    """Networks, loss and reductions."""
    candidates: int = number(1, low=1)
    """n."""
    cost_target: Literal["same", "max", "reward"] = "same"
    """Where costs bootstrap: at the action of the reward's targets; at the costliest candidate; or, as OmniSafe's C-CRR
    does by mistake, in the reward's critics, which are trained towards `c + gamma Q'_r`, too, and are asked for the
    costs of the policy's actions, while the costs' critics stay as they began."""
    samples: int = number(4, low=1)
    """Actions of the policy that an advantage is taken over."""
    baseline: Literal["mean", "max"] = "mean"
    """What of their values is subtracted."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Valuation:
        """A `Valuation` with the group `critic`."""
        critics: Critics = self.critics.build(spec, axis_name)
        confused = self.cost_target == "reward"
        if confused and critics.costs != 1:
            raise ValueError(f"cost_target='reward' is defined for one cost, got {critics.costs} critics of costs")

        def values(params, obs, action):
            return critics.values(params["critic"], critics.embed(params["critic"], obs), action)

        def bootstrap(net, policy, context, obs, key):
            """Numbers to bootstrap from, `[R, K, D]` by name, and the costs `[R, M]` of the best candidate."""
            generator = context.generator
            action = generator.draw(policy, obs, generator.noise(key, self.candidates, obs.shape[0]))
            found = critics.bootstrap(net, critics.embed(net, obs), action, action)
            expected = {name: expectation(x) for name, x in found.items()}
            cost = expected.get("cost", jnp.zeros((*expected["reward"].shape[:2], 0)))
            best = jnp.argmax(weighed(Values(expected["reward"][..., 0], cost), context.weights), axis=0)
            chosen = {name: pick(x, best) for name, x in found.items()}
            own = pick(cost, best)
            if self.cost_target == "max" and "cost" in found:
                chosen["cost"] = found["cost"].max(axis=0)
            return chosen, own

        def price(params, context, obs, key):
            return bootstrap(params["critic"], context.policy, context, obs, key)[1]

        def loss(params, slow, context, key):
            rows = context.rows
            found = bootstrap(slow["critic"], context.slow_policy, context, rows.next_obs, key)
            following, cost = jax.lax.stop_gradient(found)
            following = {name: x[None] for name, x in following.items()}
            net, returns = params["critic"], one_step(context.discount)
            signals, h = signals_of(rows), critics.embed(net, rows.obs)
            losses = critics.loss(net, h, rows.action, signals, following, returns)
            if confused:
                price = signals["cost"][..., :1]
                swapped = critics.loss(net, h, rows.action, signals | {"reward": price}, following, returns)
                losses = {"reward": losses["reward"], "cost": swapped["reward"]}
            total = sum(x.sum(axis=-1).mean() for x in losses.values())
            own = cost.mean(axis=0) if self.candidates > 1 and critics.costs else None
            return Valued(jnp.asarray(total), critic_metrics(losses), (), own)

        def judge(params, slow, context, key):
            rows, generator = context.rows, context.generator
            noise = generator.noise(key, self.samples, rows.obs.shape[0])
            sampled = generator.draw(context.policy, rows.obs, noise)
            # Apart: the value of the recorded action is the one in the loss, which the compiler then finds only once.
            recorded, others = values(params, rows.obs, rows.action), values(params, rows.obs, sampled)
            reduce = jnp.mean if self.baseline == "mean" else jnp.max
            if confused:
                others = Values(others.reward, others.reward[..., None])
            gain = jax.tree.map(lambda x, y: x - reduce(y, axis=0), recorded, others)
            own = others.cost.mean(axis=(0, 1)) if critics.costs else None
            return Judgement(advantage=Values(*gain), cost=own)

        return Valuation(
            init=lambda key: {"critic": critics.init(key)},
            loss=loss,
            judge=judge,
            values=values,
            knows=("advantage",),
            slow=("critic",),
            acting=("critic",),
            prices=critics.costs > 0,
            price=price if critics.costs else None,
        )
