"""Objectives against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.ops import policy_losses

RATIO = jnp.array([1.5, 0.5, 1.0])
ADVANTAGE = jnp.array([2.0, -1.0, 3.0])


def test_policy_gradient():
    assert policy_losses.policy_gradient(RATIO, ADVANTAGE) == pytest.approx(-(3 - 0.5 + 3) / 3)


def test_clipped():
    # min(3, 1.2 * 2), min(-.5, -.8), 3
    assert policy_losses.clipped(RATIO, ADVANTAGE, 0.2) == pytest.approx(-(2.4 - 0.8 + 3) / 3)
    grad = jax.grad(lambda r: policy_losses.clipped(r, ADVANTAGE, 0.2))(RATIO)
    assert grad == pytest.approx([0, 0, -1])


def test_focops_counts_near_rows_only():
    kl = jnp.array([0.01, 0.5, 0.02])
    loss = policy_losses.focops(RATIO, ADVANTAGE, kl, 1.5, 0.02)
    assert loss == pytest.approx(((0.01 - 3 / 1.5) + (0.02 - 3 / 1.5)) / 3)


def test_focops_pairwise_is_the_broadcast():
    """OmniSafe adds `[b, 1]` to `[b]`: the mean over the `[b, b]` outcome."""
    kl = np.array([0.01, 0.5, 0.02])
    near = kl <= 0.02
    broadcast = (kl[:, None] - np.asarray(RATIO * ADVANTAGE)[None, :] / 1.5) * near[:, None]
    loss = policy_losses.focops(RATIO, ADVANTAGE, jnp.asarray(kl), 1.5, 0.02, pairwise=True)
    assert loss == pytest.approx(broadcast.mean(), rel=1e-5)
    assert loss != pytest.approx(float(policy_losses.focops(RATIO, ADVANTAGE, jnp.asarray(kl), 1.5, 0.02)))


def test_cost_surrogates_and_exact_penalty():
    cost = jnp.stack([ADVANTAGE, -ADVANTAGE], axis=1)
    # first cost: max(3, 2.4), max(-.5, -.8), 3; second: max(-3, -2.4), max(.5, .8), -3
    clipped = policy_losses.cost_surrogates(RATIO, cost, 0.2)
    assert clipped == pytest.approx([5.5 / 3, -4.6 / 3], rel=1e-5)
    assert policy_losses.cost_surrogates(RATIO, cost) == pytest.approx([5.5 / 3, -5.5 / 3], rel=1e-5)
    loss = policy_losses.exact_penalty(clipped, jnp.array([0.1, 0.2]), 20.0)
    assert loss == pytest.approx(20 * (5.5 / 3 + 0.1), rel=1e-5)
    loss = policy_losses.exact_penalty(clipped, jnp.array([-9.0, 2.0]), 20.0)
    assert loss == pytest.approx(20 * (-4.6 / 3 + 2.0), rel=1e-5)


def test_log_barrier_value_and_slope():
    def barrier(excess):
        return policy_losses.log_barrier(jnp.array([excess]), 0.01, 10.0)

    assert barrier(-0.5) == pytest.approx(-0.01 * np.log(0.5), rel=1e-5)
    # beyond the knee at 0.001: a line of slope 10, also when violated
    for excess, slope in ((-0.5, 0.01 / 0.5), (-0.0005, 10.0), (0.3, 10.0)):
        assert jax.grad(barrier)(excess) == pytest.approx(slope, rel=1e-5)
        assert policy_losses.log_barrier_slope(jnp.array([excess]), 0.01, 10.0) == pytest.approx([slope], rel=1e-5)
    assert barrier(0.3) - barrier(0.0) == pytest.approx(3.0, rel=1e-4)
    assert barrier(-0.001) == pytest.approx(float(barrier(-0.00100001)), rel=1e-3)


def test_cup_projection():
    cost = jnp.stack([ADVANTAGE, jnp.ones(3)], axis=1)
    kl = jnp.array([0.1, 0.2, 0.3])
    loss = policy_losses.cup_projection(RATIO, cost, kl, jnp.array([0.5, 1.0]), 6.0)
    assert loss == pytest.approx(6 * (0.5 * 5.5 + 3.0) / 3 + 0.2, rel=1e-5)
