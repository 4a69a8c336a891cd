"""The barrier of an interval."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jsafe.types import Array

EDGE = 0.01
"""Softness of the barrier at the ends of the interval."""


def interval(x: Array, edge: float = EDGE) -> Array:
    """A barrier of `[-1, 1]`: 0 in the middle, 1 at the ends, beyond them a steep line.

        b(x) = -log((1 + x + e) (1 - x + e) / (1 + e)^2) / b_max,   b_max = -log(e (2 + e) / (1 + e)^2),   |x| <= 1
        b(x) = 1 + (|x| - 1) 2 / (e (2 + e))                                                              |x| > 1

    Args:
      x: Any shape.
      edge: e, positive.

    Source: Luo & Ma 2021 (arXiv 2108.01846), the authors' code.
    """
    largest = -math.log(edge * (2.0 + edge) / (1.0 + edge) ** 2)
    inside = jnp.clip(x, -1.0, 1.0)
    within = -jnp.log((1.0 + inside + edge) * (1.0 - inside + edge) / (1.0 + edge) ** 2) / largest
    beyond = 1.0 + (jnp.abs(x) - 1.0) * 2.0 / (edge * (2.0 + edge))
    return jnp.where(jnp.abs(x) <= 1.0, within, beyond)
