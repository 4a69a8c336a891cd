"""What offline learners are made of on floor 0: weights, expectiles, reachability, discrepancy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jsafe.ops import cmdp, preference, reachability, regression
from jsafe.ops.expectile import expectile_loss
from jsafe.ops.mmd import mmd


@pytest.mark.parametrize(
    ("limit", "horizon", "cut", "endless"), [(25, 1000, 2.49989, 2.5), (25, 500, 4.96715, 5.0), (10, 100, 6.33968, 10)]
)
def test_a_limit_per_episode_in_the_units_of_critics(limit, horizon, cut, endless):
    assert cmdp.discounted(limit, 0.99, horizon) == pytest.approx(cut, abs=1e-5)
    assert cmdp.discounted_endless(limit, 0.99, horizon) == pytest.approx(endless, abs=1e-9)


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9])
def test_the_minimum_of_the_expectile_loss(tau):
    """Samples 0 and 1, half and half: the expectile is tau; of three values it is the root of the loss's slope."""
    samples = jnp.float32([0.0, 1.0])
    assert jax.grad(lambda v: expectile_loss(samples - v, tau).mean())(jnp.float32(tau)) == pytest.approx(0, abs=1e-6)
    three = np.array([-1.0, 0.5, 4.0])
    root = optimize.brentq(lambda v: sum((tau if x > v else 1 - tau) * (x - v) for x in three), -1, 4)
    slope = jax.grad(lambda v: expectile_loss(jnp.float32(three) - v, tau).mean())(jnp.float32(root))
    assert slope == pytest.approx(0, abs=1e-5)


def test_exponential_and_binary_weights():
    advantage = jnp.float32([-1.0, 0.0, 0.5, 10.0])
    np.testing.assert_allclose(regression.exp_weights(advantage, 0.5, 20.0), [np.exp(-2), 1, np.exp(1), 20], rtol=1e-6)
    np.testing.assert_allclose(regression.exp_weights(advantage, 2.0, None)[3], np.exp(5), rtol=1e-6)
    np.testing.assert_array_equal(regression.binary_weights(advantage), [0, 0, 1, 1])
    assert not jax.grad(lambda a: regression.exp_weights(a, 1.0, 20.0).sum())(advantage).any()


def test_the_effective_share_of_rows():
    assert float(regression.effective_share(jnp.ones(4))) == 1
    assert float(regression.effective_share(jnp.float32([3, 0, 0, 0]))) == 0.25
    assert float(regression.effective_share(jnp.zeros(4))) == 0
    assert float(regression.effective_share(jnp.float32([1, 3]))) == pytest.approx(16 / 20)


def test_the_reach_of_a_hazard():
    """A hazard k steps ahead: -(1 - gamma^k) + 25 gamma^k, whose sign changes between 324 and 325 steps."""
    gamma, value = 0.99, 25.0
    for k in range(1, 326):
        safe = reachability.violation(jnp.zeros(1))
        value = float(reachability.reach_target(safe, jnp.float32(value), gamma, jnp.bool_(False)))
        if k in (1, 10, 324, 325):
            assert value == pytest.approx(-(1 - gamma**k) + 25 * gamma**k, abs=2e-4)
            assert (value > 0) == (k <= 324)
    assert float(reachability.violation(jnp.float32([0.0, 0.5]))) == 25.0
    ended = reachability.reach_target(jnp.float32([-1.0, 25.0]), jnp.float32([9.0, -9.0]), gamma, jnp.ones(2, bool))
    np.testing.assert_array_equal(ended, [-1, 25])
    kept = reachability.reach_target(jnp.float32(25.0), jnp.float32(-9.0), gamma, jnp.bool_(False))
    assert float(kept) == pytest.approx(25.0)  # a violation now is the worst, whatever follows


def test_discrepancy_by_hand():
    x = jnp.float32([[[0.0, 0.0]], [[1.0, 0.0]]])
    np.testing.assert_allclose(mmd(x, x), [1e-3], rtol=1e-3)
    y = jnp.float32([[[0.0, 3.0]]])
    near, own = np.exp(-9 / 2), np.exp(-1 / 2)  # |x - y|^2 is 9 and 10, |x - x'|^2 is 1
    expected = np.sqrt((2 + 2 * own) / 4 + 1 - (near + np.exp(-10 / 2)) + 1e-6)
    np.testing.assert_allclose(mmd(x, y, sigma=1.0), [expected], rtol=1e-5)
    laplacian = np.sqrt((2 + 2 * own) / 4 + 1 - (np.exp(-3 / 2) + np.exp(-4 / 2)) + 1e-6)
    np.testing.assert_allclose(mmd(x, y, sigma=1.0, kernel="laplacian"), [laplacian], rtol=1e-5)


def test_labels_and_weights_of_segments():
    """Six by hand: limit 2. Safe are rewards 0, 10, 4, 6; the upper half of them is 10 and 6."""
    reward = jnp.float32([0.0, 10.0, 50.0, 4.0, 6.0, -9.0])
    cost = jnp.float32([[0.0], [2.0], [3.0], [1.0], [0.0], [2.5]])
    labels = preference.label_segments(reward, cost, jnp.float32([2.0]))
    np.testing.assert_array_equal(labels.desired, [False, True, False, False, True, False])
    expected = [0.3 * 1 + 0.7, 0.3 * 1 + 0.7, 1.0, 0.3 * 0.6 + 0.7, 0.3 * 0.6 + 0.7, 1.0]
    np.testing.assert_allclose(labels.weight, expected, rtol=1e-6)
    balance = 0.5 * 2 / 4
    rows = preference.contrastive_loss(jnp.zeros(6), labels)
    np.testing.assert_allclose(rows, np.log(2) * labels.weight * np.where(labels.desired, 1, balance), rtol=1e-6)
    slope = jax.grad(lambda z: preference.contrastive_loss(z, labels).sum())(jnp.zeros(6))
    np.testing.assert_array_equal(np.sign(slope), [1, -1, 1, 1, -1, 1])


def test_labels_where_none_or_all_are_alike():
    none = preference.label_segments(jnp.arange(3.0), jnp.full((3, 1), 9.0), jnp.ones(1))
    assert not none.desired.any()
    assert np.isfinite(preference.contrastive_loss(jnp.zeros(3), none)).all()
    alike = preference.label_segments(jnp.ones(4), jnp.zeros((4, 1)), jnp.ones(1))
    assert int(alike.desired.sum()) == 2
