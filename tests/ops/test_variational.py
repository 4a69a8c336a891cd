"""The E-step against a general solver on the same numbers, and what its solution has to satisfy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from jsafe.ops.variational import e_step_weights, solve_e_step

N, R = 16, 40


def problem(costs, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, R)), rng.random((N, R, costs)) * 3


def reference_dual(x, reward, cost, limit, radius):
    score = (reward - cost @ x[1:]) / x[0]
    return x[0] * radius + x[1:] @ limit + x[0] * (logsumexp(score, axis=0) - np.log(N)).mean()


@pytest.mark.parametrize("start", [0.1, 1e-6, 1e5])
@pytest.mark.parametrize("limit", [[1.2], [5.0], [1.3, 1.4]])
def test_it_finds_the_minimum_and_keeps_divergence_and_limit(limit, start):
    """Mean cost under the prior is 1.5: 1.2 binds, 5 does not; of two costs both bind. From any start."""
    limit, radius = np.array(limit), 0.1
    reward, cost = problem(len(limit))
    solve = jax.jit(lambda *inputs: solve_e_step(*inputs, radius))
    dual = np.asarray(solve(*map(jnp.float32, (np.full(1 + len(limit), start), reward, cost, limit))), np.float64)
    inputs = reward, cost, limit, radius
    bounds = [(1e-4, 1e3), *[(0, 1e3)] * len(limit)]
    best = minimize(reference_dual, np.full(len(dual), 0.5), inputs, bounds=bounds, method="L-BFGS-B", tol=1e-12)
    np.testing.assert_allclose(reference_dual(dual, *inputs), best.fun, rtol=1e-5)
    np.testing.assert_allclose(dual, best.x, rtol=0.02, atol=2e-3)

    weights = np.asarray(e_step_weights(*map(jnp.float32, (dual, reward, cost))))
    np.testing.assert_allclose(weights, softmax((reward - cost @ dual[1:]) / dual[0], axis=0), rtol=1e-3)
    divergence = (weights * np.log(weights * N)).sum(0).mean()
    np.testing.assert_allclose(divergence, radius, rtol=0.01)
    mean_cost = (weights[..., None] * cost).sum(0).mean(0)
    assert (mean_cost < limit * 1.005).all()
    if limit[0] < 1.5:
        np.testing.assert_allclose(mean_cost, limit, rtol=0.01)
    else:
        assert dual[1] < 1e-3


def test_a_limit_out_of_reach_leaves_the_cost_alone():
    reward, cost = problem(1)
    dual = solve_e_step(jnp.array([0.1, 0.1]), jnp.array(reward), jnp.array(cost), jnp.zeros(1), 0.1, rounds=30)
    weights = np.asarray(e_step_weights(dual, jnp.array(reward), jnp.array(cost)))
    alone = np.asarray(
        e_step_weights(
            solve_e_step(jnp.array([0.1]), -jnp.array(cost[..., 0]), jnp.zeros((N, R, 0)), jnp.zeros(0), 0.1),
            -jnp.array(cost[..., 0]),
            jnp.zeros((N, R, 0)),
        )
    )
    lowest, got = ((w * cost[..., 0]).sum(0).mean() for w in (alone, weights))
    assert got < lowest * 1.02


def test_weights_are_finite_at_the_bounds():
    reward, cost = (jnp.float32(x) for x in problem(1))
    for dual in ([1e-4, 1e3], [1e3, 1e3], [1e-4, 1e-4]):
        weights = np.asarray(jax.jit(e_step_weights)(jnp.array(dual), 5 + reward, 2 + cost))
        np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-5)
