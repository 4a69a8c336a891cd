"""Values of the data's best actions, by expectile regression: no action outside the data is ever evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
from jsafe.components.critics import q_networks
from jsafe.components.valuations.base import Context, Judgement, Valuation, Valued
from jsafe.nets.perceptron import Layers, ensemble, fan_in_uniform, mlp
from jsafe.ops.expectile import expectile_loss
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec, Key, Params


class Pairs(NamedTuple):
    """K pairs of an action value (with replicas) and a state value.

    `init: key -> {"q", "v"}`; `q(params, obs, action [..., R, A]) -> [replicas, K, ..., R]`;
    `v(params, obs) -> [K, R]`.
    """

    init: Callable[[Key], Params]
    q: Callable[[Params, Array, Array], Array]
    v: Callable[[Params, Array], Array]


def pairs(spec: EnvSpec, signals: int, replicas: int, hidden: tuple[int, ...], act: str) -> Pairs:
    """Networks of K pairs."""
    q = q_networks(spec.obs_dim, spec.action_width, signals, replicas=replicas, hidden=hidden, act=act)
    layers: dict[str, Any] = {"act": act, "kernel_init": fan_in_uniform()}
    v = ensemble(mlp(spec.obs_dim, 1, hidden, **layers), signals)

    def init(key):
        keys = jax.random.split(key)
        return {"q": q.init(keys[0]), "v": v.init(keys[1])}

    def q_of(params, obs, action):
        return q.tail(params, q.embed(params, obs), action)[..., 0]

    return Pairs(init, q_of, lambda params, obs: v.apply(params, obs, None)[..., 0])


def pair_losses(
    nets: Pairs, params: Params, slow: Params, context: Context, signal: Array, expectile: float
) -> tuple[Array, Array, Array]:
    """`L_V` and `L_Q`, `[K]` each, and the advantages `[K, R]` of recorded actions, of signals `[K, R]`.

    `L_V = mean |tau - 1[u < 0]| u^2`, `u = min_j Q'_j(s, a) - V(s)`;
    `L_Q = sum_j mean (signal + gamma d V(s') - Q_j(s, a))^2`.

    Source: Kostrikov, Nair & Levine 2022 (arXiv 2110.06169), equations 5 and 6.
    """
    rows = context.rows
    seen = jax.lax.stop_gradient(nets.q(slow["q"], rows.obs, rows.action).min(axis=0))
    error = seen - nets.v(params["v"], rows.obs)
    following = jax.lax.stop_gradient(nets.v(params["v"], rows.next_obs))
    goal = signal + context.discount * following
    missed = goal - nets.q(params["q"], rows.obs, rows.action)
    return expectile_loss(error, expectile).mean(axis=-1), jnp.square(missed).sum(axis=0).mean(axis=-1), error


@part("valuation", "expectile")
@dataclasses.dataclass(frozen=True)
class Expectile(Layers):
    """A pair `(Q, V)` of the reward and of each negated cost, `V` an upper expectile of `Q` over the data's actions.

        L_V = mean |tau - 1[u < 0]| u^2,   u = min_j Q'_j(s, a) - V(s)
        L_Q = sum_j mean (x + gamma d V(s') - Q_j(s, a))^2,   x = r or -c_m

    The value of a cost so leans to the cheapest recorded action, that of the reward to the best one. In the networks
    costs are negative; what they say of actions (`values`) has positive costs.

    Source: Kostrikov, Nair & Levine 2022 (IQL, arXiv 2110.06169); CAPS (AAAI 2025), the authors' code.
    """

    replicas: int = number(2, low=1)
    """Networks behind each Q; the smallest counts (of a cost: the costliest)."""
    expectile: float = number(0.7, above=0, below=1)
    """`tau`."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Valuation:
        """A `Valuation` with the groups `q` and `v`."""
        del axis_name
        nets = pairs(spec, 1 + spec.num_costs, self.replicas, self.hidden, self.activation)

        def loss(params, slow, context, key):
            signal = jnp.concatenate([context.rows.reward[None], -context.rows.cost.T])
            of_v, of_q, _ = pair_losses(nets, params, slow, context, signal, self.expectile)
            metrics = {
                "loss/critic_reward": of_q[0],
                "loss/critic_cost": of_q[1:].sum(),
                "loss/value_reward": of_v[0],
                "loss/value_cost": of_v[1:].sum(),
            }
            return Valued(of_v.sum() + of_q.sum(), metrics)

        def judge(params, slow, context, key):
            rows = context.rows
            gain = nets.q(slow["q"], rows.obs, rows.action).min(axis=0) - nets.v(params["v"], rows.obs)
            return Judgement(advantage=Values(gain[0], -gain[1:].T))

        def values(params, obs, action):
            q = nets.q(params["q"], obs, action).min(axis=0)
            return Values(q[0], -jnp.moveaxis(q[1:], 0, -1))

        return Valuation(nets.init, loss, judge, values, knows=("advantage",), slow=("q",), acting=("q",), prices=True)
