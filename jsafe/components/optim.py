"""Optax transformations that optax lacks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe.types import Array


class EpsilonHatState(NamedTuple):
    """Moments of `scale_by_adam_epsilon_hat`; `count` is a scalar int32."""

    count: Array  # type: ignore[assignment]
    mu: Any
    nu: Any


def scale_by_adam_epsilon_hat(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7) -> optax.GradientTransformation:
    """Adam with epsilon added to the *uncorrected* second moment, as TensorFlow's Adam does.

    `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
    `u_t = sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)`.

    It differs from `optax.scale_by_adam` where gradients are small: the effective epsilon is `eps / sqrt(1 - b2^t)`,
    about 30 times larger in the first step.

    Args:
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      eps: Added to the root of the uncorrected second moment.

    Returns:
      An optax transformation (an ascent direction of unit scale: no learning rate, no sign).

    Source: Kingma & Ba 2015 (arXiv 1412.6980), the "epsilon hat" form at the end of section 2.
    """

    def init(params):
        return EpsilonHatState(
            jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
        )

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        t = count.astype(jnp.float32)
        scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, updates)
        updates = jax.tree.map(lambda m, v: (scale * m / (jnp.sqrt(v) + eps)).astype(m.dtype), mu, nu)
        return updates, EpsilonHatState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def adam_epsilon_hat(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7
) -> optax.GradientTransformation:
    """TensorFlow's Adam: `scale_by_adam_epsilon_hat` followed by the (descending) learning rate.

    Args:
      learning_rate: A number or an optax schedule.
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      eps: Added to the root of the uncorrected second moment.
    """
    return optax.chain(scale_by_adam_epsilon_hat(b1, b2, eps), optax.scale_by_learning_rate(learning_rate))


def clip_norm(grads: Any, max_norm: float | None) -> Any:
    """A tree of gradients scaled down to a global L2 norm of at most `max_norm`; None: as it is."""
    if max_norm is None:
        return grads
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
    scale = jnp.minimum(1.0, max_norm / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: scale * g, grads)


def descend(params: Any, direction: Any, rate: Array) -> Any:
    """`params - rate direction`, leaf by leaf."""
    return jax.tree.map(lambda p, u: p - rate * u, params, direction)
