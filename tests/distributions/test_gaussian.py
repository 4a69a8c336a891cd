"""The Gaussian against numerical integration and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.distributions import gaussian as d

P = d.Gaussian(jnp.array([0.3, -0.5]), jnp.log(jnp.array([0.5, 2.0])))
Q = d.Gaussian(jnp.array([0.0, 0.4]), jnp.log(jnp.array([0.8, 1.5])))


def density(dist, i, grid):
    mean, std = float(dist.mean[i]), float(np.exp(dist.log_std[i]))
    return np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))


def test_log_prob_entropy_and_kl_by_quadrature():
    grid = np.linspace(-25, 25, 200_001)
    step = grid[1] - grid[0]
    p, q = [[density(dist, i, grid) for i in range(2)] for dist in (P, Q)]
    x = np.array([0.1, 0.2])
    expected = sum(np.log(density(P, i, x[i])) for i in range(2))
    assert d.log_prob(P, x) == pytest.approx(expected, rel=1e-5)
    tiny = 1e-300
    entropy = -sum((a * np.log(a + tiny)).sum() * step for a in p)
    assert d.entropy(P) == pytest.approx(entropy, rel=1e-5)
    kl = sum((a * (np.log(a + tiny) - np.log(b + tiny))).sum() * step for a, b in zip(p, q))
    assert d.kl(P, Q) == pytest.approx(kl, rel=1e-3)
    assert d.kl(P, P) == pytest.approx(0, abs=1e-7)


def test_sample_moments():
    draws = jax.vmap(lambda key: d.sample(P, key))(jax.random.split(jax.random.key(0), 20_000))
    assert draws.mean(0) == pytest.approx(np.asarray(P.mean), abs=0.05)
    assert draws.std(0) == pytest.approx(np.exp(P.log_std), rel=0.03)


def test_fisher_metric_is_the_hessian_of_kl():
    def kl(flat):
        return d.kl(P, d.Gaussian(flat[:2], flat[2:]))

    hessian = jax.hessian(kl)(jnp.concatenate(P))
    for v in np.eye(4, dtype=np.float32):
        product = d.fisher_metric(P, d.Gaussian(v[:2], v[2:]))
        np.testing.assert_allclose(jnp.concatenate(product), hessian @ v, atol=1e-5)
