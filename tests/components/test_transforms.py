"""Saute, Simmer and early termination against scalar simulations, on numpy and on jax arrays."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.components import transforms
from jsafe.components.transforms.early_termination import TerminationParams
from jsafe.types import EnvSpec

HORIZON = 100
LIMIT = jnp.array([25.0])
BUDGET = 25.0 * (1 - 0.99**HORIZON) / 0.01 / HORIZON
BUDGETS = {"gamma": 0.99, "unsafe_reward": -0.5}


def build(part, num_costs=1, compat="paper", **options):
    return part(**options).build(EnvSpec(3, 1, num_costs=num_costs, horizon=HORIZON), None, compat)


def numpy_params(transform, state=None):
    """Params as a host collector has them."""
    params = transform.params(transform.init(LIMIT) if state is None else state, LIMIT)
    return type(params)(*map(np.asarray, params))


@pytest.mark.parametrize("xp", [np, jnp])
def test_saute_against_a_scalar_simulation(xp):
    transform = build(transforms.Saute, **BUDGETS)
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
    transform = build(transforms.Saute, 2, **BUDGETS)
    limit = jnp.array([25.0, 1.0])
    params = transform.params(transform.init(limit), limit)
    z = np.ones((2, 2), np.float32)
    cost = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)  # the second budget is worth less than one cost
    step = transform.data.step(params, z, np.ones(2, np.float32), cost, np.zeros(2, bool), np.zeros(2, bool))
    assert step.reward.tolist() == [1.0, -0.5]
    assert transform.data.extra_obs == 2


@pytest.mark.parametrize("compat", ["paper", "omnisafe"])
def test_truncated_steps_bootstrap_from_the_budget_that_is_left(compat):
    """OmniSafe shows a full budget beside the final observation, and takes 1000 steps for every horizon."""
    transform = build(transforms.Saute, compat=compat, **BUDGETS)
    params = numpy_params(transform)
    horizon = 1000 if compat == "omnisafe" else HORIZON
    worth = 25.0 * (1 - 0.99**horizon) / 0.01 / horizon
    assert params.budget == pytest.approx([worth], rel=1e-4)
    z, ones, no = np.full((2, 1), 0.5, np.float32), np.ones(2, np.float32), np.zeros(2, bool)
    step = transform.data.step(params, z, ones, np.ones((2, 1), np.float32), no, np.array([True, False]))
    left = (0.5 - 1 / worth) / 0.99
    assert step.z_final[:, 0] == pytest.approx([1.0 if compat == "omnisafe" else left, left], rel=1e-4)
    assert step.z[:, 0] == pytest.approx([1.0, left], rel=1e-4)
    assert step.reward.tolist() == ([-0.5, -0.5] if left <= 0 else [1, 1])


@pytest.mark.parametrize("compat", ["paper", "omnisafe"])
def test_simmer_controller_against_a_scalar_simulation(compat):
    kp, ki, kd, polyak = 0.3, 0.05, 0.2, 0.7
    transform = build(transforms.Simmer, compat=compat, kp=kp, ki=ki, kd=kd, polyak=polyak, window=3, **BUDGETS)
    state = transform.init(LIMIT)
    horizon = 1000 if compat == "omnisafe" else HORIZON
    upper = 25.0 * (1 - 0.99**horizon) / 0.01 / horizon
    scale = upper / 25.0
    budget, errors, action, raw = upper, [0.0], 0.0, 0.0
    moved, bounded = set(), 0
    for cost in [0.0, 10.0, 30.0, 60.0, 90.0, 90.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0]:
        state = transform.update(state, jnp.array([cost]), LIMIT)
        errors.append(polyak * errors[-1] + (1 - polyak) * (budget - cost * scale))
        raw = kp * errors[-1] + ki * sum(errors[1:][-3:]) + kd * (action - raw)
        clipped = min(max(raw, -1.0), 1.0)
        moved |= {clipped, raw > clipped, raw < clipped}
        after = min(max(budget + clipped, 1e-6), upper)
        # The paper's anti-windup knows what the budget was moved by; the released one ignores the budget's bounds.
        action = clipped if compat == "omnisafe" else after - budget
        bounded += after - budget != pytest.approx(clipped, abs=1e-6)
        budget = after
        assert state.budget == pytest.approx([budget], rel=1e-4)
        assert transform.metrics(state)["cost/0/budget"] == state.budget[0]
    assert {-1.0, True} <= moved if compat == "paper" else moved
    assert bounded
    assert budget < upper


def test_simmer_episodes_start_at_the_budget():
    shared = {"reward": np.ones(1, np.float32), "cost": np.ones((1, 1), np.float32), "terminated": np.zeros(1, bool)}
    for compat in ("paper", "omnisafe"):
        transform = build(transforms.Simmer, compat=compat, **BUDGETS)
        full = transform.init(LIMIT)
        upper = float(full.budget[0])
        params = numpy_params(transform, full._replace(budget=0.25 * full.budget))
        z = transform.data.init(params, 1)
        assert z[0, 0] == pytest.approx(0.25, rel=1e-5)
        step = transform.data.step(params, z, truncated=np.zeros(1, bool), **shared)
        worth = upper if compat == "paper" else 0.25 * upper
        assert step.z_final[0, 0] == pytest.approx((0.25 - 1 / worth) / 0.99, rel=1e-4)
        step = transform.data.step(params, z, truncated=np.ones(1, bool), **shared)
        assert step.z[0, 0] == pytest.approx(0.25 if compat == "paper" else 1.0, rel=1e-5)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(costs=st.lists(st.integers(0, 3), min_size=1, max_size=60), gamma=st.floats(0.9, 1.0))
def test_a_budget_is_used_up_where_its_discounted_cost_is(costs, gamma):
    """`z_t gamma^t = 1 - sum gamma^k c_k / budget`: the reward is replaced exactly beyond that."""
    transform = build(transforms.Saute, gamma=gamma, unsafe_reward=-0.5)
    params = numpy_params(transform)
    z, spent = transform.data.init(params, 1), 0.0
    for t, cost in enumerate(costs):
        no = np.zeros(1, bool)
        step = transform.data.step(params, z, np.ones(1, np.float32), np.full((1, 1), cost, np.float32), no, no)
        z = step.z
        spent += gamma**t * cost / float(params.budget[0])
        if abs(1 - spent) > 1e-3:
            assert step.reward[0] == (1.0 if spent < 1 else -0.5)


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(costs=st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=12), limit=st.floats(0.5, 100))
@pytest.mark.parametrize("compat", ["paper", "omnisafe"])
def test_a_moved_budget_stays_within_its_bounds(compat, costs, limit):
    """Whatever the controller measures: above nothing, at most the limit; an episode starts with that share."""
    transform = build(transforms.Simmer, compat=compat, **(BUDGETS | {"kp": 0.5, "ki": 0.1, "kd": 0.1}))
    limits = jnp.array([limit], jnp.float32)
    state, update = transform.init(limits), jax.jit(transform.update)
    upper, before = float(state.budget[0]), float(state.budget[0])
    for cost in costs:
        state = update(state, jnp.array([cost], jnp.float32), limits)
        budget = float(state.budget[0])
        assert 0 < budget <= upper * (1 + 1e-6)
        assert abs(budget - before) <= 1 + 1e-5
        assert float(transform.params(state, limits).start[0]) == pytest.approx(budget / upper, rel=1e-5)
        before = budget


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=40),
    limit=st.integers(0, 12),
)
def test_an_episode_ends_where_its_own_cost_exceeds_the_limit(steps, limit):
    transform = build(transforms.EarlyTermination)
    params, z, spent = TerminationParams(np.array([limit], np.float32)), None, 0
    z = transform.data.init(params, 1)
    for cost, terminated, truncated in steps:
        spent += cost
        ends = np.array([terminated]), np.array([truncated])
        step = transform.data.step(params, z, np.ones(1, np.float32), np.full((1, 1), cost, np.float32), *ends)
        assert bool(step.terminated[0]) == (terminated or spent > limit)
        assert step.reward[0] == (0 if spent > limit else 1)
        spent = 0 if terminated or truncated or spent > limit else spent
        z = step.z
        assert z[0, 0] == spent


@pytest.mark.parametrize("omnisafe", [False, True])
def test_early_termination_counts_within_an_episode(omnisafe):
    transform = build(transforms.EarlyTermination, compat="omnisafe" if omnisafe else "paper")
    params = TerminationParams(np.array([2.0], np.float32))
    assert transform.params((), LIMIT).limit == 25.0
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
    transform = transforms.Identity().build(EnvSpec(3, 1))
    assert transform.data is None
    assert transform.params(transform.init(LIMIT), LIMIT) == ()
