"""Returns and advantages against numbers worked out by hand and against direct sums."""

import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.components import estimators
from jsafe.ops.advantages import gae, gae_rtg, mix, plain, vtrace
from jsafe.ops.returns import discounted_sum, reward_to_go
from jsafe.options import kinds
from jsafe.types import EnvSpec

GAMMA, LAM = 0.5, 0.5


def rollout():
    """Four steps of one environment: terminated at t=1, truncated at t=2, cut at t=3. Arrays `[4, 1, 1]`."""
    reward = np.array([1.0, 2.0, 3.0, 4.0], np.float32).reshape(4, 1, 1)
    value = np.array([10.0, 20.0, 30.0, 40.0], np.float32).reshape(4, 1, 1)
    next_value = np.array([20.0, 99.0, 8.0, 6.0], np.float32).reshape(4, 1, 1)
    terminated = np.array([0, 1, 0, 0], bool).reshape(4, 1)
    truncated = np.array([0, 0, 1, 0], bool).reshape(4, 1)
    return reward, value, next_value, terminated, truncated


def test_gae_by_hand():
    out = gae(*rollout(), GAMMA, LAM)
    # delta = [1 + 10 - 10, 2 - 20, 3 + 4 - 30, 4 + 3 - 40]; only t=0 is continued, by 0.25 delta_1.
    assert out.advantage.ravel() == pytest.approx([1 - 0.25 * 18, -18, -23, -33])
    assert out.target.ravel() == pytest.approx([-3.5 + 10, 2, 7, 7])


def test_reward_to_go_by_hand():
    reward, _, next_value, terminated, truncated = rollout()
    # The terminated step is worth its reward; truncation and the end of the batch bootstrap.
    assert reward_to_go(reward, next_value, terminated, truncated, GAMMA).ravel() == pytest.approx([2, 2, 7, 7])


def test_rtg_and_plain_targets_and_advantages():
    assert gae_rtg(*rollout(), GAMMA, LAM).target.ravel() == pytest.approx([2, 2, 7, 7])
    assert gae_rtg(*rollout(), GAMMA, LAM).advantage.ravel() == pytest.approx([-3.5, -18, -23, -33])
    assert plain(*rollout(), GAMMA).advantage.ravel() == pytest.approx([1, -18, -23, -33])
    assert plain(*rollout(), GAMMA).target.ravel() == pytest.approx([2, 2, 7, 7])


def test_vtrace_on_policy_is_the_multi_step_return():
    out = vtrace(*rollout(), GAMMA)
    assert out.target.ravel() == pytest.approx([2, 2, 7, 7])
    assert out.advantage.ravel() == pytest.approx([2 - 10, 2 - 20, 7 - 30, 7 - 40])


def test_vtrace_clips_ratios():
    out = vtrace(*rollout(), GAMMA, log_rho=np.log(np.array([[4.0], [0.5], [4.0], [0.5]], np.float32)))
    # rho = min(ratio, 1) = [1, .5, 1, .5]; v_1 = 20 + .5 * -18 = 11; v_0 = 10 + 1 + .5 * 1 * (v_1 - 20)
    assert out.target.ravel() == pytest.approx([10 + 1 - 4.5, 11, 7, 40 - 16.5])
    assert out.advantage.ravel() == pytest.approx([1 + 0.5 * 11 - 10, 0.5 * (2 - 20), -23, -16.5])


@pytest.mark.parametrize("name", sorted(kinds("estimator")))
def test_estimators_agree_with_direct_sums(name):
    """Reward and cost with discounts of their own; a slow loop over time is the reference."""
    rng = np.random.default_rng(0)
    t, n, k = 12, 3, 2
    reward, value, next_value = rng.standard_normal((3, t, n, k)).astype(np.float32)
    terminated = rng.random((t, n)) < 0.2
    truncated = (rng.random((t, n)) < 0.2) & ~terminated
    for row in range(t - 1):  # inside an episode the next value is the value of the next row
        going = ~(terminated | truncated)[row]
        next_value[row, going] = value[row + 1, going]
    gamma, lam = np.array([0.9, 0.7], np.float32), np.array([0.8, 0.3], np.float32)
    lam_used = {"plain": 0 * lam, "vtrace": lam}.get(name, lam)
    advantage, target = np.zeros_like(reward), np.zeros_like(reward)
    trace, togo, v = np.zeros((n, k)), np.zeros((n, k)), np.zeros((n, k))
    for row in reversed(range(t)):
        alive, going = ~terminated[row, :, None], ~(terminated | truncated)[row, :, None]
        going = going & (row < t - 1)
        delta = reward[row] + gamma * alive * next_value[row] - value[row]
        following = np.where(going, v, next_value[row])
        trace = delta + gamma * lam_used * going * trace
        togo = reward[row] + gamma * np.where(going, togo, alive * next_value[row])
        v = value[row] + trace
        advantage[row] = reward[row] + gamma * alive * following - value[row] if name == "vtrace" else trace
        target[row] = {"gae": v, "vtrace": v}.get(name, togo)
    part = kinds("estimator")[name](gamma=0.9, cost_gamma=0.7, lam=0.8, cost_lam=0.3)
    built = part.build(EnvSpec(1, 1))
    out = built.estimate(built.init(), reward, value, next_value, terminated, truncated)
    np.testing.assert_allclose(out.advantage, advantage, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.target, target, rtol=1e-4, atol=1e-5)


def test_released_costs_are_discounted_like_rewards():
    part = estimators.GAE(gamma=0.5, cost_gamma=0.9)
    rows = [np.repeat(x, 2, axis=-1) for x in rollout()[:3]] + list(rollout()[3:])
    paper, released = (part.build(EnvSpec(1, 1), None, compat) for compat in ("paper", "omnisafe"))
    out = released.estimate(released.init(), *rows)
    np.testing.assert_array_equal(out.target[..., 0], out.target[..., 1])
    out = paper.estimate(paper.init(), *rows)
    assert not np.array_equal(out.target[..., 0], out.target[..., 1])


def test_mix_by_hand():
    """`w_r A_r - w_c A_c` of centred advantages, and what is scaled besides."""
    advantage = np.array([[1.0, 30.0], [3.0, 10.0], [5.0, 20.0]], np.float32)
    reward, cost = np.array([-2.0, 0, 2]), np.array([10.0, -10, 0])
    r, c = reward / np.sqrt(8 / 3), cost / np.sqrt(200 / 3)
    plain_mix = 0.75 * reward - 0.25 * cost
    expected = {
        "reward": (0.75 * r - 0.25 * cost, r, cost),
        "all": (0.75 * r - 0.25 * c, r, c),
        "none": (plain_mix, reward, cost),
        "mix": (plain_mix / plain_mix.std(), r, cost),
    }
    for how, (mixed, reward_part, cost_part) in expected.items():
        out = mix(jnp.asarray(advantage), 0.75, jnp.array([0.25]), how)
        np.testing.assert_allclose(out.advantage, mixed, rtol=1e-5, atol=1e-6, err_msg=how)
        np.testing.assert_allclose(out.reward, reward_part, rtol=1e-5, atol=1e-6, err_msg=how)
        np.testing.assert_allclose(out.cost[:, 0], cost_part, rtol=1e-5, atol=1e-6, err_msg=how)
    alone = mix(jnp.asarray(advantage[:, :1]), 1.0, jnp.zeros(2))
    assert alone.cost.shape == (3, 2)
    np.testing.assert_allclose(alone.advantage, r, rtol=1e-5, atol=1e-6)


def test_discounted_sum_with_initial_value():
    x = np.ones((3, 2), np.float32)
    assert discounted_sum(x, np.float32(0.5), np.full(2, 8.0, np.float32))[0] == pytest.approx([2.75, 2.75])


def test_wrong_shapes_are_refused():
    reward, value, next_value, terminated, truncated = rollout()
    with pytest.raises(AssertionError):
        gae(reward[..., 0], value[..., 0], next_value[..., 0], terminated, truncated, GAMMA, LAM)
    with pytest.raises(AssertionError):
        gae(reward, value, next_value, terminated[:2], truncated, GAMMA, LAM)
