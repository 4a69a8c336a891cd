"""A causal transformer over the steps of an episode: what is still to come, what was seen, what was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jsafe.types import Array, Key, Params


class Foretold(NamedTuple):
    """Of each step `[B, L, ...]`: `action [.., 2 A]` by all that came before the action, `cost [.., M]` by it, too."""

    action: Array
    cost: Array


class Transformer(NamedTuple):
    """`init: key -> params`; `apply(params, told, obs, action, step, real, key | None) -> Foretold`.

    `told [B, L, 1 + M]` is what is still to come, one token for each; `obs [B, L, O]`; `action [B, L, A]`;
    `step [B, L]` the number of the row in its episode; `real [B, L]` which rows there are. With a key, hidden units are
    dropped.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Foretold]


class _Block(nn.Module):
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x, mask, dropped):
        width, start = x.shape[-1], nn.initializers.normal(0.02)
        drop = nn.Dropout(self.dropout, deterministic=not dropped)
        attend = nn.MultiHeadDotProductAttention(
            self.heads, kernel_init=start, dropout_rate=self.dropout, deterministic=not dropped
        )
        x = x + drop(attend(nn.LayerNorm()(x), mask=mask))
        h = nn.gelu(nn.Dense(4 * width, kernel_init=start)(nn.LayerNorm()(x)))
        return x + drop(nn.Dense(width, kernel_init=start)(h))


class _Sequence(nn.Module):
    act_dim: int
    num_costs: int
    horizon: int
    width: int
    blocks: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, told, obs, action, step, real, dropped):
        start = nn.initializers.normal(0.02)
        time = nn.Embed(self.horizon + 1, self.width, embedding_init=start)(jnp.clip(step, 0, self.horizon))
        signals = [told[..., i : i + 1] for i in range(told.shape[-1])]
        tokens = [nn.Dense(self.width, kernel_init=start)(x) + time for x in (*signals, obs, action)]
        batch, length = real.shape
        kinds = len(tokens)
        x = jnp.stack(tokens, axis=2).reshape(batch, length * kinds, self.width)
        x = nn.Dropout(self.dropout, deterministic=not dropped)(nn.LayerNorm()(x))
        # A token sees the real ones up to itself; one that is not real sees itself, lest it see nothing.
        place = jnp.arange(length * kinds)
        seen = jnp.repeat(real, kinds, axis=1)[:, None, :] & (place <= place[:, None])
        mask = (seen | (place == place[:, None]))[:, None]
        for _ in range(self.blocks):
            x = _Block(self.heads, self.dropout)(x, mask, dropped)
        x = nn.LayerNorm()(x).reshape(batch, length, kinds, self.width)
        return Foretold(
            nn.Dense(2 * self.act_dim, kernel_init=start)(x[:, :, -2]),
            nn.Dense(self.num_costs, kernel_init=start)(x[:, :, -1]),
        )


def transformer(
    obs_dim: int,
    act_dim: int,
    num_costs: int,
    horizon: int,
    *,
    width: int = 128,
    blocks: int = 3,
    heads: int = 8,
    dropout: float = 0.1,
) -> Transformer:
    """Tokens of each step (return to go, costs to go, observation, action), each embedded linearly beside a learned
    embedding of the step; blocks of normalisation, causal attention and a layer four times as wide.

    Args:
      obs_dim: O.
      act_dim: A.
      num_costs: M.
      horizon: Longest episode; later steps count as that one.
      width: Of the tokens.
      blocks: Their number.
      heads: Of the attention; a divisor of `width`.
      dropout: Share of units that are dropped.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), normalised before each layer; Chen et al. 2021 (Decision
      Transformer, arXiv 2106.01345); with a token for the costs, Liu et al. 2023 (arXiv 2302.07351).
    """
    module = _Sequence(act_dim, num_costs, horizon, width, blocks, heads, dropout)

    def init(key):
        told, obs, action = (jnp.zeros((1, 1, n)) for n in (1 + num_costs, obs_dim, act_dim))
        step, real = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        return module.init(key, told, obs, action, step, real, False)["params"]

    def apply(params, told, obs, action, step, real, key):
        streams = None if key is None else {"dropout": key}
        return module.apply({"params": params}, told, obs, action, step, real, key is not None, rngs=streams)

    return Transformer(init, apply)
