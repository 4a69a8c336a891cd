"""f-divergences between occupancies: the generator `f(x)`, and the inverse of its derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jsafe.types import Array


class FDivergence(NamedTuple):
    """`D_f(p || q) = E_q f(p / q)` of a convex f with `f(1) = 0`.

    Attributes:
      f: `x [...] -> [...]`, for ratios of at least 0.
      inverse_slope: `y [...] -> [...]`, the ratio x at which `f'(x) = y`; may be negative (a ratio is then 0).
    """

    f: Callable[[Array], Array]
    inverse_slope: Callable[[Array], Array]


def _soft_chi2(x: Array) -> Array:
    below = jnp.minimum(x, 1.0)
    log = jnp.log(jnp.maximum(below, 1e-10))
    return jnp.where(x < 1, below * (log - 1.0) + 1.0, 0.5 * jnp.square(x - 1.0))


def _soft_chi2_inverse(y: Array) -> Array:
    return jnp.where(y < 0, jnp.exp(jnp.minimum(y, 0.0)), y + 1.0)


def _kl(x: Array) -> Array:
    return x * jnp.log(jnp.maximum(x, 1e-10))


DIVERGENCES = {
    "soft_chi2": FDivergence(_soft_chi2, _soft_chi2_inverse),
    "chi2": FDivergence(lambda x: 0.5 * jnp.square(x - 1.0), lambda y: y + 1.0),
    "kl": FDivergence(_kl, lambda y: jnp.exp(y - 1.0)),
}
"""By name. `soft_chi2` is `x (log x - 1) + 1` below 1 and `(x - 1)^2 / 2` above: its ratios never become negative.

Source: Lee et al. 2021 (OptiDICE, arXiv 2106.10783); Lee et al. 2022 (arXiv 2204.08957).
"""
