"""The E-step of constrained variational policy optimisation: a convex dual, and the weights that solve it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jsafe.ops.stats import pmean
from jsafe.types import Array

LOW, HIGH = 1e-6, 1e5
"""Bounds of the dual variables, as in the authors' code."""
_SHRINK = np.float32(0.25) ** np.arange(8, dtype=np.float32)


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
    """Minimises `e_step_dual` over `[LOW, HIGH]` by projected Newton steps, each cut back until the dual falls.

    Args:
      start: `[1 + M]`, the last solution.
      reward, cost, limit, radius: See `e_step_dual`.
      rounds: Newton steps.
      axis_name: Mapped axis over which the states are shared.

    Returns:
      `[1 + M]`.

    Collectives: `pmean` of values, gradients and second derivatives of the dual, which are means over states.
    """
    chex.assert_rank([reward, cost], [2, 3])

    def dual(x):
        return e_step_dual(x, reward, cost, limit, radius)

    def step(x, _):
        slope, curve = pmean((jax.grad(dual)(x), jax.hessian(dual)(x)), axis_name)
        held = ((x <= LOW) & (slope > 0)) | ((x >= HIGH) & (slope < 0))
        free = jnp.where(held, 0.0, 1.0)
        curve = curve * free[:, None] * free[None, :]
        ridge = jnp.diag(1e-6 * jnp.maximum(jnp.diagonal(curve), 1.0) + (1.0 - free))
        direction = jnp.linalg.solve(curve + ridge, slope * free)
        tried = jnp.concatenate([jnp.clip(x - _SHRINK[:, None] * direction, LOW, HIGH), x[None]])
        values = pmean(jax.vmap(dual)(tried), axis_name)
        values = jnp.where(jnp.isfinite(values), values, jnp.inf)
        # Of steps that are equally good to the last digits the longest: near the minimum those of Newton.
        best = values.min()
        good = jnp.isfinite(values) & (values <= best + 2e-6 * jnp.abs(best))
        return jnp.where(good.any(), tried[jnp.argmax(good)], x), None

    return jax.lax.scan(step, jnp.clip(start, LOW, HIGH), None, length=rounds)[0]


def e_step_weights(dual: Array, reward: Array, cost: Array) -> Array:
    """`w = softmax_n((q_r - lam q_c) / eta)`, `[N, R]`: the improved policy on the sampled actions (equation 8)."""
    return jax.nn.softmax((reward - cost @ dual[1:]) / dual[0], axis=0)
