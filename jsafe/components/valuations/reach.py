"""FISOR's valuation: rewards by expectiles, and whether a violation can still be avoided."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
from jsafe.components.valuations.base import Judgement, Valuation, Valued
from jsafe.components.valuations.expectile import pair_losses, pairs
from jsafe.nets.perceptron import Layers
from jsafe.ops import reachability
from jsafe.ops.expectile import expectile_loss
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("valuation", "reach")
@dataclasses.dataclass(frozen=True)
class Reach(Layers):
    """A pair `(Q_r, V_r)` by expectiles, and a pair `(Q_h, V_h)` of a violation `h` (+25 if any cost, else -1).

        L_Qh = sum_j mean ((1 - gamma) h + gamma max(h, V_h(s')) - Q_h,j(s, a))^2       (h where terminated)
        L_Vh = mean |tau - 1[u > 0]| u^2,   u = max_j Q'_h,j(s, a) - V_h(s)

    Both lie between -1 and `unsafe`, by their equations; what a network says beyond is cut before another learns from
    it, or errors feed on themselves through the maximum over replicas.

    `V_h` leans to the safest recorded action; above 0 no recorded action avoids a violation. It leans only so far:
    where a share p of the recorded actions violates whatever came before, V_h settles at

        ((1 - tau) p unsafe - tau (1 - p) (1 - gamma)) / ((1 - tau) p + tau (1 - p) (1 - gamma))

    above 0, although a safe action is at hand, once p exceeds 0.4 % at the defaults and gamma 0.99 (8 % at `unsafe` 1):
    then the policy flees everywhere and earns nothing. `reach/feasible` at 0 shows it; a smaller `unsafe` cures it.

    Source: Zheng et al. 2024 (FISOR, arXiv 2401.10700), and the authors' code, which does not cut.
    """

    replicas: int = number(2, low=1)
    """Networks behind each Q."""
    expectile: float = number(0.9, above=0, below=1)
    """`tau` of the reward and of the violation."""
    unsafe: float = number(25.0, above=0)
    """`h` of a step with a cost: the further ahead a hazard is seen, the larger."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Valuation:
        """A `Valuation` with the groups `q`, `v`, `qh`, `vh`; as a cost it says `max_j Q_h,j`, one for all costs."""
        del axis_name
        nets = pairs(spec, 1, self.replicas, self.hidden, self.activation)

        def init(key):
            keys = jax.random.split(key)
            reach = nets.init(keys[1])
            return nets.init(keys[0]) | {"qh": reach["q"], "vh": reach["v"]}

        def reach_q(params, obs, action):
            return nets.q(params["qh"], obs, action).max(axis=0)[0]

        def possible(value):
            return jnp.clip(value, reachability.SAFE, self.unsafe)

        def loss(params, slow, context, key):
            rows = context.rows
            of_v, of_q, _ = pair_losses(nets, params, slow, context, rows.reward[None], self.expectile)
            h = reachability.violation(rows.cost, self.unsafe)
            following = possible(jax.lax.stop_gradient(nets.v(params["vh"], rows.next_obs)[0]))
            goal = reachability.reach_target(h, following, context.gamma, rows.terminated)
            missed = goal - nets.q(params["qh"], rows.obs, rows.action)[:, 0]
            of_qh = jnp.square(missed).sum(axis=0).mean()
            seen = possible(jax.lax.stop_gradient(reach_q(slow, rows.obs, rows.action)))
            error = seen - nets.v(params["vh"], rows.obs)[0]
            of_vh = expectile_loss(-error, self.expectile).mean()
            metrics = {
                "loss/critic_reward": of_q[0],
                "loss/value_reward": of_v[0],
                "loss/critic_reach": of_qh,
                "loss/value_reach": of_vh,
                "reach/feasible": (nets.v(params["vh"], rows.obs) <= 0).mean(),
            }
            return Valued(of_v[0] + of_q[0] + of_qh + of_vh, metrics)

        def judge(params, slow, context, key):
            rows = context.rows
            gain = nets.q(slow["q"], rows.obs, rows.action).min(axis=0)[0] - nets.v(params["v"], rows.obs)[0]
            reach = nets.v(params["vh"], rows.obs)[0], reach_q(slow, rows.obs, rows.action)
            return Judgement(advantage=Values(gain, jnp.zeros_like(rows.cost)), reach=reach)

        def values(params, obs, action):
            reward = nets.q(params["q"], obs, action).min(axis=0)[0]
            return Values(reward, reach_q(params, obs, action)[..., None])

        return Valuation(init, loss, judge, values, knows=("advantage", "reach"), slow=("q", "qh"), acting=("q", "qh"))
