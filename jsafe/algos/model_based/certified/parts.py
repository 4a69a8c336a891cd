"""The built parts of CRABS, and the functions that are made of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jsafe.algos.model_based.certified.config import CrabsConfig
from jsafe.components.barriers import safe_box, worst_next
from jsafe.components.dynamics import Heads
from jsafe.components.motion import follow
from jsafe.nets.perceptron import ensemble, mlp
from jsafe.types import EnvSpec


class Parts:
    """Policy, certificate, search, models and critics; `u` and the values of the rest of the rooms.

    Raises:
      ValueError: If the environment does not say what is safe and where it begins, or for weights of another number of
        components.
    """

    def __init__(self, config: CrabsConfig, spec: EnvSpec, axis_name: str | None):
        self.config, self.spec, self.axis_name = config, spec, axis_name
        self.which, self.middle, self.half = safe_box(spec, "crabs")
        weights, bounded = config.pretrain_weights, len(self.which)
        if len(weights) not in (1, bounded):
            raise ValueError(
                f"pretrain_weights must be one or one for each of the {bounded} bounded components, got {weights}"
            )
        self.weights = jnp.broadcast_to(jnp.array(weights, jnp.float32), bounded)
        self.actor, self.barrier, self.certify, self.heat = (
            getattr(config, name).build(spec, axis_name) for name in ("actor", "barrier", "certify", "temperature")
        )
        self.heat = self.heat.serving(self.actor.policies)
        self.dynamics = config.dynamics.build(spec, axis_name, "paper", Heads(False, 0))  # type: ignore[call-arg]
        self.critics = ensemble(mlp(spec.obs_dim, 1, config.critic_hidden, late_dim=spec.act_dim, act="relu"), 2)
        self.start = jnp.array(spec.start, jnp.float32)
        self.adam = optax.scale_by_adam()
        self.adversary = optax.chain(optax.add_decayed_weights(config.decay), optax.scale_by_adam())

    def scaled(self, obs):
        """Bounded components in units of the box, for policy and critics."""
        return obs.at[..., self.which].set((obs[..., self.which] - self.middle) / self.half)

    def mean_action(self, params, obs):
        """Of the policy."""
        return self.actor.draw(params, self.scaled(obs), jax.random.key(0), True).action

    def worst(self, model, value):
        """`u(s, a)`."""

        def predict(obs, action):
            both = (jnp.broadcast_to(x, (self.dynamics.size, *x.shape)) for x in (obs, action))
            return follow(obs, self.dynamics.predict(model, *both).mean)

        return worst_next(value, predict)

    def objective(self, model, scale, margin):
        """`(barrier params, actor params, obs) -> u(s, pi(s)) + eps`."""

        def at(params, policy, obs):
            u = self.worst(model, lambda s: self.barrier.value(params, scale, s))
            return u(obs, self.mean_action(policy, obs)) + margin

        return at

    def q_values(self, params, obs, action):
        """Of both critics, `[2, R]`."""
        return self.critics.apply(params, self.scaled(obs), action)[..., 0]

    def fresh_critics(self, key):
        """Parameters, their slow copy, and Adam's state."""
        params = self.critics.init(key)
        return params, jax.tree.map(jnp.copy, params), self.adam.init(params)
