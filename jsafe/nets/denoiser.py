"""The network of a diffusion policy: what noise is in an action."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jsafe.types import Array, Key, Params


class Denoiser(NamedTuple):
    """`init: key -> params`; `apply(params, obs [..., O], action [..., A], step [...], key | None) -> [..., A]`.

    With a key, hidden units are dropped.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array, Array, Array, Key | None], Array]


def mish(x: Array) -> Array:
    """`x tanh(softplus(x))` (Misra 2019, arXiv 1908.08681)."""
    return x * jnp.tanh(nn.softplus(x))


class _Residual(nn.Module):
    width: int
    blocks: int
    out: int
    features: int
    dropout: float

    @nn.compact
    def __call__(self, obs, action, step, dropped):
        frequency = self.param("frequency", nn.initializers.normal(0.2), (self.features // 2,))
        angle = 2 * jnp.pi * step[..., None] * frequency
        time = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        time = nn.Dense(self.width // 2)(mish(nn.Dense(self.width // 2)(time)))
        x = nn.Dense(self.width)(jnp.concatenate([action, obs, time], axis=-1))
        for _ in range(self.blocks):
            h = nn.Dropout(self.dropout, deterministic=not dropped)(x)
            h = nn.Dense(self.width)(mish(nn.Dense(4 * self.width)(nn.LayerNorm()(h))))
            x = x + h
        return nn.Dense(self.out)(mish(x))


def denoiser(
    obs_dim: int, act_dim: int, *, width: int = 256, blocks: int = 3, features: int = 64, dropout: float = 0.1
) -> Denoiser:
    """Fourier features of the step, then residual blocks on action, observation and step.

    Args:
      obs_dim: O.
      act_dim: A.
      width: Of the residual stream; inner layers are four times as wide.
      blocks: Residual blocks: dropout, layer normalisation, two layers.
      features: Fourier features of the step, with learned frequencies.
      dropout: Share of units that are dropped.

    Source: Zheng et al. 2024 (FISOR, arXiv 2401.10700), the authors' code; Hansen-Estruch et al. 2023 (IDQL, arXiv
      2304.10573).
    """
    module = _Residual(width, blocks, act_dim, features, dropout)

    def init(key):
        return module.init(key, jnp.zeros((1, obs_dim)), jnp.zeros((1, act_dim)), jnp.zeros(1), False)["params"]

    def apply(params, obs, action, step, key):
        streams = None if key is None else {"dropout": key}
        obs = jnp.broadcast_to(obs, (*action.shape[:-1], obs.shape[-1]))
        step = jnp.broadcast_to(step, action.shape[:-1]).astype(action.dtype)
        return module.apply({"params": params}, obs, action, step, key is not None, rngs=streams)

    return Denoiser(init, apply)
