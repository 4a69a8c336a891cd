"""Lambda returns over replayed windows that may cross episode ends."""

from __future__ import annotations

import chex
import jax

from jsafe.types import Array


def td_lambda(signal: Array, terminated: Array, following: Array, goes_on: Array, gamma: Array, lam: Array) -> Array:
    """TD(lambda) targets of a time-major window, for a vector of signals.

    `G_t = r_t + gamma d_t (V_{t+1} + lam w_{t+1} (G_{t+1} - V_{t+1}))`, `d_t = 1 - terminated_t`, `G_{T-1} = V_{T-1}`.

    Rows follow `jsafe.feeds.Replay`: row t has what its action brought. Where row t + 1 is the final observation of an
    episode (`w = 0`), row t bootstraps from its value.

    Args:
      signal: `[T - 1, B, K]`, rewards (or costs) of the rows but the last.
      terminated: `[T - 1, B]` bool; not where an episode was only cut.
      following: `[T - 1, B, K]`, bootstrap values of the rows 1 to T - 1.
      goes_on: `[T - 1, B]`, weights of the rows 1 to T - 1.
      gamma: Scalar discount factor.
      lam: Scalar in [0, 1]; 0 gives one-step targets.

    Returns:
      `[T - 1, B, K]` targets (differentiable: stop the gradient where you use them). Where row t is no step itself
      its target means nothing.

    Source: Yu et al. (2022), SEditor, as released (ALF): lambda 0.95 over 8 rows.
    """
    chex.assert_rank([signal, following], 3)
    chex.assert_rank([terminated, goes_on], 2)
    chex.assert_equal_shape([signal, following])
    chex.assert_equal_shape([terminated, goes_on])
    decay = gamma * (1.0 - terminated[..., None].astype(following.dtype))
    mixed = lam * goes_on[..., None].astype(following.dtype)

    def step(later, inputs):
        signal_t, decay_t, mixed_t, following_t = inputs
        goal = signal_t + decay_t * (following_t + mixed_t * (later - following_t))
        return goal, goal

    return jax.lax.scan(step, following[-1], (signal, decay, mixed, following), reverse=True)[1]
