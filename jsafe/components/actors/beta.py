"""One Beta policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Actor, ActorLoss, Draw, mixture
from jsafe.distributions import beta
from jsafe.nets.perceptron import Activation, FeedForward, Layers, mlp
from jsafe.ops.editing import clip_row_gradient
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec, Key

CONCENTRATION_GRADIENT_NORM = 0.01
"""Row clip of the gradient at the concentrations, as SEditor's authors released it."""


def beta_network(obs_dim: int, act_dim: int, hidden: Sequence[int], act: str, late_dim: int = 0) -> FeedForward:
    """A perceptron with a Beta head of 2A units that starts at Beta(2, 2) everywhere (zero weights)."""
    return mlp(
        obs_dim,
        2 * act_dim,
        hidden,
        late_dim=late_dim,
        act=act,
        last_kernel_init=nn.initializers.zeros,
        last_bias=beta.SOFTPLUS_ONE,
    )


def clipped_concentrations(logits: Array, max_norm: float) -> tuple[Array, Array]:
    """The two concentrations `[..., A]` of a head; the gradient that arrives there is clipped row by row."""
    conc = clip_row_gradient(jnp.concatenate(beta.concentrations(logits), axis=-1), max_norm)
    first, second = jnp.split(conc, 2, axis=-1)
    return first, second


def draw_beta(logits: Array, key: Key, deterministic: bool) -> tuple[Array, Array]:
    """An action (the mode where deterministic) and its log density."""
    conc = beta.concentrations(logits)
    action = beta.mode(*conc) if deterministic else beta.sample(key, *conc)
    return action, beta.log_prob(action, *conc)


@part("actor", "beta")
@dataclasses.dataclass(frozen=True)
class Beta(Layers):
    """A Beta policy trained on a weighted sum of critics: soft actor-critic's actor.

    `L = -(w_r Q_r(s, a) - sum_m w_m Q_m(s, a)) + alpha log pi(a | s)`, `a ~ pi`.

    One sample serves actor, temperature and the critics' targets.

    Source: Haarnoja et al. 2018 (arXiv 1801.01290) with the head of SEditor's baseline SAC-Lag (Yu et al. 2022,
      arXiv 2201.12427).
    """

    hidden: tuple[int, ...] = number((256, 256, 256), low=1)
    activation: Activation = "tanh"

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` with the policy `actor`."""
        del axis_name
        return beta_actor(spec.obs_dim, spec.act_dim, self.hidden, self.activation)


def beta_actor(
    obs_dim: int, act_dim: int, hidden: Sequence[int], act: str, max_norm: float = CONCENTRATION_GRADIENT_NORM
) -> Actor:
    """`Beta` for given sizes; `max_norm` is the row clip of the gradient at the concentrations."""
    net = beta_network(obs_dim, act_dim, hidden, act)

    def draw(params, obs, key, deterministic=False):
        action, log_prob = draw_beta(net.apply(params, obs), key, deterministic)
        return Draw(action, {"actor": log_prob})

    def loss(params, key, inputs):
        conc = clipped_concentrations(net.apply(params, inputs.obs), max_norm)
        action = beta.sample(key, *conc)
        log_prob = beta.log_prob(action, *conc)
        rows = inputs.alpha["actor"] * log_prob - mixture(inputs.q.values(action), inputs.weights)
        fresh = jax.lax.stop_gradient(Draw(action, {"actor": log_prob}))
        return ActorLoss(rows, fresh, {"loss/actor": rows.mean()}, inputs.state)

    return Actor(net.init, draw, loss, ("actor",))
