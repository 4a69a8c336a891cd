"""COptiDICE's mathematics on a random finite problem, against the linear program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jsafe.ops import dice
from jsafe.ops.fdivergence import DIVERGENCES

S, A, GAMMA = 6, 3, 0.95
SOFT = DIVERGENCES["soft_chi2"]


class Problem:
    """A random problem of 6 states and 3 actions, the occupancy of uniform actions, and 0.6 of its cost as limit."""

    def __init__(self):
        rng = np.random.default_rng(2)
        self.P = rng.dirichlet(0.5 * np.ones(S), (S, A))
        self.R = rng.random((S, A))
        self.C = (rng.random((S, A)) < 0.4).astype(float)
        start = np.eye(S)[0]
        states = np.linalg.solve(np.eye(S) - GAMMA * self.P.mean(axis=1).T, (1 - GAMMA) * start)
        self.behaviour = np.repeat(states[:, None] / A, A, axis=1)
        self.limit = 0.6 * (self.behaviour * self.C).sum()
        self.flow = np.repeat(np.eye(S)[:, None], A, axis=1) - GAMMA * self.P  # [s, a, s']
        self.start = start

    def program(self, limit):
        """Largest return, normalised, within a limit."""
        found = optimize.linprog(
            -self.R.ravel(),
            A_ub=self.C.ravel()[None],
            b_ub=[limit],
            A_eq=self.flow.reshape(-1, S).T,
            b_eq=(1 - GAMMA) * self.start,
        )
        return -found.fun

    def residual(self, nu, lam):
        flat = nu[:, None].repeat(A, axis=1).ravel()
        following = (jnp.asarray(self.P) @ nu).ravel()
        discount = jnp.full(S * A, GAMMA)
        return dice.residual(
            jnp.asarray(self.R).ravel(), jnp.asarray(self.C).reshape(-1, 1), lam[None], flat, following, discount
        )

    def dual(self, x, alpha):
        """`(1 - gamma) nu(s0) + E[w e - alpha f(w)] + lam k`, to be minimised over nu and lam."""
        e = self.residual(x[:S], x[S])
        w = dice.ratio(e, alpha, SOFT)
        gain = jnp.asarray(self.behaviour).ravel() @ (w * e - alpha * SOFT.f(w))
        return (1 - GAMMA) * x[0] + gain + x[S] * self.limit

    @functools.cached_property
    def solutions(self):
        """`(nu, lam)` and the corrected occupancy by alpha, each from the last."""
        x, found = np.append(np.zeros(S), 1.0), {}
        with jax.enable_x64(True):
            value = jax.jit(jax.value_and_grad(self.dual))
            for alpha in (1.0, 0.1, 0.01, 0.003, 0.001):
                bounds = [(None, None)] * S + [(0, None)]
                options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 50}
                for _ in range(3):
                    x = optimize.minimize(
                        lambda x, a=alpha: [np.asarray(y, float) for y in value(jnp.asarray(x), a)],
                        x, jac=True, bounds=bounds, method="L-BFGS-B", options=options,
                    ).x  # fmt: skip
                w = np.asarray(dice.ratio(self.residual(jnp.asarray(x[:S]), jnp.asarray(x[S])), alpha, SOFT))
                found[alpha] = x, w.reshape(S, A) * self.behaviour
        return found


@pytest.fixture(scope="module")
def problem():
    return Problem()


def test_the_linear_program_is_the_one_that_is_meant(problem):
    assert (problem.behaviour * problem.C).sum() == pytest.approx(0.50711, abs=1e-5)
    assert problem.program(problem.limit) == pytest.approx(0.55944, abs=1e-5)
    assert problem.program(1.0) == pytest.approx(0.63391, abs=1e-5)


@pytest.mark.parametrize(
    ("alpha", "value", "multiplier"),
    [(1.0, 0.39483, 1.2533), (0.1, 0.53173, 0.5003), (0.01, 0.55926, 0.5091), (0.001, 0.55944, 0.5250)],
)
def test_the_corrected_occupancy_approaches_the_linear_program(problem, alpha, value, multiplier):
    x, occupancy = problem.solutions[alpha]
    assert (occupancy * problem.R).sum() == pytest.approx(value, abs=1e-4)
    assert x[S] == pytest.approx(multiplier, abs=2e-3)
    assert (occupancy * problem.C).sum() == pytest.approx(problem.limit, abs=1e-4)
    assert occupancy.sum() == pytest.approx(1.0, abs=1e-5)
    flow = problem.flow.reshape(-1, S).T @ occupancy.ravel() - (1 - GAMMA) * problem.start
    assert np.abs(flow).max() < 1e-5


@pytest.mark.parametrize(("eps", "bound"), [(1e-4, 0.31115), (0.01, 0.37366), (0.05, 0.45992)])
def test_the_upper_bound_of_the_cost(problem, eps, bound):
    """Rows as often as the behaviour has them; chi and tau from the convex dual of the worst case within a KL ball."""
    _, occupancy = problem.solutions[0.001]
    triples = [x.ravel() for x in np.indices((S, A, S))]  # s, a, s'
    prior = (problem.behaviour[..., None] * problem.P).ravel()
    w, cost = (x[triples[0], triples[1]] for x in (occupancy / problem.behaviour, problem.C))

    def ell(chi):
        here, there, first = chi[triples[0]], chi[triples[2]], jnp.full(len(cost), chi[0])
        columns = [x[:, None] for x in (jnp.asarray(cost), here, there, first)]
        return dice.flow(jnp.asarray(w), *columns, jnp.full(len(cost), GAMMA), GAMMA)[:, 0]

    def dual(x):
        tau = jnp.exp(x[S])
        return tau * jax.nn.logsumexp(ell(x[:S]) / tau, b=jnp.asarray(prior)) + tau * eps

    with jax.enable_x64(True):
        value = jax.jit(jax.value_and_grad(dual))
        found = optimize.minimize(
            lambda x: [np.asarray(y, float) for y in value(jnp.asarray(x))], np.append(np.zeros(S), 0.0), jac=True,
            method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        assert found.fun == pytest.approx(bound, abs=2e-4)
        counts = np.round(400_000 * prior).astype(int)
        rows = np.repeat(np.arange(len(cost)), counts)
        worst = dice.worst_case(ell(jnp.asarray(found.x[:S]))[rows, None], jnp.exp(jnp.asarray(found.x[S:])))
    v = np.asarray(worst.weights[:, 0])
    assert v.mean() == pytest.approx(1.0, abs=1e-9)
    assert float(worst.divergence[0]) == pytest.approx(eps, rel=5e-3)
    assert (v * (w * cost)[rows]).mean() == pytest.approx(bound, abs=3e-4)


def test_an_infinite_temperature_is_the_plain_mean():
    ell = jax.random.normal(jax.random.key(0), (7, 2))
    worst = dice.worst_case(ell, jnp.full(2, 1e9))
    np.testing.assert_allclose(worst.weights, 1.0, atol=1e-6)
    np.testing.assert_allclose(worst.divergence, 0.0, atol=1e-6)


def test_the_ratio_need_not_be_detached():
    """It is the argmax of what is averaged: the gradients with and without are equal."""
    rng = np.random.default_rng(0)
    reward, nu, nu_next = (jnp.float32(rng.normal(size=5)) for _ in range(3))
    cost, discount = jnp.float32(rng.random((5, 1))), jnp.full(5, 0.9)

    def loss(nu, detached):
        e = dice.residual(reward, cost, jnp.ones(1), nu, nu_next, discount)
        w = dice.ratio(e, 0.3, SOFT)
        return dice.nu_loss(nu, e, jax.lax.stop_gradient(w) if detached else w, 0.3, 0.9, SOFT)

    np.testing.assert_allclose(jax.grad(loss)(nu, True), jax.grad(loss)(nu, False), atol=1e-6)


def test_one_row_by_hand():
    """e = 1 - 2 * 0.5 + 0.9 * 3 - 2 = 0.7, w = 0.7 / 0.5 + 1 = 2.4, f(w) = 0.98."""
    one = lambda x: jnp.float32([x])  # noqa: E731
    e = dice.residual(one(1.0), jnp.float32([[0.5]]), one(2.0), one(2.0), one(3.0), one(0.9))
    w = dice.ratio(e, 0.5, SOFT)
    np.testing.assert_allclose([float(e[0]), float(w[0])], [0.7, 2.4], rtol=1e-6)
    loss = dice.nu_loss(one(4.0), e, w, 0.5, 0.9, SOFT)
    assert float(loss) == pytest.approx(0.1 * 4 + 2.4 * 0.7 - 0.5 * 0.98, rel=1e-6)
    col = lambda x: jnp.float32([[x]])  # noqa: E731
    ell = dice.flow(w, col(0.5), col(2.0), col(3.0), col(4.0), one(0.9), 0.9)
    assert float(ell[0, 0]) == pytest.approx(0.1 * 4 + 2.4 * (0.5 + 0.9 * 3 - 2), rel=1e-6)


def test_shapes_that_would_pair_unrelated_rows_are_refused():
    row, column = jnp.zeros(4), jnp.zeros((4, 1))
    with pytest.raises(AssertionError):
        dice.residual(column, column, jnp.zeros(1), row, row, row)
    with pytest.raises(AssertionError):
        dice.residual(row, row, jnp.zeros(1), row, row, row)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_are_convex_and_their_inverse_slope_is_one(name):
    f, inverse = DIVERGENCES[name]
    assert float(f(jnp.float32(1.0))) == pytest.approx(0.0, abs=1e-7)
    for x in (0.2, 0.7, 1.3, 4.0):
        slope = jax.grad(f)(jnp.float32(x))
        assert float(inverse(slope)) == pytest.approx(x, rel=1e-5)
