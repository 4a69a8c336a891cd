"""A policy in the latent space of an auto-encoder of the recorded actions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.components.generators.base import BEHAVIOUR, Generator, normal_noise, squared_error
from jsafe.components.generators.cvae import CVAE
from jsafe.nets.perceptron import Layers, fan_in_uniform, mlp
from jsafe.options import number, part
from jsafe.types import EnvSpec

ENCODER = CVAE(hidden=(256, 256), latent=32)
"""LSPC's auto-encoder."""


@part("generator", "latent")
@dataclasses.dataclass(frozen=True)
class Latent(Layers):
    """`a = D(s, e tanh(N(m(s), sigma(s)^2)))`: what the decoder makes of latents near 0, which it sees most.

    It has two losses, one for each of the first two weights of a row: `|a - a_data|^2` of the policy (the decoder is
    held fixed), and the auto-encoder's.

    Source: Koirala, Jiang, Sarkar & Fleming 2025 (LSPC, arXiv 2412.08794) and the authors' code.
    """

    reach: float = number(0.25, above=0)
    """`e`, the largest latent; the authors take 0.6 for Bullet."""
    behaviour: CVAE = ENCODER
    """The auto-encoder; its `phi` and `z_max` have no effect."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Generator:
        """A `Generator` with the groups `actor` and `cvae`, and two losses."""
        del axis_name
        codec, latent = self.behaviour.codec(spec), self.behaviour.latent or 2 * spec.act_dim
        net = mlp(spec.obs_dim, 2 * latent, self.hidden, act=self.activation, kernel_init=fan_in_uniform())

        def decoded(params, obs, noise):
            mean, log_std = jnp.split(net.apply(params["actor"], obs), 2, axis=-1)
            z = mean if noise is None else mean + jnp.exp(jnp.clip(log_std, -5.0, 2.0)) * noise
            return codec.decode(jax.lax.stop_gradient(params[BEHAVIOUR]), obs, self.reach * jnp.tanh(z))

        def loss(params, obs, action, key):
            own_key, model_key = jax.random.split(key)
            noise = jax.random.normal(own_key, (obs.shape[0], latent))
            own = squared_error(decoded(params, obs, noise), action)
            return jnp.stack([own, self.behaviour.row_loss(codec, params[BEHAVIOUR], obs, action, model_key)])

        return Generator(
            init=lambda key: {"actor": net.init(key), BEHAVIOUR: codec.init(jax.random.fold_in(key, 1))},
            noise=normal_noise(latent),
            draw=decoded,
            mode=lambda params, obs: decoded(params, obs, None),
            loss=loss,
            losses=2,
        )
