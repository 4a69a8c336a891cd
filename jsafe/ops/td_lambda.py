"""Lambda returns over replayed windows that may cross episode ends."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array


def td_lambda(reward: Array, discount: Array, value: Array, last: Array, gamma: Array, lam: Array) -> Array:
    """TD(lambda) targets of a time-major window, for a vector of rewards.

    `delta_t = r_{t+1} + gamma d_{t+1} V_{t+1} - V_t`,
    `A_t = [row t is not last] (delta_t + gamma lam d_{t+1} A_{t+1})`, `A_{T-1} = 0`, `G_t = V_t + A_t`.

    The rewards and the discount of a row belong to the arrival there (`jsafe.types.SequenceBatch`). A last row has no
    successor inside its episode, so its advantage is cut: the rows before it bootstrap from its value.

    Args:
      reward: `[T, B, K]`.
      discount: `[T, B]`, 0 where arriving there ended the task for good, 1 elsewhere (also at a time limit).
      value: `[T, B, K]`, bootstrap values of the rows.
      last: `[T, B]` bool.
      gamma: Scalar discount factor.
      lam: Scalar in [0, 1]; 0 gives one-step targets.

    Returns:
      `[T - 1, B, K]` targets (differentiable: stop the gradient where you use them).

    Source: Yu et al. (2022), SEditor, as released (ALF): lambda 0.95 over 8 rows. The reward and `d` of the last row
    of a window serve its predecessor only.
    """
    chex.assert_rank([reward, value], 3)
    chex.assert_rank([discount, last], 2)
    chex.assert_equal_shape([reward, value])
    chex.assert_equal_shape([discount, last])
    decay = gamma * discount[1:, :, None]
    delta = reward[1:] + decay * value[1:] - value[:-1]
    keep = 1.0 - last[:-1, :, None].astype(value.dtype)

    def step(advantage, inputs):
        delta_t, decay_t, keep_t = inputs
        advantage = keep_t * (delta_t + lam * decay_t * advantage)
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(value[0]), (delta, decay, keep), reverse=True)
    return value[:-1] + advantages
