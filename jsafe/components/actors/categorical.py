"""A categorical policy over choices."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import distributions, spaces
from jsafe.components.actors.base import Actor, ActorLoss, Draw, mixture
from jsafe.distributions.categorical import categorical, one_hot
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import part
from jsafe.types import EnvSpec

MOST = 1024
"""Most joint choices: every update computes all of them."""


@part("actor", "categorical")
@dataclasses.dataclass(frozen=True)
class Categorical(Layers):
    """Soft actor-critic's actor over n choices, with expectations in the place of samples.

    `L = sum_a pi(a | s) (alpha log pi(a | s) - (w_r Q_r(s, a) - sum_m w_m Q_m(s, a)))`.

    Targets bootstrap from the expectation over the current policy, entropy included. Several choices (`Discrete((3,
    2))`) are independent given the observation; the sum goes over all joint choices.

    Source: Christodoulou 2019 (arXiv 1910.07207), equations 10 to 12. There the critics have an output for each choice;
      here they take it as an input, one-hot, like all critics of the house.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` with the policy `actor`.

        Raises:
          ValueError: If actions are not choices, or are too many to sum over.
        """
        del axis_name
        if not isinstance(spec.action, spaces.Discrete):
            raise ValueError(f"the actor {self.kind!r} needs choices (Discrete) as actions, got {spec.action}")
        sizes, shape = spec.action.sizes, spec.action.shape
        if math.prod(sizes) > MOST:
            raise ValueError(f"the actor {self.kind!r} sums over at most {MOST} joint choices, got {spec.action}")
        joint = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
        choices = jnp.asarray(joint.reshape(-1, *shape), jnp.int32)  # [n], or [n, K]
        net = mlp(spec.obs_dim, sum(sizes), self.hidden, act=self.activation, kernel_init=fan_in_uniform())

        def policy(params, obs):
            return categorical(net.apply(params, obs), sizes)

        def draw(params, obs, key, deterministic=False):
            dist = policy(params, obs)
            action = distributions.mode(dist) if deterministic else distributions.sample(dist, key)
            return Draw(action.reshape(-1, *shape), {"actor": distributions.log_prob(dist, action)})

        def expected(params, obs):
            """All choices `[n, R]`, with their probabilities."""
            dist = policy(params, obs)
            actions = jnp.broadcast_to(choices[:, None], (len(choices), obs.shape[0], *shape))
            log_probs = jax.vmap(lambda action: distributions.log_prob(dist, action))(actions)
            chance = jnp.exp(log_probs)
            return Draw(actions, {"actor": (chance * log_probs).sum(axis=0)}, chance=chance)

        def loss(params, key, inputs):
            del key
            fresh = expected(params, inputs.obs)
            value = mixture(inputs.q.values(one_hot(fresh.action, sizes, bool(shape))), inputs.weights)
            rows = inputs.alpha["actor"] * fresh.log_probs["actor"] - (fresh.chance * value).sum(axis=0)
            return ActorLoss(rows, jax.lax.stop_gradient(fresh), {"loss/actor": rows.mean()}, inputs.state)

        return Actor(net.init, draw, loss, ("actor",), lambda params, slow, obs, key: expected(params, obs))
