"""A deterministic policy with noise for exploration: DDPG's and TD3's."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Actor, ActorLoss, Draw, mixture
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp, uniform
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("actor", "deterministic")
@dataclasses.dataclass(frozen=True)
class Deterministic(Layers):
    """A policy `mu(s) = tanh(f(s))`, trained up the slope of the critics.

    `L = -(w_r Q_r(s, mu(s)) - sum_m w_m Q_m(s, mu(s)))`. Sampled actions are `clip(mu(s) + N(0, sigma^2), -1, 1)`;
    targets bootstrap from `clip(mu'(s) + clip(N(0, s^2), -c, c), -1, 1)` of the slow copy `mu'`. It has no entropy; the
    output layer starts in `+-0.003`.

    Source: Lillicrap et al. 2016 (arXiv 1509.02971), algorithm 1, with white noise in the place of Ornstein-Uhlenbeck
      noise; Fujimoto et al. 2018 (arXiv 1802.09477), section 5.3 (smoothing) and algorithm 1.
    """

    exploration_noise: float = number(0.1, low=0)
    """Standard deviation `sigma` of the noise on sampled actions."""
    smoothing_noise: float = number(0.0, low=0)
    """Standard deviation `s` of the noise on the actions that targets bootstrap from; 0: none (DDPG)."""
    smoothing_clip: float = number(0.5, above=0)
    """Largest such noise `c`."""
    slow: bool = True
    """Targets bootstrap from a slow copy of the policy; False: from the current one (OmniSafe's DDPG)."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` without policies that have an entropy."""
        del axis_name
        inits: dict[str, Any] = {"kernel_init": fan_in_uniform(), "last_kernel_init": uniform(0.003)}
        net = mlp(spec.obs_dim, spec.act_dim, self.hidden, act=self.activation, **inits)

        def best(params, obs):
            return jnp.tanh(net.apply(params, obs))

        def draw(params, obs, key, deterministic=False):
            action = best(params, obs)
            if not deterministic:
                noise = self.exploration_noise * jax.random.normal(key, action.shape, action.dtype)
                action = jnp.clip(action + noise, -1.0, 1.0)
            return Draw(action, {})

        def loss(params, key, inputs):
            action = best(params, inputs.obs)
            rows = -mixture(inputs.q.values(action), inputs.weights)
            fresh = Draw(jax.lax.stop_gradient(action), {})
            return ActorLoss(rows, fresh, {"loss/actor": rows.mean()}, inputs.state)

        def bootstrap(params, slow, obs, key):
            action = best(slow if self.slow else params, obs)
            if self.smoothing_noise > 0:
                noise = self.smoothing_noise * jax.random.normal(key, action.shape, action.dtype)
                noise = jnp.clip(noise, -self.smoothing_clip, self.smoothing_clip)
                action = jnp.clip(action + noise, -1.0, 1.0)
            return Draw(action, {})

        return Actor(net.init, draw, loss, (), bootstrap, self.slow)
