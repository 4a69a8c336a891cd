import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jsafe import distributions
from jsafe.distributions import beta


def test_head_starts_at_two():
    a, b = beta.concentrations(jnp.full((3, 4), beta.SOFTPLUS_ONE))
    np.testing.assert_allclose(a, 2.0, rtol=1e-6)
    assert a.shape == b.shape == (3, 2)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 2.0), (1.3, 40.0), (300.0, 200.0)])
def test_samples_follow_the_distribution(a, b):
    draws = beta.sample(jax.random.key(0), jnp.full((40_000, 1), a), jnp.full((40_000, 1), b))
    u = (np.asarray(draws[:, 0], np.float64) + 1) / 2
    assert stats.kstest(u, stats.beta(a, b).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("a", "b"), [(2.0, 2.0), (1.5, 6.0), (50.0, 20.0)])
def test_sample_gradient_is_unbiased(a, b):
    """d E[f(x)] / d alpha by the samples' gradient against numerical differentiation of the integral, f(x) = x^2."""

    def estimate(a, b):
        shape = (100_000, 1)
        return jnp.square(beta.sample(jax.random.key(1), jnp.full(shape, a), jnp.full(shape, b))).mean()

    def second_moment(a, b):
        dist = stats.beta(a, b)
        return 4 * (dist.var() + dist.mean() ** 2) - 4 * dist.mean() + 1

    grads = jax.grad(estimate, argnums=(0, 1))(a, b)
    eps = 1e-4
    wanted = (
        (second_moment(a + eps, b) - second_moment(a - eps, b)) / (2 * eps),
        (second_moment(a, b + eps) - second_moment(a, b - eps)) / (2 * eps),
    )
    np.testing.assert_allclose(grads, wanted, rtol=0.05, atol=2e-4)


def test_log_prob_mode_and_entropy_against_scipy():
    a, b = np.array([1.5, 2.0, 30.0]), np.array([4.0, 2.0, 12.0])
    x = np.array([-0.3, 0.1, 0.4])
    wanted = stats.beta.logpdf((x + 1) / 2, a, b).sum() - 3 * np.log(2)
    np.testing.assert_allclose(beta.log_prob(jnp.array(x), jnp.array(a), jnp.array(b)), wanted, rtol=1e-5)
    np.testing.assert_allclose(beta.mode(jnp.array(a), jnp.array(b)), 2 * (a - 1) / (a + b - 2) - 1, rtol=1e-6)
    entropy = stats.beta.entropy(a, b).sum() + 3 * np.log(2)
    np.testing.assert_allclose(beta.entropy(jnp.array(a), jnp.array(b)), entropy, rtol=1e-4)
    # Beta(2, 2) on [-1, 1]: 0.568 nats per component.
    np.testing.assert_allclose(beta.entropy(jnp.full(2, 2.0), jnp.full(2, 2.0)), 2 * 0.5681, atol=1e-3)


def test_mode_of_the_uniform_is_zero():
    np.testing.assert_array_equal(beta.mode(jnp.ones(2), jnp.ones(2)), 0.0)


def test_what_is_not_finite_gives_nan_and_ends():
    """A rejection loop that waits for a NaN to be accepted never returns; the other lanes are not touched."""
    a = jnp.array([2.0, jnp.nan, jnp.inf, -jnp.inf, 1e30, 1e38])[:, None]
    b = jnp.full_like(a, 2.0)
    draws = beta.sample(jax.random.key(0), a, b).ravel()
    np.testing.assert_array_equal(np.isnan(draws), [False, True, True, True, False, False])
    finite = beta.sample(jax.random.key(0), jnp.where(jnp.isfinite(a), a, 3.0), b).ravel()
    np.testing.assert_array_equal(draws[jnp.isfinite(a).ravel()], finite[jnp.isfinite(a).ravel()])
    grads = jax.grad(lambda a: jnp.nansum(beta.sample(jax.random.key(0), a, b)))(a).ravel()
    assert np.isfinite(grads[0])
    below = beta.sample(jax.random.key(0), jnp.array([0.2]), jnp.array([2.0]))  # outside the sampler's domain
    assert np.isnan(below).all()


P = beta.Beta(jnp.float32([2.0, 1.3]), jnp.float32([5.0, 1.1]))
Q = beta.Beta(jnp.float32([3.0, 1.0]), jnp.float32([1.5, 9.0]))


def test_divergence_by_quadrature():
    grid = (np.arange(200_000) + 0.5) / 200_000
    p, q = ([stats.beta(*x).pdf(grid) for x in zip(*map(np.asarray, dist))] for dist in (P, Q))
    wanted = sum((a * (np.log(a) - np.log(b))).mean() for a, b in zip(p, q))
    assert distributions.kl(P, Q) == pytest.approx(wanted, rel=1e-4)
    assert distributions.kl(P, P) == pytest.approx(0, abs=1e-6)


def test_fisher_metric_is_the_covariance_of_the_score():
    grid = (np.arange(200_000) + 0.5) / 200_000
    for k, (a, b) in enumerate(zip(*map(np.asarray, P))):
        score = np.stack([np.log(grid), np.log1p(-grid)])  # of (alpha, beta), but for its mean, which is taken off
        weight = stats.beta(a, b).pdf(grid) / len(grid)
        score -= (score * weight).sum(axis=1, keepdims=True)
        wanted = (weight * score) @ score.T
        for i, v in enumerate(np.eye(2, dtype=np.float32)):
            product = distributions.fisher_metric(P, beta.Beta(*(jnp.zeros(2).at[k].set(x) for x in v)))
            np.testing.assert_allclose(jnp.stack(product)[:, k], wanted[i], rtol=1e-3)


def test_its_deviation():
    wanted = [2 * stats.beta(a, b).std() for a, b in zip(*map(np.asarray, P))]
    np.testing.assert_allclose(distributions.figures(P)["policy/std"], wanted, rtol=1e-5)
