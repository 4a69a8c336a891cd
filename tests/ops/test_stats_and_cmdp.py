"""Moments over one and several devices (a vmapped axis stands for them), and units of cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.ops import cmdp, stats


def test_standardize_columns():
    x = np.random.default_rng(0).normal(3, 2, (50, 4, 2)).astype(np.float32)
    out = np.asarray(stats.standardize(x))
    np.testing.assert_allclose(out.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1)), 1, atol=1e-5)
    centred = np.asarray(stats.standardize(x, scale=False))
    np.testing.assert_allclose(centred, x - x.mean((0, 1)), atol=1e-5)


def test_moments_are_exact_over_an_axis():
    x = np.random.default_rng(1).normal(5, 3, (4, 30, 2)).astype(np.float32)  # 4 devices
    whole = stats.standardize(x.reshape(-1, 2))
    split = jax.vmap(lambda rows: stats.standardize(rows, "d"), axis_name="d")(x)
    np.testing.assert_allclose(split.reshape(-1, 2), whole, atol=1e-5)
    start = stats.running_update(stats.running_init(2), x[0] * 2)
    one = stats.running_update(start, x)
    many = jax.vmap(lambda rows: stats.running_update(start, rows, "d"), axis_name="d")(x)
    for a, b in zip(one, many):
        np.testing.assert_allclose(b[0], a, rtol=1e-5)
    wrong = jax.vmap(lambda rows: stats.running_update(start, rows), axis_name="d")(x)
    assert np.abs(wrong.m2[0] - one.m2).max() > 1


def test_running_stats_equal_those_of_everything_seen():
    rng = np.random.default_rng(2)
    chunks = [rng.normal(1000, 0.5, (n, 3)).astype(np.float32) for n in (1, 7, 40)]
    state = stats.running_init(3)
    assert stats.running_std(state) == pytest.approx(np.ones(3))
    for chunk in chunks:
        state = stats.running_update(state, chunk)
    rows = np.concatenate(chunks).astype(np.float64)
    np.testing.assert_allclose(state.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats.running_std(state), rows.std(0, ddof=1), rtol=1e-2)
    constant = stats.running_update(stats.running_init(1), np.full((5, 1), 2.0, np.float32))
    assert stats.running_std(constant) == pytest.approx([0.01])


def test_explained_variance():
    target = jnp.array([1.0, 2.0, 3.0])
    assert stats.explained_variance(target, target) == pytest.approx(1)
    assert stats.explained_variance(jnp.full(3, 7.0), target) == pytest.approx(0)
    assert stats.explained_variance(target, jnp.ones(3)) == 0


def test_units_of_cost():
    assert cmdp.per_step(np.array([25.0]), 1000.0) == pytest.approx([0.025])
    assert cmdp.per_step(np.array([25.0]), 0.0) == pytest.approx([25.0])
    direct = sum(0.025 * 0.999**t for t in range(1000))
    assert cmdp.discounted(np.array([25.0]), 0.999, 1000) == pytest.approx([direct], rel=1e-6)
    assert cmdp.discounted(jnp.array([25.0]), jnp.float32(1.0), 1000) == pytest.approx([25.0])
    # The figures in OmniSafe's configuration: 25 is a discounted budget of 15.81 and 23.79.
    assert cmdp.discounted(25.0, 0.999, 1000) == pytest.approx(15.81, abs=5e-3)
    assert cmdp.discounted(25.0, 0.9999, 1000) == pytest.approx(23.79, abs=5e-3)
