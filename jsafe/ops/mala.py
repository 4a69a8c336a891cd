"""The Metropolis-adjusted Langevin algorithm: samples of a density that is known up to a factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array, Key

ACCEPTANCE = 0.574
"""The share of accepted moves at which the chain mixes fastest in high dimensions."""

ValueAndGrad = Callable[[Array], tuple[Array, Array]]
"""`x [B, D] -> (f [B], gradient of f [B, D])` of a log density f, row by row."""


class Chains(NamedTuple):
    """B chains.

    Attributes:
      point: `[B, D]`.
      value: `[B]`, the log density there.
      grad: `[B, D]`, its gradient.
      tau: `[B]`, step sizes.
    """

    point: Array
    value: Array
    grad: Array
    tau: Array


def start(target: ValueAndGrad, point: Array, tau: float | Array = 0.01) -> Chains:
    """Chains that begin at the points `[B, D]`."""
    chex.assert_rank(point, 2)
    value, grad = target(point)
    return Chains(point, value, grad, jnp.broadcast_to(jnp.float32(tau), value.shape))


def log_accept(a: Chains, b: Chains, noise: Array, squares: float = 0.5) -> Array:
    """Logarithm of the odds with which a move from a to b is accepted, `[B]`.

        log alpha = f(b) - f(a) - |a - b - tau grad f(b)|^2 / (4 tau) + |w|^2 / 2

    with the noise w of the proposal `b = a + tau grad f(a) + sqrt(2 tau) w`: detailed balance, because
    `|b - a - tau grad f(a)|^2 / (4 tau) = |w|^2 / 2`.

    Args:
      a: Where the chains are; their `tau` made the proposal.
      b: Where they want to go.
      noise: w, `[B, D]`.
      squares: The factor of `|w|^2`. 1 reproduces the released CRABS (authors and OmniSafe), which accept too much
        and sample another density.
    """
    back = a.point - b.point - a.tau[:, None] * b.grad
    return b.value - a.value - jnp.square(back).sum(-1) / (4.0 * a.tau) + squares * jnp.square(noise).sum(-1)


def step(
    target: ValueAndGrad,
    chains: Chains,
    key: Key,
    allowed: Callable[[Array], Array] | None = None,
    *,
    squares: float = 0.5,
    rate: float = 0.01,
) -> tuple[Chains, Array]:
    """One move of all chains; step sizes adapt, `tau <- tau (1 + rate (min(1, alpha) - 0.574))`.

    Args:
      target: The log density.
      chains: Before.
      key: Of noise and acceptance.
      allowed: `x [B, D] -> bool [B]`: where chains may go; None: everywhere.
      squares: See `log_accept`.
      rate: Of the adaptation; 0: none.

    Returns:
      The chains after it, and `min(1, alpha) [B]`.

    Source: Roberts & Tweedie 1996, "Exponential convergence of Langevin distributions and their discrete
    approximations"; Roberts & Rosenthal 1998 for the acceptance. As used by Luo & Ma 2021 (arXiv 2108.01846).
    """
    noise_key, accept_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, chains.point.shape)
    tau = chains.tau[:, None]
    point = chains.point + tau * chains.grad + jnp.sqrt(2.0 * tau) * noise
    proposed = Chains(point, *target(point), chains.tau)
    odds = log_accept(chains, proposed, noise, squares)
    # A proposal without a density is none.
    odds = jnp.where(jnp.isfinite(odds) & jnp.isfinite(proposed.grad).all(-1), odds, -jnp.inf)
    moves = jnp.log(jax.random.uniform(accept_key, odds.shape, minval=1e-12)) < odds
    if allowed is not None:
        moves &= allowed(point)
    accepted = jnp.exp(jnp.minimum(odds, 0.0))

    def either(new, old):
        return jnp.where(moves.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    moved = jax.tree.map(either, proposed, chains)
    return moved._replace(tau=chains.tau * (1.0 + rate * (accepted - ACCEPTANCE))), accepted
