"""Weights of recorded actions in weighted regression. All are constants: no gradient flows through them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jsafe.ops.stats import psum
from jsafe.types import Array


def exp_weights(advantage: Array, beta: float, cap: float | None) -> Array:
    """`min(exp(A / beta), cap)`, entry by entry; None: no cap.

    Source: Wang et al. 2020 (arXiv 2006.15134); the cap of 20 is the authors'.
    """
    exponent = jax.lax.stop_gradient(advantage) / beta
    if cap is None:
        return jnp.exp(exponent)
    return jnp.exp(jnp.minimum(exponent, jnp.log(jnp.float32(cap))))


def binary_weights(advantage: Array) -> Array:
    """`1[A > 0]`, entry by entry.

    Source: Wang et al. 2020 (arXiv 2006.15134).
    """
    return (jax.lax.stop_gradient(advantage) > 0).astype(advantage.dtype)


def effective_share(weights: Array, axis_name: str | None = None) -> Array:
    """`(sum w)^2 / (B sum w^2)`: 1 where all B rows count alike, 1 / B where one counts alone; 0 where none does.

    Collectives: `psum` of the sums.
    """
    total, squares, count = psum((weights.sum(), jnp.square(weights).sum(), jnp.float32(weights.size)), axis_name)
    return total**2 / jnp.maximum(count * squares, 1e-12)
