"""Trust-region algebra: conjugate gradient, and the quadratic programs of CPO and PCPO.

`H` is the Fisher matrix of the policy, only ever used as a function `v -> H v`. With M constraints everything that
the programs need is of size M: `q = g' H^-1 g`, `r_i = g' H^-1 b_i`, `S_ij = b_i' H^-1 b_j`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jsafe.types import Array

_TINY = 1e-30
_NO_SIZE = 1e-20
"""A constraint of which `S_ii = b' H^-1 b` is below this is changed by no direction."""


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    b: Array,
    *,
    iterations: int = 15,
    tolerance: float = 1e-10,
    relative: bool = True,
) -> Array:
    """Solves `H x = b` for symmetric positive definite H.

    Args:
      matvec: `v [D] -> H v [D]`.
      b: `[D]`.
      iterations: Most iterations.
      tolerance: Stops when the squared residual, relative to that of the start, is below it.
      relative: False: the squared residual itself (OmniSafe), which leaves small gradients unsolved.

    Returns:
      `x [D]`.

    Collectives: none of its own. `matvec` and `b` have to be global; then every device takes the same path.

    Source: Hestenes & Stiefel 1952.
    """

    start = b @ b
    enough = tolerance * start if relative else tolerance

    def running(carry):
        i, _, _, _, rr = carry
        return (i < iterations) & (rr > enough)

    def step(carry):
        i, x, r, p, rr = carry
        hp = matvec(p)
        alpha = rr / (p @ hp + _TINY)
        x, r = x + alpha * p, r - alpha * hp
        new = r @ r
        return i + 1, x, r, r + (new / rr) * p, new

    return jax.lax.while_loop(running, step, (0, jnp.zeros_like(b), b, b, start))[1]


def line_search(
    evaluate: Callable[[Array], tuple[Array, Array]], *, factor: float, tries: int, shrink_on_nan: bool = True
) -> tuple[Array, Array]:
    """Backtracks from scale 1 until a step is accepted.

    Args:
      evaluate: `scale -> (accepted, kl)`, a bool and a float scalar, global over devices.
      factor: The scale is multiplied by it after each failure.
      tries: Most evaluations.
      shrink_on_nan: False keeps the scale where `kl` is not finite (OmniSafe's CPO: the search then fails).

    Returns:
      `(scale, accepted)`; the scale is 0 when no try was accepted.
    """

    def running(carry):
        i, _, accepted = carry
        return (i < tries) & ~accepted

    def step(carry):
        i, scale, _ = carry
        accepted, kl = evaluate(scale)
        shrunk = scale * factor
        if not shrink_on_nan:
            shrunk = jnp.where(jnp.isfinite(kl), shrunk, scale)
        return i + 1, jnp.where(accepted, scale, shrunk), accepted

    _, scale, accepted = jax.lax.while_loop(running, step, (0, jnp.ones(()), jnp.zeros((), bool)))
    return jnp.where(accepted, scale, 0.0), accepted


def natural_scale(q: Array, radius: Array) -> Array:
    """Length of the natural-gradient step: `sqrt(2 radius / q)` puts `H^-1 g` on the edge of the trust region."""
    return jnp.sqrt(2 * radius / jnp.maximum(q, _TINY))


class Coefficients(NamedTuple):
    """A step `reward * H^-1 g - sum_i cost_i * H^-1 b_i`, and whether the program was `feasible`."""

    reward: Array
    cost: Array
    feasible: Array


def _subsets(m: int) -> np.ndarray:
    """All subsets of m constraints as 0/1 rows, the empty one first."""
    return np.array(list(itertools.product((0, 1), repeat=m)), np.float32)


def _restricted_solve(S: Array, mask: Array, rhs: Array) -> tuple[Array, Array]:
    """Solves `S_AA x = rhs_A` for the subset A = mask (zeros elsewhere); also says whether it is well conditioned."""
    outer = mask[:, None] * mask[None, :]
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diag(S), _NO_SIZE))
    unit = outer * (S * scale[:, None] * scale[None, :]) + jnp.diag(1 - mask)  # unit diagonal: scale-free conditioning
    smallest = jnp.linalg.eigvalsh(unit)[0]
    x = jnp.linalg.solve(unit + 1e-12 * jnp.eye(S.shape[0]), mask * scale * rhs) * scale
    return mask * x, (smallest > 1e-5) & jnp.all((mask == 0) | (jnp.diag(S) > _NO_SIZE))


def cpo_program(q: Array, r: Array, S: Array, c: Array, radius: Array, *, released: bool = False) -> Coefficients:
    """CPO's step: maximise `g'x` subject to `b_i'x + c_i <= 0` and `x'Hx / 2 <= radius`.

    For each subset A of constraints that might hold with equality, the best step in the trust region is
    `x_A = -H^-1 B_A S_A^-1 c_A + t H^-1 (g - B_A S_A^-1 r_A)` with `t >= 0` on the edge of the region. The solution is
    the feasible one of highest `g'x`: exact for any M (2^M subsets; M is small). With M = 1 these are the paper's
    cases: A empty is the TRPO step, A = {1} the analytic dual.

    Where no step is feasible, the paper's recovery: to the edge of the region along `-H^-1 b`. With M > 1 we take
    `b = sum_i max(c_i, 0) b_i / sqrt(S_ii)`, the violated costs, each weighted by its distance to feasibility. A
    constraint that no direction changes (`S_ii ~ 0`) is left out.

    Args:
      q: Scalar, `g' H^-1 g`.
      r: `[M]`, `g' H^-1 b_i`.
      S: `[M, M]`, `b_i' H^-1 b_j`.
      c: `[M]`, constraint values at the current policy, in the unit of the cost surrogate.
      radius: Scalar, `delta`.
      released: With one constraint, OmniSafe's step where the edge of the constraint runs through the trust region
        (`_released_middle_cases`); elsewhere the two agree.

    Returns:
      `Coefficients` of the step.

    Source: Achiam et al. 2017 (arXiv 1705.10528), equations 11 to 14 (M = 1).
    """
    chex.assert_rank([q, r, S, c], [0, 1, 2, 1])
    m = c.shape[0]
    matters = jnp.diag(S) > _NO_SIZE
    size = jnp.sqrt(jnp.maximum(jnp.diag(S), _NO_SIZE))
    tolerance = 1e-4 * (jnp.sqrt(2 * radius) * size + jnp.abs(c))

    def candidate(mask):
        nu, well = _restricted_solve(S, mask, r)  # S_A^-1 r_A
        shift, _ = _restricted_solve(S, mask, c)  # S_A^-1 c_A
        room = 2 * radius - c @ shift
        left = jnp.maximum(q - r @ nu, 0.0)
        t = jnp.sqrt(jnp.maximum(room, 0.0) / jnp.maximum(left, 1e-6 * q + _TINY))  # floor: g may lie in span(B)
        cost = shift + t * nu
        slack = r * t - S @ cost + c  # b_i'x + c_i
        fine = jnp.all(~matters | (slack <= tolerance)) & (room >= 0) & well
        return t, cost, jnp.where(fine, t * q - cost @ r, -jnp.inf)

    t, cost, gain = jax.vmap(candidate)(jnp.asarray(_subsets(m)))
    best = jnp.argmax(gain)
    feasible = gain[best] > -jnp.inf
    violated = jnp.where(matters, jnp.maximum(c, 0.0) / size, 0.0)
    recovery = violated * jnp.sqrt(2 * radius / (violated @ S @ violated + _TINY))
    step = Coefficients(jnp.where(feasible, t[best], 0.0), jnp.where(feasible, cost[best], recovery), feasible)
    if not released or m > 1:
        return step
    theirs = _released_middle_cases(q, r[0], S[0, 0], c[0], radius)
    middle = matters[0] & (2 * radius - c[0] ** 2 / size[0] ** 2 >= 0)
    return Coefficients(*(jnp.where(middle, a, b) for a, b in zip(theirs, step)))


def _released_middle_cases(q: Array, r: Array, s: Array, c: Array, radius: Array) -> Coefficients:
    """OmniSafe's dual of one constraint whose edge meets the trust region.

    The gradient of the reward is there one of ascent, but `nu = max(lam c - r, 0) / s` is the formula for descent: `r`
    has the wrong sign. With `-r` for `r` it is the exact solution.
    """
    eps = 1e-8
    A, B = q - r * r / (s + eps), 2 * radius - c * c / (s + eps)
    edge = r / (c + eps)
    below, above = (0.0, edge), (edge, jnp.inf)
    lam_a = jnp.sqrt(jnp.maximum(A, 0.0) / jnp.maximum(B, _TINY))
    lam_b = jnp.sqrt(q / (2 * radius))
    lam_a = jnp.where(c < 0, jnp.clip(lam_a, *below), jnp.clip(lam_a, *above))
    lam_b = jnp.where(c < 0, jnp.clip(lam_b, *above), jnp.clip(lam_b, *below))
    f_a = -0.5 * (A / (lam_a + eps) + B * lam_a) - r * c / (s + eps)
    f_b = -0.5 * (q / (lam_b + eps) + 2 * radius * lam_b)
    lam = jnp.where(f_a >= f_b, lam_a, lam_b)
    nu = jnp.maximum(lam * c - r, 0.0) / (s + eps)
    return Coefficients(1 / (lam + eps), nu[None] / (lam + eps), jnp.ones((), bool))


def pcpo_program(r_step: Array, S: Array, c: Array) -> Array:
    """PCPO's projection: the nearest step, in the norm of H, with `b_i'x + c_i <= 0`.

    `x = x_0 - H^-1 B nu` with `nu >= 0` the solution of a quadratic program of size M, found over the subsets of
    active constraints. M = 1 gives the paper's `nu = max(0, (b'x_0 + c) / S)`.

    Args:
      r_step: `[M]`, `b_i' x_0`: what the reward step does to each cost.
      S: `[M, M]`, `b_i' H^-1 b_j`.
      c: `[M]`, constraint values at the current policy.

    Returns:
      `nu [M]`. Where the constraints exclude each other, the most violated one is projected upon.

    Source: Yang et al. 2020 (arXiv 2010.03152), algorithm 1 (projection in the norm of the Fisher matrix).
    """
    chex.assert_rank([r_step, S, c], [1, 2, 1])
    matters = jnp.diag(S) > _NO_SIZE
    size = jnp.sqrt(jnp.maximum(jnp.diag(S), _NO_SIZE))
    need = jnp.where(matters, r_step + c, -1.0)
    tolerance = 1e-4 * (jnp.abs(r_step) + jnp.abs(c)) + _TINY

    def candidate(mask):
        nu, well = _restricted_solve(S, mask, need)
        fine = well & jnp.all(nu >= 0) & jnp.all(~matters | (need - S @ nu <= tolerance))
        return nu, jnp.where(fine, nu @ S @ nu, jnp.inf)

    nu, distance = jax.vmap(candidate)(jnp.asarray(_subsets(c.shape[0])))
    best = jnp.argmin(distance)
    worst = jax.nn.one_hot(jnp.argmax(need / size), c.shape[0])
    alone = worst * jnp.maximum(need, 0.0) / jnp.maximum(jnp.diag(S), _NO_SIZE)
    return jnp.where(distance[best] < jnp.inf, nu[best], alone)
