"""Saute, Simmer and early termination against scalar simulations, on numpy and on jax arrays."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.components import transforms

HYPER = SimpleNamespace(cost_limit=jnp.array([25.0]), saute_gamma=jnp.float32(0.99), unsafe_reward=jnp.float32(-0.5))
HORIZON = 100
BUDGET = 25.0 * (1 - 0.99**HORIZON) / 0.01 / HORIZON


def numpy_params(transform, state=()):
    """Params as a host collector has them."""
    params = transform.params(state, HYPER)
    return type(params)(*map(np.asarray, params))


@pytest.mark.parametrize("xp", [np, jnp])
def test_saute_against_a_scalar_simulation(xp):
    transform = transforms.saute(1, HORIZON)
    params = numpy_params(transform)
    assert params.budget == pytest.approx([BUDGET], rel=1e-5)
    rng = np.random.default_rng(0)
    n, steps = 3, 60
    cost = (rng.random((steps, n, 1)) < 0.9).astype(np.float32)
    terminated, truncated = rng.random((2, steps, n)) < 0.01
    reward = rng.standard_normal((steps, n)).astype(np.float32)
    z = xp.asarray(transform.data.init(params, n))
    expected = np.ones(n)
    unsafe = 0
    for t in range(steps):
        args = map(xp.asarray, (reward[t], cost[t], terminated[t], truncated[t]))
        step = transform.data.step(params, z, *args)
        assert isinstance(step.reward, type(z))
        for i in range(n):
            left = (expected[i] - cost[t, i, 0] / BUDGET) / 0.99
            assert float(step.z_final[i, 0]) == pytest.approx(left, rel=1e-4, abs=1e-4)
            assert float(step.reward[i]) == pytest.approx(reward[t, i] if left > 0 else -0.5)
            unsafe += left <= 0
            expected[i] = 1.0 if terminated[t, i] or truncated[t, i] else left
        z = step.z
        np.testing.assert_allclose(np.asarray(z)[:, 0], expected, rtol=1e-4, atol=1e-4)
        assert np.array_equal(step.terminated, terminated[t])
    assert unsafe > 10
    obs = xp.ones((n, 4), np.float32)
    seen = transform.data.augment(obs, z)
    assert seen.shape == (n, 5)
    np.testing.assert_array_equal(seen[:, 4:], z)


def test_saute_with_several_costs_needs_all_budgets():
    transform = transforms.saute(2, HORIZON)
    hyper = SimpleNamespace(**{**vars(HYPER), "cost_limit": jnp.array([25.0, 1.0])})
    params = transform.params((), hyper)
    z = np.ones((2, 2), np.float32)
    cost = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)  # the second budget is worth less than one cost
    step = transform.data.step(params, z, np.ones(2, np.float32), cost, np.zeros(2, bool), np.zeros(2, bool))
    assert step.reward.tolist() == [1.0, -0.5]
    assert transform.data.extra_obs == 2


def test_simmer_controller_against_a_scalar_simulation():
    kp, ki, kd, polyak = 0.3, 0.05, 0.2, 0.7
    transform = transforms.simmer(1, HORIZON, kp=kp, ki=ki, kd=kd, polyak=polyak, window=3)
    state = transform.init(HYPER)
    scale = BUDGET / 25.0
    budget, errors, action, raw = BUDGET, [0.0], 0.0, 0.0
    moved = set()
    for cost in [30.0, 60.0, 90.0, 90.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0]:
        state = transform.update(state, jnp.array([cost]), HYPER)
        errors.append(polyak * errors[-1] + (1 - polyak) * (budget - cost * scale))
        raw = kp * errors[-1] + ki * sum(errors[1:][-3:]) + kd * (action - raw)
        action = min(max(raw, -1.0), 1.0)
        moved |= {action, raw > action, raw < action}
        budget = min(max(budget + action, 1e-6), BUDGET)
        assert state.budget == pytest.approx([budget], rel=1e-4)
    assert {-1.0, True} <= moved
    assert budget < BUDGET


def test_simmer_episodes_start_at_the_budget():
    start = transforms.SimmerState(*[jnp.array([0.25 * BUDGET])] + [jnp.zeros((1, 1))] + [jnp.zeros(1)] * 2)
    shared = {"reward": np.ones(1, np.float32), "cost": np.ones((1, 1), np.float32), "terminated": np.zeros(1, bool)}
    paper, released = transforms.simmer(1, HORIZON), transforms.simmer(1, HORIZON, omnisafe=True)
    for transform, worth, refill in ((paper, BUDGET, 0.25), (released, 0.25 * BUDGET, 1.0)):
        params = numpy_params(transform, start)
        z = transform.data.init(params, 1)
        assert z[0, 0] == pytest.approx(0.25, rel=1e-5)
        step = transform.data.step(params, z, truncated=np.ones(1, bool), **shared)
        assert step.z_final[0, 0] == pytest.approx((0.25 - 1 / worth) / 0.99, rel=1e-4)
        assert step.z[0, 0] == pytest.approx(refill, rel=1e-5)


@pytest.mark.parametrize("omnisafe", [False, True])
def test_early_termination_counts_within_an_episode(omnisafe):
    transform = transforms.early_termination(1, omnisafe=omnisafe)
    params = transforms.TerminationParams(np.array([2.0], np.float32))
    cost = [1, 1, 0, 1, 1, 1, 1, 1]
    truncated = [0, 0, 0, 0, 0, 1, 0, 0]
    z = transform.data.init(params, 1)
    ends, count = [], 0
    for c, cut in zip(cost, truncated):
        step = transform.data.step(
            params, z, np.ones(1, np.float32), np.array([[c]], np.float32), np.zeros(1, bool), np.array([cut], bool)
        )
        count += c
        over = count > 2
        assert step.z_final[0, 0] == count
        assert bool(step.terminated[0]) == over
        assert step.reward[0] == (0 if over else 1)
        # The paper's counter belongs to the episode; OmniSafe's is cleared where the limit is crossed alone.
        count = 0 if over or (cut and not omnisafe) else count
        ends.append(over)
        z = step.z
    assert ends == ([0, 0, 0, 1, 0, 0, 1, 0] if omnisafe else [0, 0, 0, 1, 0, 0, 0, 0])
    assert transform.data.augment(np.ones((1, 3)), z).shape == (1, 3)


def test_identity_has_no_data():
    transform = transforms.identity()
    assert transform.data is None
    assert transform.params(transform.init(HYPER), HYPER) == ()
