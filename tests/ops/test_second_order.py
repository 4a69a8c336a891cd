"""Conjugate gradient against dense algebra; CPO's and PCPO's programs against a numerical solver."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jsafe.ops import second_order

D, RADIUS = 5, 0.01
CPO = jax.jit(second_order.cpo_program)
PCPO = jax.jit(second_order.pcpo_program)


def spd(rng, size=D):
    a = rng.standard_normal((size, size))
    return a @ a.T / size + 0.1 * np.eye(size)


def test_conjugate_gradient_equals_a_dense_solve():
    rng = np.random.default_rng(0)
    H, b = spd(rng).astype(np.float32), rng.standard_normal(D).astype(np.float32)
    x = second_order.conjugate_gradient(lambda v: H @ v, jnp.asarray(b), iterations=2 * D)
    np.testing.assert_allclose(x, np.linalg.solve(H.astype(float), b), rtol=1e-3, atol=1e-4)
    assert second_order.conjugate_gradient(lambda v: H @ v, jnp.zeros(D)) == pytest.approx(np.zeros(D))


def test_conjugate_gradient_stops_early():
    """After k iterations the error is the best in the Krylov space; with fewer than D it is not yet exact."""
    rng = np.random.default_rng(1)
    H, b = spd(rng).astype(np.float32), rng.standard_normal(D).astype(np.float32)
    exact = np.linalg.solve(H.astype(float), b)
    errors = []
    for k in (1, 3, 5):
        x = np.asarray(second_order.conjugate_gradient(lambda v: H @ v, jnp.asarray(b), iterations=k), float)
        errors.append((x - exact) @ H @ (x - exact))
    assert errors[0] > errors[1] > errors[2]
    krylov = b / np.linalg.norm(b)
    best = exact @ H @ exact - (krylov @ b) ** 2 / (krylov @ H @ krylov)
    assert errors[0] == pytest.approx(best, rel=1e-3)


def test_small_gradients_are_solved_as_well_as_large_ones():
    """The tolerance is relative: an absolute one (1e-10) has stopped at an error of 7 % for a norm of 6e-5."""
    rng = np.random.default_rng(2)
    H, b = spd(rng).astype(np.float32), rng.standard_normal(D).astype(np.float32)
    for norm in (1.0, 6e-5, 1e-8):
        small = norm * b / np.linalg.norm(b)
        x = second_order.conjugate_gradient(lambda v: H @ v, jnp.asarray(small), iterations=2 * D)
        exact = np.linalg.solve(H.astype(float), small)
        assert np.linalg.norm(x - exact) < 1e-3 * np.linalg.norm(exact)
        assert second_order.natural_scale(jnp.float32(small @ exact), RADIUS) ** 2 * (small @ exact) == pytest.approx(
            2 * RADIUS, rel=1e-3
        )


def test_line_search():
    def search(limit, **options):
        return second_order.line_search(lambda s: (s <= limit, jnp.where(s > 0.9, jnp.nan, s)), factor=0.5, **options)

    assert search(1.0, tries=5) == (1.0, True)
    assert search(0.3, tries=5) == (0.25, True)
    assert search(0.01, tries=5) == (0.0, False)
    # Without shrinking at a KL that is not finite, the scale never leaves 1.
    assert search(0.3, tries=5, shrink_on_nan=False) == (0.0, False)


def problem(rng, m, kind):
    """`(H, g, B, c)` with constraints that are feasible now, violated but repairable, or out of reach."""
    H, g, B = spd(rng), rng.standard_normal(D), rng.standard_normal((m, D))
    reach = np.sqrt(2 * RADIUS * np.einsum("md,de,me->m", B, np.linalg.inv(H), B))
    low, high = {"slack": (-3, -1.2), "binding": (-0.9, -0.05), "violated": (0.1, 0.6), "infeasible": (1.3, 2)}[kind]
    return H, g, B, rng.uniform(low, high, m) * reach


def whiten(H, g, B):
    """The program in y = H^(1/2) x: a ball instead of an ellipsoid."""
    values, vectors = np.linalg.eigh(H)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    return root @ g, B @ root


def solver(objective, gradient, constraints, start):
    out = optimize.minimize(
        objective, start, jac=gradient, constraints=constraints, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500}
    )
    return out.x


def reference_cpo(H, g, B, c):
    """Best gain in the ball under the constraints, or None if there is no such point."""
    g, B = whiten(H, g, B)
    ball = {"type": "ineq", "fun": lambda y: 2 * RADIUS - y[:D] @ y[:D]}
    # Phase 1: the smallest worst violation.
    start = np.append(np.zeros(D), c.max() + 1)
    rows = {"type": "ineq", "fun": lambda y: y[D] - (B @ y[:D] + c)}
    y = solver(lambda y: y[D], lambda y: np.eye(D + 1)[D], [ball, rows], start)
    if y[D] > 1e-4 * abs(c).max():
        return None
    limits = {"type": "ineq", "fun": lambda y: -(B @ y + c)}
    y = solver(lambda y: -g @ y, lambda y: -g, [ball, limits], y[:D])
    return g @ y


def coefficients(H, g, B):
    x, p = np.linalg.solve(H, g), np.linalg.solve(H, B.T).T
    return g @ x, p @ g, p @ B.T, x, p


@pytest.mark.parametrize("m", [1, 2, 3])
def test_cpo_program_against_a_solver(m):
    rng = np.random.default_rng(m)
    seen = {True: 0, False: 0}
    for case in range(24):
        H, g, B, c = problem(rng, m, ["slack", "binding", "violated", "infeasible"][case % 4])
        best = reference_cpo(H, g, B, c)
        q, r, S, x, p = coefficients(H, g, B)
        plan = CPO(*(jnp.asarray(v, jnp.float32) for v in (q, r, S, c, RADIUS)))
        assert bool(plan.feasible) == (best is not None), case
        seen[bool(plan.feasible)] += 1
        step = float(plan.reward) * x - np.asarray(plan.cost, float) @ p
        size = np.sqrt(2 * RADIUS * np.diag(S))
        assert step @ H @ step <= 2 * RADIUS * 1.001
        if best is None:
            # Recovery: reaches the edge of the region and lowers the violated costs on the whole.
            assert step @ H @ step == pytest.approx(2 * RADIUS, rel=1e-3)
            assert (np.maximum(c, 0) / np.sqrt(np.diag(S))) @ (B @ step) < 0
            continue
        assert (B @ step + c <= 1e-3 * size).all(), case
        assert g @ step == pytest.approx(best, rel=2e-3, abs=2e-3 * np.sqrt(2 * RADIUS * q)), case
    assert seen[True] >= 12
    assert seen[False] >= 4


def test_cpo_with_one_constraint_equals_the_papers_dual():
    """Equations 12 and 13 of Achiam et al. 2017, with the dual maximised on a grid."""
    rng = np.random.default_rng(7)
    for _ in range(5):
        H, g, B, c = problem(rng, 1, "binding")
        q, r, S, x, p = coefficients(H, g, B)
        r, s, c0 = r[0], S[0, 0], c[0]
        if np.sqrt(2 * RADIUS / q) * r + c0 < 0:
            c0 = -0.5 * np.sqrt(2 * RADIUS / q) * abs(r)
            r = abs(r)
            B, p = B * np.sign(p @ g)[:, None], p * np.sign(p @ g)[:, None]
        lam = np.geomspace(1e-3, 1e5, 400_001)
        nu = np.maximum(0, (lam * c0 + r) / s)  # maximises the dual; r is b'H^-1 g for the ascent direction g
        dual = -(q - 2 * r * nu + s * nu**2) / (2 * lam) + nu * c0 - lam * RADIUS
        best = np.argmax(dual)
        expected = (x - nu[best] * p[0]) / lam[best]
        plan = CPO(*(jnp.asarray(v, jnp.float32) for v in (q, np.array([r]), S, np.array([c0]), RADIUS)))
        step = float(plan.reward) * x - np.asarray(plan.cost, float) @ p
        np.testing.assert_allclose(step, expected, atol=2e-3 * np.abs(expected).max())


def test_the_program_does_not_depend_on_units():
    """Costs a million times smaller: the same step (a constraint used to be dropped where S was below 1e-12)."""
    rng = np.random.default_rng(9)
    for kind in ("binding", "violated", "infeasible"):
        H, g, B, c = problem(rng, 2, kind)
        moves = []
        for unit in (1.0, 1e-6):
            q, r, S, x, p = coefficients(H, unit * g, unit * B)
            plan = CPO(*(jnp.asarray(v, jnp.float32) for v in (q, r, S, unit * c, RADIUS)))
            moves.append(float(plan.reward) * x - np.asarray(plan.cost, float) @ p)
        np.testing.assert_allclose(moves[0], moves[1], atol=2e-3 * np.abs(moves[0]).max(), err_msg=kind)
        r_step = np.sqrt(2 * RADIUS / q) * r / unit
        nu = [PCPO(jnp.float32(u * r_step), jnp.float32(u * u * S / unit**2), jnp.float32(u * c)) for u in (1.0, 1e-6)]
        np.testing.assert_allclose(nu[0], 1e-6 * nu[1], rtol=1e-3, atol=1e-9, err_msg=kind)


def test_released_cpo_has_the_wrong_sign_in_its_middle_cases():
    """With `-r` for `r` its dual is exact where its intervals are not empty; outside of those cases nothing changes."""
    rng = np.random.default_rng(11)
    released = jax.jit(functools.partial(second_order.cpo_program, released=True))
    other = 0
    for case in range(40):
        H, g, B, c = problem(rng, 1, ["slack", "binding", "violated", "infeasible"][case % 4])
        q, r, S, x, p = coefficients(H, g, B)
        args = [jnp.asarray(v, jnp.float32) for v in (q, r, S, c, RADIUS)]
        exact, theirs = CPO(*args), released(*args)
        step = [float(plan.reward) * x - np.asarray(plan.cost, float) @ p for plan in (exact, theirs)]
        if case % 4 in (0, 3):
            np.testing.assert_array_equal(step[0], step[1])
            continue
        if r[0] * c[0] > 0:  # one of its intervals is empty there
            continue
        mended = second_order._released_middle_cases(args[0], -args[1][0], args[2][0, 0], args[3][0], RADIUS)
        mended = float(mended.reward) * x - np.asarray(mended.cost, float) @ p
        np.testing.assert_allclose(mended, step[0], atol=5e-3 * np.abs(step[0]).max(), err_msg=str(case))
        other += np.abs(step[1] - step[0]).max() > 0.05 * np.abs(step[0]).max()
    assert other >= 5


def test_cpo_degenerate_cases():
    rng = np.random.default_rng(3)
    H, g, B, _ = problem(rng, 1, "slack")
    q, r, S, *_ = coefficients(H, g, B)
    trpo = np.sqrt(2 * RADIUS / q)
    # A constraint whose gradient vanishes is left out, violated or not.
    for c in (-1.0, 1.0):
        plan = CPO(jnp.float32(q), jnp.zeros(1), jnp.zeros((1, 1)), jnp.array([c]), RADIUS)
        assert plan.reward == pytest.approx(trpo, rel=1e-4)
        assert plan.cost == pytest.approx([0])
    # Reward gradient along the cost's: the step goes to the limit and no further.
    plan = CPO(*(jnp.asarray(v, jnp.float32) for v in (S[0, 0], S[0], S, np.zeros(1), RADIUS)))
    assert abs(float(plan.reward - plan.cost[0])) * np.sqrt(S[0, 0]) < 1e-2 * np.sqrt(2 * RADIUS)
    # No reward gradient: moves only to repair.
    plan = CPO(jnp.float32(0), jnp.zeros(1), jnp.asarray(S, jnp.float32), jnp.array([-0.1]), RADIUS)
    assert plan.cost == pytest.approx([0])
    assert np.isfinite(plan.reward)
    # The same constraint twice is the same as once.
    c = -0.3 * np.sqrt(2 * RADIUS * S[0, 0])
    once = CPO(*(jnp.asarray(v, jnp.float32) for v in (q, abs(r), S, [c], RADIUS)))
    twice = CPO(*(jnp.asarray(v, jnp.float32) for v in (q, abs(np.tile(r, 2)), np.tile(S, (2, 2)), [c, c], RADIUS)))
    assert twice.reward == pytest.approx(float(once.reward), rel=1e-3)
    assert twice.cost.sum() == pytest.approx(float(once.cost.sum()), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_pcpo_program_against_a_solver(m):
    rng = np.random.default_rng(10 + m)
    projected = 0
    for case in range(16):
        H, g, B, c = problem(rng, m, ["slack", "binding", "violated", "infeasible"][case % 4])
        q, _, S, x, p = coefficients(H, g, B)
        x0 = np.sqrt(2 * RADIUS / q) * x
        nu = np.asarray(PCPO(*(jnp.asarray(v, jnp.float32) for v in (B @ x0, S, c))), float)
        step = x0 - nu @ p
        limits = {"type": "ineq", "fun": lambda y, B=B, c=c: -(B @ y + c)}
        expected = solver(
            lambda y, H=H, x0=x0: (y - x0) @ H @ (y - x0), lambda y, H=H, x0=x0: 2 * H @ (y - x0), [limits], x0
        )
        assert (nu >= 0).all()
        np.testing.assert_allclose(step, expected, atol=3e-3 * np.abs(expected).max(), err_msg=str(case))
        projected += nu.sum() > 0
    assert 4 <= projected < 16


def test_pcpo_with_one_constraint_is_the_papers_formula():
    r, s, c = 0.3, 2.0, 0.1
    assert PCPO(jnp.array([r]), jnp.array([[s]]), jnp.array([c])) == pytest.approx([(r + c) / s])
    assert PCPO(jnp.array([r]), jnp.array([[s]]), jnp.array([-1.0])) == pytest.approx([0])
    # Constraints that exclude each other (b and -b): the worse one is met.
    S = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    assert PCPO(jnp.zeros(2), S, jnp.array([0.5, 0.2])) == pytest.approx([0.5, 0])
