"""A policy over choices, with expectations in the place of samples."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.components.actors.base import Actor, ActorLoss, Draw, mixture
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import part
from jsafe.types import EnvSpec


@part("actor", "categorical")
@dataclasses.dataclass(frozen=True)
class Categorical(Layers):
    """Soft actor-critic's actor over n choices.

    `L = sum_a pi(a | s) (alpha log pi(a | s) - (w_r Q_r(s, a) - sum_m w_m Q_m(s, a)))`; targets bootstrap from the
    same expectation at the next state. Neither needs a sample, and both are exact.

    Source: Christodoulou 2019 (arXiv 1910.07207), equations 10 to 12, with the weighted critics in the place of one.
      Critics take the choice as a one-hot input; there they have an output per choice.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` with the policy `actor`.

        Raises:
          ValueError: If actions are not one choice out of n.
        """
        del axis_name
        if not (isinstance(spec.action, spaces.Discrete) and spec.action.shape == ()):
            raise ValueError(f"the actor 'categorical' wants one choice out of n as its action, got {spec.action}")
        n = spec.action.width
        net = mlp(spec.obs_dim, n, self.hidden, act=self.activation, kernel_init=fan_in_uniform())
        every = jnp.eye(n)[:, None, :]

        def log_policy(params, obs):
            """`[n, R]`."""
            return jax.nn.log_softmax(net.apply(params, obs), axis=-1).T

        def expected(params, obs, key):
            log_pi = log_policy(params, obs)
            choices = jnp.broadcast_to(jnp.arange(n)[:, None], log_pi.shape)
            return Draw(choices, {"actor": (jnp.exp(log_pi) * log_pi).sum(axis=0)}, chance=jnp.exp(log_pi))

        def draw(params, obs, key, deterministic=False):
            log_pi = log_policy(params, obs)
            choice = log_pi.argmax(axis=0) if deterministic else jax.random.categorical(key, log_pi, axis=0)
            chosen = jnp.take_along_axis(log_pi, choice[None], axis=0)[0]
            return Draw(choice.astype(jnp.int32), {"actor": chosen}, {"probability": jnp.exp(log_pi).T})

        def loss(params, key, inputs):
            fresh = expected(params, inputs.obs, key)
            gain = mixture(inputs.q.values(every), inputs.weights)
            rows = inputs.alpha["actor"] * fresh.log_probs["actor"] - (fresh.chance * gain).sum(axis=0)
            return ActorLoss(rows, jax.lax.stop_gradient(fresh), {"loss/actor": rows.mean()}, inputs.state)

        return Actor(net.init, draw, loss, ("actor",), lambda params, slow, obs, key: expected(params, obs, key))
