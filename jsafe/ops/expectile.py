"""Expectile regression: a mean that leans to one side."""

from __future__ import annotations

import jax.numpy as jnp

from jsafe.types import Array


def expectile_loss(error: Array, expectile: float) -> Array:
    """`|expectile - 1[u < 0]| u^2`, entry by entry, of errors `u = sample - estimate`.

    Its minimum over the estimate is the expectile of the samples: their mean at 0.5, their largest as it goes to 1.

    Args:
      error: `[...]`.
      expectile: Above 0 and below 1.

    Source: Kostrikov, Nair & Levine 2022 (arXiv 2110.06169), equation 5.
    """
    return jnp.where(error < 0, 1.0 - expectile, expectile) * jnp.square(error)
