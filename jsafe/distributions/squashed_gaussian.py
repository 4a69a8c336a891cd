"""A diagonal Gaussian squashed by tanh into (-1, 1): soft actor-critic's policy head."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from jsafe.distributions import gaussian as distributions
from jsafe.distributions.gaussian import Gaussian
from jsafe.types import Array, Key

LOG_STD = (-20.0, 2.0)
"""Bounds of the log standard deviation, as in the authors' code."""


def head(logits: Array) -> Gaussian:
    """Splits a head of 2A units into mean and log standard deviation, the latter clipped to `LOG_STD`.

    Args:
      logits: `[..., 2A]`.

    Returns:
      A `Gaussian` of `[..., A]`, before the squashing.
    """
    mean, log_std = jnp.split(logits, 2, axis=-1)
    return Gaussian(mean, jnp.clip(log_std, *LOG_STD))


def log_prob(dist: Gaussian, raw: Array) -> Array:
    """Log density of the action `tanh(raw)`, summed over components.

    `log N(raw) - sum log(1 - tanh(raw)^2)`, with `log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u))`: exact in both
    tails, where the square of a rounded tanh is 1.

    Args:
      dist: The Gaussian before the squashing, `[..., A]`.
      raw: `[..., A]`, the draw before the squashing.

    Returns:
      `[...]`.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), appendix C, equation 26. OmniSafe's form is the same.
    """
    chex.assert_equal(raw.shape[-1], dist.mean.shape[-1])
    slope = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
    return distributions.log_prob(dist, raw) - slope.sum(axis=-1)


def sample(dist: Gaussian, key: Key) -> tuple[Array, Array]:
    """One draw `[..., A]` in (-1, 1), reparameterised, and its log density `[...]`."""
    raw = distributions.sample(dist, key)
    return jnp.tanh(raw), log_prob(dist, raw)


def median(dist: Gaussian) -> tuple[Array, Array]:
    """`tanh(mean)`, the deterministic action, and its log density.

    It is the median of each component, not the mode: the density of a wide squashed Gaussian peaks at the edges.
    """
    return jnp.tanh(dist.mean), log_prob(dist, dist.mean)
