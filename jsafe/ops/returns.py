"""Discounted sums along time-major rollouts that hold pieces of many episodes."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array


def discounted_sum(x: Array, discount: Array, initial: Array | None = None) -> Array:
    """`y_t = x_t + discount_t * y_{t+1}`, backwards in time, `y_T = initial`.

    Args:
      x: `[T, ...]`.
      discount: `[T, ...]`, broadcast against `x`; 0 cuts the sum.
      initial: `[...]`, the sum after the last step; default 0.

    Returns:
      `[T, ...]`.
    """
    discount = jnp.broadcast_to(discount, x.shape)
    initial = jnp.zeros_like(x[0]) if initial is None else initial

    def step(carry, xs):
        value, gamma = xs
        carry = value + gamma * carry
        return carry, carry

    return jax.lax.scan(step, initial, (x, discount), reverse=True)[1]


def reward_to_go(reward: Array, next_value: Array, terminated: Array, truncated: Array, gamma: Array) -> Array:
    """`G_t = r_t + gamma G_{t+1}`; at a truncation and after the last row `G_{t+1}` is `next_value`, at the end 0.

    Args:
      reward: `[T, N, K]`, K signals.
      next_value: `[T, N, K]`, values of the observations that followed.
      terminated: `[T, N]` bool.
      truncated: `[T, N]` bool.
      gamma: `[K]` or scalar.

    Returns:
      `[T, N, K]`.
    """
    chex.assert_rank([reward, next_value], 3)
    chex.assert_equal_shape([reward, next_value])
    chex.assert_equal_shape([reward[..., 0], terminated, truncated])
    alive = 1.0 - terminated[..., None].astype(reward.dtype)
    going = alive * (1.0 - truncated[..., None].astype(reward.dtype))
    going = going * (jnp.arange(going.shape[0]) < going.shape[0] - 1)[:, None, None]
    return discounted_sum(reward + gamma * (alive - going) * next_value, gamma * going)
