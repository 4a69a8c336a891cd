"""The E-step of constrained variational policy optimisation: a convex dual, and the weights that solve it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jsafe.ops.stats import pmean
from jsafe.types import Array

LEAST_TEMPERATURE, MOST = 1e-4, 1e3
"""Least `eta`, and the largest value of all dual variables, in what 32-bit floats can tell apart (the authors' bounds,
in 64 bits: 1e-6 and 1e5). Where no weights keep the limit its multiplier runs to the bound."""
_LENGTHS = (1.0, 4.0, 16.0, 0.25, 1 / 16, 1 / 64, 1 / 512, 0.0)
"""Of the steps that are tried, in Newton's, the most welcome first."""


def e_step_dual(dual: Array, reward: Array, cost: Array, limit: Array, radius: float) -> Array:
    """`g(eta, lam) = eta eps + lam d + mean_r eta log mean_n exp((q_r - lam q_c) / eta)`, a scalar.

    Its minimum belongs to `max_w E[w q_r]` under `E[w q_c] <= d` and `E KL(w || 1/N) <= eps`.

    Args:
      dual: `[1 + M]`: `eta`, and a multiplier per cost.
      reward: `[N, R]`, values of N actions in R states.
      cost: `[N, R, M]`.
      limit: `[M]`, `d`.
      radius: `eps`.

    Source: Liu et al. 2022 (arXiv 2201.11927), equation 9.
    """
    eta, multiplier = dual[0], dual[1:]
    score = (reward - cost @ multiplier) / eta
    return eta * radius + multiplier @ limit + eta * (jax.nn.logsumexp(score, axis=0) - jnp.log(len(score))).mean()


def solve_e_step(
    start: Array,
    reward: Array,
    cost: Array,
    limit: Array,
    radius: float,
    *,
    rounds: int = 10,
    axis_name: str | None = None,
) -> Array:
    """Minimises `e_step_dual` by projected Newton steps, each as long as the dual falls most.

    It starts from the best of the last solution, of no multipliers, and of the largest ones.

    Args:
      start: `[1 + M]`, the last solution.
      reward, cost, limit, radius: See `e_step_dual`.
      rounds: Newton steps.
      axis_name: Mapped axis over which the states are shared.

    Returns:
      `[1 + M]`, `eta` in `[LEAST_TEMPERATURE, MOST]`, multipliers in `[0, MOST]`.

    Collectives: `pmean` of deviations, values, gradients and second derivatives, which are means over states.
    """
    chex.assert_rank([reward, cost], [2, 3])
    low = jnp.zeros_like(start).at[0].set(LEAST_TEMPERATURE)

    def dual(x):
        return e_step_dual(x, reward, cost, limit, radius)

    def lowest(tried):
        """The first of those that are lowest to the last digits."""
        values = pmean(jax.vmap(dual)(tried), axis_name)
        values = jnp.where(jnp.isfinite(values), values, jnp.inf)
        best = values.min()
        return tried[jnp.argmax(values <= best + 2e-6 * jnp.abs(best))]

    def step(x, _):
        slope, curve = pmean((jax.grad(dual)(x), jax.hessian(dual)(x)), axis_name)
        held = ((x <= low) & (slope > 0)) | ((x >= MOST) & (slope < 0))
        free = jnp.where(held, 0.0, 1.0)
        curve = curve * free[:, None] * free[None, :]
        ridge = jnp.diag(1e-6 * jnp.maximum(jnp.diagonal(curve), 1.0) + (1.0 - free))
        direction = jnp.linalg.solve(curve + ridge, slope * free)
        return lowest(jnp.clip(x - jnp.array(_LENGTHS)[:, None] * direction, low, MOST)), None

    spread = pmean(jnp.stack([reward.std(axis=0).mean(), cost.std(axis=0).mean()]), axis_name)
    none = jnp.zeros_like(start).at[0].set(spread[0])
    most = jnp.full_like(start, MOST).at[0].set(MOST * spread[1])
    starts = jnp.clip(jnp.stack([start, none, most]), low, MOST)
    return jax.lax.scan(step, lowest(starts), None, length=rounds)[0]


def e_step_weights(dual: Array, reward: Array, cost: Array) -> Array:
    """`w = softmax_n((q_r - lam q_c) / eta)`, `[N, R]`: the improved policy on the sampled actions (equation 8)."""
    score = (reward - cost @ dual[1:]) / dual[0]
    weights = jnp.exp(
        jnp.minimum(score - score.max(axis=0), 0.0)
    )  # scores are large: rounding must not lift one above 0
    return weights / weights.sum(axis=0)
