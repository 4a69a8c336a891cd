"""Stationary distribution correction under a cost limit: the ratios, and an upper bound of the cost they lead to.

All costs here are in the normalised unit: means over steps under the discounted occupancy, `(1 - gamma)` times a
discounted sum.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.ops.fdivergence import FDivergence
from jsafe.ops.stats import pmean
from jsafe.types import Array


def residual(reward: Array, cost: Array, multiplier: Array, nu: Array, nu_next: Array, discount: Array) -> Array:
    """`e = r - lam . c + gamma d nu(s') - nu(s)`, `[B]`.

    Args:
      reward, nu, nu_next, discount: `[B]`; `discount` is `gamma`, 0 where the episode terminated.
      cost: `[B, M]`.
      multiplier: `[M]`.

    Raises:
      AssertionError: For shapes that differ. A reward `[B, 1]` beside values `[B]` would pair unrelated rows.
    """
    chex.assert_equal_shape([reward, nu, nu_next, discount])
    chex.assert_shape(cost, (*reward.shape, multiplier.shape[0]))
    return reward - cost @ multiplier + discount * nu_next - nu


def ratio(e: Array, alpha: Array | float, divergence: FDivergence) -> Array:
    """`w = relu(f'^-1(e / alpha))`, the optimal ratio of occupancies where the residual is e; same shape.

    Source: Lee et al. 2022 (arXiv 2204.08957).
    """
    return jax.nn.relu(divergence.inverse_slope(e / alpha))


def nu_loss(
    nu_initial: Array, e: Array, w: Array, alpha: Array | float, gamma: Array | float, divergence: FDivergence
) -> Array:
    """`(1 - gamma) mean nu(s0) + mean (w e - alpha f(w))`, a scalar; w may be held constant, being the argmax.

    Source: Lee et al. 2022 (arXiv 2204.08957).
    """
    chex.assert_equal_shape([e, w])
    return (1.0 - gamma) * nu_initial.mean() + (w * e - alpha * divergence.f(w)).mean()


def flow(
    w: Array, cost: Array, chi: Array, chi_next: Array, chi_initial: Array, discount: Array, gamma: Array | float
) -> Array:
    """`ell = (1 - gamma) chi(s0) + w (c + gamma d chi(s') - chi(s))`, `[B, M]`; w is held constant.

    Args:
      w, discount: `[B]`.
      cost, chi, chi_next, chi_initial: `[B, M]`.
      gamma: Scalar.

    Source: Lee et al. 2022 (arXiv 2204.08957).
    """
    chex.assert_equal_shape([cost, chi, chi_next, chi_initial])
    chex.assert_shape([w, discount], cost.shape[:-1])
    step = cost + discount[..., None] * chi_next - chi
    return (1.0 - gamma) * chi_initial + jax.lax.stop_gradient(w)[..., None] * step


class Bound(NamedTuple):
    """`weights [B, M]` (mean 1), and `divergence [M]`, the KL divergence of the reweighted from the given rows."""

    weights: Array
    divergence: Array


def worst_case(ell: Array, tau: Array, axis_name: str | None = None) -> Bound:
    """`v = B softmax_B(ell / tau)`, the reweighting of the rows that raises the cost most, and its divergence.

    The cost's upper bound is then `mean v w c`. With `tau -> inf` all weights are 1, and it is the plain mean.

    Args:
      ell: `[B, M]`, from `flow`; held constant, and so is `tau`.
      tau: `[M]`, above 0.
      axis_name: Mapped axis that shares the rows.

    Collectives: `pmax` of the largest score, `pmean` of the mean of exponentials and of the divergence.
    Source: Lee et al. 2022 (arXiv 2204.08957).
    """
    score = jax.lax.stop_gradient(ell / tau)
    peak = score.max(axis=0)
    if axis_name is not None:
        peak = jax.lax.pmax(peak, axis_name)
    log_mean = jnp.log(pmean(jnp.exp(score - peak).mean(axis=0), axis_name)) + peak
    log_v = score - log_mean
    v = jnp.exp(log_v)
    rows = tuple(range(ell.ndim - 1))
    return Bound(v, pmean((v * log_v - v + 1.0).mean(axis=rows), axis_name))
