"""Cost critics with a mean and a variance: the tail of a normal distribution counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from jsafe.components.critics.base import Critics, Group, flat, pair, q_networks
from jsafe.components.critics.ensemble import as_one, pessimistic, squared_error_group
from jsafe.nets.perceptron import FeedForward, Layers
from jsafe.options import number, part
from jsafe.types import EnvSpec

SMALLEST = 1e-8
"""Least variance, as in the authors' code."""


def normal_tail(risk: float) -> float:
    """`E[X | X is among its largest share risk]` of a standard normal X: `pdf(ppf(risk)) / risk`; 0 at `risk = 1`."""
    return float(norm.pdf(norm.ppf(risk)) / risk) if risk < 1 else 0.0


def normal_group(means: FeedForward, variances: FeedForward, risk: float) -> Group:
    """Critics of the mean and of the variance of discounted costs; the actor sees the conditional value at risk.

    `CVaR = Q + pdf(ppf(risk)) / risk sqrt(V)`; loss `(y - Q)^2 + V + v - 2 sqrt(V v)`, the squared 2-Wasserstein
    distance to a normal of mean `y` and variance `v`, `v` the return of `(c + gamma d Q' - Q)^2` discounted by
    `gamma^2`.
    """
    tail = normal_tail(risk)

    def init(key):
        keys = jax.random.split(key)
        return {"mean": means.init(keys[0]), "variance": variances.init(keys[1])}

    def embed(params, obs):
        return {"mean": means.embed(params["mean"], obs), "variance": variances.embed(params["variance"], obs)}

    def outputs(params, h, action):
        mean = means.tail(params["mean"], h["mean"], action)[0, ..., 0]
        raw = variances.tail(params["variance"], h["variance"], action)[0, ..., 0]
        return mean, jnp.maximum(jax.nn.softplus(raw), SMALLEST)

    def values(params, h, action):
        mean, variance = outputs(params, h, action)
        return jnp.moveaxis(mean + tail * jnp.sqrt(variance), 0, -1)

    def bootstrap(params, h, action):
        return jnp.stack([jnp.moveaxis(x, 0, -1) for x in outputs(params, h, action)], axis=-1)

    def loss(params, h, action, signal, following, returns):
        mean, variance = (x.T for x in outputs(params, h, action))
        following = jax.lax.stop_gradient(following)
        goal = returns(signal, following[..., :1])
        surprise = returns(signal, following[..., :1], lam=0.0)[..., 0] - mean.reshape(signal.shape)
        spread = returns(jnp.square(jax.lax.stop_gradient(surprise)), following[..., 1:], power=2)
        goal, spread = (jax.lax.stop_gradient(flat(x))[..., 0] for x in (goal, jnp.maximum(spread, SMALLEST)))
        return jnp.square(goal - mean) + variance + spread - 2.0 * jnp.sqrt(variance * spread)

    return Group(init, embed, values, bootstrap, loss)


@part("critics", "mean_variance")
@dataclasses.dataclass(frozen=True)
class MeanVariance(Layers):
    """The smaller of the reward's critics; of a cost its mean and variance, and of these the worst share of outcomes.

    Source: Yang et al. 2021 (WCSAC, AAAI), equations 6 to 10: the safety critic and its variance. They take the
      variance as `c^2 + 2 gamma c Q' + gamma^2 (V' + Q'^2) - Q^2`, clipped at 0; the squared error here has the same
      mean where `Q` is right, and is never negative.
    """

    replicas: int = number(2, low=1)
    """Critics of the reward."""
    risk: float = number(0.5, above=0, high=1)
    """Share of the worst outcomes that counts; 1: the mean."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Critics:
        """`Critics` of the reward and of the M costs."""
        del axis_name
        sizes = (spec.obs_dim, spec.action_width)
        layers: dict[str, Any] = {"hidden": self.hidden, "act": self.activation}
        reward = q_networks(*sizes, 1, replicas=self.replicas, **layers)
        mean, variance = (q_networks(*sizes, spec.num_costs, replicas=1, **layers) for _ in range(2))
        rewards = squared_error_group(reward, pessimistic, as_one(pessimistic))
        return pair(rewards, normal_group(mean, variance, self.risk), spec.num_costs)
