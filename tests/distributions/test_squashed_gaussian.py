"""The squashed Gaussian against numerical integration and exact tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.distributions import squashed_gaussian as tanh_gaussian
from jsafe.distributions.gaussian import Gaussian

DIST = Gaussian(jnp.array([0.4]), jnp.array([-0.3]))


def test_the_density_on_the_actions_integrates_to_one():
    with jax.enable_x64(True):
        dist = Gaussian(*(x.astype(jnp.float64) for x in DIST))
        action = np.linspace(-1, 1, 200_001)[1:-1, None]
        density = np.exp(tanh_gaussian.log_prob(dist, np.arctanh(action)))
        step = action[1, 0] - action[0, 0]
        assert density.sum() * step == pytest.approx(1, abs=1e-6)
        entropy = -(density * np.log(density)).sum() * step
        mean = (density * action[:, 0]).sum() * step
    draws, log_prob = tanh_gaussian.sample(Gaussian(*(jnp.tile(x, (50_000, 1)) for x in DIST)), jax.random.key(0))
    assert -log_prob.mean() == pytest.approx(entropy, abs=0.02)
    assert draws.mean() == pytest.approx(mean, abs=0.01)
    assert tanh_gaussian.median(DIST)[0] == pytest.approx(float(np.tanh(0.4)))


@pytest.mark.parametrize("raw", [-40.0, -12.0, 0.0, 3.0, 12.0, 40.0])
def test_tails_are_exact_in_single_precision(raw):
    """`log(1 - tanh(u)^2) = -2 log cosh(u)`, which double precision knows where single rounds tanh to 1."""
    dist = Gaussian(jnp.float32([raw]), jnp.zeros(1))
    got = tanh_gaussian.log_prob(dist, jnp.float32([raw]))
    exact = -0.5 * np.log(2 * np.pi) + 2 * (np.logaddexp(raw, -raw) - np.log(2))
    assert got == pytest.approx(exact, rel=1e-6)
    slope = jax.grad(lambda u: tanh_gaussian.log_prob(Gaussian(jnp.zeros(1), jnp.full(1, 5.0)), u))(jnp.float32([raw]))
    assert slope[0] == pytest.approx(2 * np.tanh(raw) - raw * np.exp(-10.0), rel=1e-5, abs=1e-6)


def test_the_head_bounds_the_deviation():
    dist = tanh_gaussian.head(jnp.array([0.1, 0.2, -50.0, 50.0]))
    np.testing.assert_allclose(dist.mean, [0.1, 0.2])
    np.testing.assert_array_equal(dist.log_std, [-20.0, 2.0])
