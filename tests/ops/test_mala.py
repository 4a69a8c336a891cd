"""Chains on a Gaussian: moments, acceptance, and the released form that fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.ops import mala

VARIANCE = jnp.array([1.0, 0.25])


def gaussian(x):
    return -0.5 * (x * x / VARIANCE).sum(-1), -x / VARIANCE


def sampled(squares, steps=1500, chains=4000):
    begin = mala.start(gaussian, jnp.zeros((chains, 2)))

    def body(carry, key):
        chains, accepted = mala.step(gaussian, carry, key, squares=squares)
        return chains, accepted.mean()

    chains, accepted = jax.jit(lambda c, k: jax.lax.scan(body, c, k))(begin, jax.random.split(jax.random.key(0), steps))
    return np.asarray(chains.point), float(accepted[-100:].mean())


def test_samples_a_gaussian():
    point, accepted = sampled(0.5)
    np.testing.assert_allclose(point.mean(0), [0, 0], atol=0.05)
    np.testing.assert_allclose(point.var(0), VARIANCE, rtol=0.05)
    assert accepted == pytest.approx(mala.ACCEPTANCE, abs=0.05)


def test_the_released_acceptance_samples_something_else():
    point, _ = sampled(1.0)
    assert point.var(0)[0] > 1.1
    assert point.var(0)[1] > 0.4


def test_detailed_balance_by_hand():
    """`log alpha = log pi(b) q(a | b) / (pi(a) q(b | a))` with the proposal's density written out."""
    rng = np.random.default_rng(0)
    a, noise, tau = rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), rng.uniform(0.01, 0.3, 5)
    variance = np.asarray(VARIANCE, float)

    def density(x):
        return -0.5 * (x**2 / variance).sum(-1), -x / variance

    b = a + tau[:, None] * density(a)[1] + np.sqrt(2 * tau)[:, None] * noise

    def proposal(there, here):
        return -((there - here - tau[:, None] * density(here)[1]) ** 2).sum(-1) / (4 * tau)

    want = density(b)[0] - density(a)[0] + proposal(a, b) - proposal(b, a)
    chains = [mala.Chains(jnp.float32(x), *map(jnp.float32, density(x)), jnp.float32(tau)) for x in (a, b)]
    np.testing.assert_allclose(mala.log_accept(*chains, jnp.float32(noise)), want, rtol=1e-4, atol=1e-5)


def test_chains_stay_where_they_may_be_and_survive_what_is_no_number():
    def half(x):
        value, grad = gaussian(x)
        return jnp.where(x[:, 0] > 1, jnp.nan, value), grad

    chains = mala.start(half, jnp.zeros((200, 2)))
    for i in range(60):
        chains, accepted = mala.step(half, chains, jax.random.key(i), lambda x: x[:, 1] > -0.5)
        assert np.isfinite(accepted).all()
    point = np.asarray(chains.point)
    assert (point[:, 0] <= 1).all()
    assert (point[:, 1] > -0.5).all()
    assert point[:, 1].std() > 0.1
