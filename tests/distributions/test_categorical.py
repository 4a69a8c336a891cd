"""Categorical products against numpy sums over all choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.distributions import categorical as c

SIZES = (3, 2)
LOGITS = np.array([[0.3, -1.0, 2.0, 0.1, 0.7], [0.0, 0.0, 0.0, -3.0, 1.0]])


def tables(logits):
    """Probabilities of the factors, by numpy."""
    parts = np.split(logits, np.cumsum(SIZES)[:-1], axis=-1)
    return [np.exp(part) / np.exp(part).sum(-1, keepdims=True) for part in parts]


def test_probabilities_entropy_and_divergence_equal_sums_over_all_choices():
    a, b = tables(LOGITS[0]), tables(LOGITS[1])
    joint_a, joint_b = np.outer(*a), np.outer(*b)
    dist = c.categorical(jnp.array(LOGITS, jnp.float32), SIZES)
    rows = jax.tree.map(lambda x: x[0], dist), jax.tree.map(lambda x: x[1], dist)
    for i in range(3):
        for j in range(2):
            got = c.log_prob(rows[0], jnp.array([i, j]))
            assert got == pytest.approx(np.log(joint_a[i, j]), abs=1e-6)
    assert c.entropy(rows[0]) == pytest.approx(-(joint_a * np.log(joint_a)).sum(), abs=1e-6)
    assert c.kl(*rows) == pytest.approx((joint_a * np.log(joint_a / joint_b)).sum(), abs=1e-6)
    assert c.mode(rows[0]).tolist() == [2, 1]


def test_samples_have_the_probabilities_and_never_a_missing_choice():
    dist = c.categorical(jnp.array(LOGITS[0], jnp.float32), SIZES)
    draws = jax.vmap(lambda key: c.sample(dist, key))(jax.random.split(jax.random.key(0), 20_000))
    for k, expected in enumerate(tables(LOGITS[0])):
        shares = np.bincount(np.asarray(draws[:, k]), minlength=3)[: len(expected)] / len(draws)
        np.testing.assert_allclose(shares, expected, atol=0.015)
        assert draws[:, k].max() < SIZES[k]


def test_a_single_factor_takes_plain_choices():
    dist = c.categorical(jnp.zeros((4, 3)), (3,))
    assert c.log_prob(dist, jnp.array([0, 1, 2, 0])).shape == (4,)
    np.testing.assert_allclose(c.log_prob(dist, jnp.array([0, 1, 2, 0])), -np.log(3), rtol=1e-6)


def test_the_fisher_metric_is_the_hessian_of_the_divergence():
    logits, v = jnp.array(LOGITS[0]), jnp.array([0.2, -0.4, 0.1, 0.5, -0.3])

    def dist(x):
        return c.categorical(x, SIZES)

    hessian = jax.hessian(lambda x: c.kl(dist(logits), dist(x)))(logits)
    old, tangent = jax.jvp(dist, (logits,), (v,))
    _, pull = jax.vjp(dist, logits)
    np.testing.assert_allclose(pull(c.fisher_metric(old, tangent))[0], hessian @ v, atol=1e-6)


def test_gradients_are_finite_with_missing_choices():
    grads = jax.grad(lambda x: c.entropy(c.categorical(x, SIZES)).sum() + c.kl(*[c.categorical(x, SIZES)] * 2).sum())
    assert np.isfinite(grads(jnp.array(LOGITS, jnp.float32))).all()
