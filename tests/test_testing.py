"""The toy tasks against their closed form, and the learner check against broken learners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.envs.toy import ToyEnv
from jsafe.testing import check_learner, random_batch
from jsafe.types import ActOutput, EnvSpec, Learner, ReplayData, RolloutBatch, RolloutData, SequenceBatch, env_spec


def constant_speed(env, speed, episodes):
    """Mean return, costs and number of finished episodes of the policy `u = g * speed[m]`."""
    m = np.arange(env.spec.act_dim) % env.spec.num_costs
    low, high = np.array(env.spec.action_low), np.array(env.spec.action_high)
    obs, total, count = env.reset(), np.zeros(1 + env.spec.num_costs), 0
    while count < episodes:
        u = obs[:, : env.spec.act_dim] * np.asarray(speed)[m]
        step = env.step(low + (u + 1) / 2 * (high - low))
        total += [step.reward.sum(), *step.cost.sum(0)]
        count += (step.terminated | step.truncated).sum()
        obs = step.obs
    return total[0] / count, total[1:] / count, count


@pytest.mark.parametrize("delay", [False, True])
def test_the_optimal_speed_has_the_promised_return_and_cost(delay):
    env = ToyEnv(50, act_dim=3, num_costs=2, horizon=10, terminate_probability=0.1, delay=delay)
    limit = np.array([1.0, 3.0])
    best = env.optimum(limit, episodic=True)
    value, cost, _ = constant_speed(env, best.speed, 20_000)
    assert abs(value / (best.reward * env.paid_actions()) - 1) < 0.02
    np.testing.assert_allclose(cost, limit, rtol=0.03)


def test_the_optimum_is_the_best_of_a_grid():
    """Lagrangian duality by brute force over constant speeds; the task's own rewards are used."""
    env = ToyEnv(201, act_dim=1, horizon=1000)
    speed = np.linspace(-1, 1, 201)
    obs = env.reset()
    step = env.step(-1 + 2 * (obs[:, :1] * speed[:, None] + 1))
    for limit in (0.09, 0.25, 0.64, 2.0):
        best = env.optimum(limit)
        feasible = step.cost[:, 0] <= limit + 1e-9
        i = np.argmax(np.where(feasible, step.reward, -np.inf))
        np.testing.assert_allclose([step.reward[i], speed[i]], [best.reward, best.speed[0]], atol=1e-9)
        lagrangian = step.reward - best.multiplier[0] * step.cost[:, 0]
        assert np.argmax(lagrangian) == i


@pytest.mark.parametrize("form", ["quadratic", "indicator"])
def test_the_multiplier_is_the_slope_of_the_best_reward(form):
    env = ToyEnv(1, act_dim=4, num_costs=2, cost_form=form)
    limit = np.array([0.3, 0.7])
    for m in range(2):
        up, down = limit.copy(), limit.copy()
        up[m] += 1e-5
        down[m] -= 1e-5
        slope = (env.optimum(up).reward - env.optimum(down).reward) / 2e-5
        np.testing.assert_allclose(env.optimum(limit).multiplier[m], slope, rtol=1e-6)
    np.testing.assert_array_equal(env.optimum(1.5).multiplier, 0)


def test_indicator_cost_counts_fast_steps():
    env = ToyEnv(3, act_dim=1, cost_form="indicator")
    g = env.reset()[:, :1]
    step = env.step(-1 + 2 * (g * np.array([[0.5], [0.51], [1.0]]) + 1))
    np.testing.assert_array_equal(step.cost[:, 0], [0, 1, 1])


def test_value_of_a_constant_reward():
    env = ToyEnv(1, terminate_probability=0.2)
    np.testing.assert_allclose(env.value(3.0, 0.9), sum(3.0 * (0.9 * 0.8) ** t for t in range(200)))


def test_streams_do_not_depend_on_the_other_environments():
    options = {"act_dim": 2, "num_costs": 2, "horizon": 5, "terminate_probability": 0.2, "delay": True}
    many, two = ToyEnv(6, 10, **options), ToyEnv(2, 13, **options)
    np.testing.assert_array_equal(many.reset()[3:5], two.reset())
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(40):
        actions = rng.uniform(-2, 4, (6, 2))
        a, b = many.step(actions), two.step(actions[3:5])
        for x, y in zip(a[:-1], b[:-1]):
            np.testing.assert_array_equal(x[3:5], y)
        ended = a.terminated | a.truncated
        np.testing.assert_array_equal(a.obs[~ended], a.final_obs[~ended])
        assert (a.obs[ended, 4] == 0).all()
        assert (a.final_obs[:, 4] > 0).all()
        np.testing.assert_array_equal(a.truncated, (a.final_obs[:, 4] == 1) & ~a.terminated)
        ends += ended.sum()
    assert ends > 40
    assert len(np.unique(many.reset(seed=0), axis=0)) == 6


def test_state_restores_exactly_and_masked_reset_leaves_the_others():
    env = ToyEnv(4, 1, terminate_probability=0.2)
    env.reset()
    for _ in range(5):
        env.step(np.zeros((4, 1)))
    state = env.state_dict()
    a = [env.step(np.ones((4, 1))) for _ in range(5)]
    other = ToyEnv(4, 77, terminate_probability=0.2)
    other.load_state_dict(state)
    b = [other.step(np.ones((4, 1))) for _ in range(5)]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(x, y)
    before = other.step(np.ones((4, 1))).obs
    after = other.reset(mask=np.array([False, True, False, False]))
    np.testing.assert_array_equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert after[1, 2] == 0
    assert (after[1] != before[1]).any()


def test_toy_errors():
    cases = [
        ({"num_costs": 2}, "num_costs must be at most act_dim = 1, got 2"),
        ({"terminate_probability": 1.0}, "terminate_probability"),
        ({"cost_form": "cubic"}, "cubic"),
        ({"horizon": 1, "delay": True}, "horizon must be at least 2"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"seed": -1}, "seed"),
        ({"action_scale": 0.0}, "action_scale"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            ToyEnv(**options)
    env = ToyEnv(2)
    with pytest.raises(ValueError, match="before reset"):
        env.step(np.zeros((2, 1)))
    env.reset()
    for bad in (np.zeros((2, 2)), np.zeros((2, 1), bool), np.full((2, 1), np.nan)):
        with pytest.raises(ValueError, match="actions must be"):
            env.step(bad)
    with pytest.raises(ValueError, match="this one has 2"):
        env.load_state_dict(ToyEnv(3).state_dict())
    with pytest.raises(ValueError, match="limit must be positive"):
        env.optimum(0.0)


SPEC = EnvSpec(obs_dim=4, act_dim=2, num_costs=2, horizon=20)
REPLAY = ReplayData(num_envs=2, unroll=5, sequences=64, sequence_length=6, frame_stack=2, updates=2)
ROLLOUT = RolloutData(num_envs=4, length=50)


def learner_of(data, **changes):
    width = SPEC.obs_dim * getattr(data, "frame_stack", 1)

    def init(key):
        return {"w": jax.random.normal(key, (width, 2)), "target": jnp.zeros((width, 2))}

    def update(state, batch, key):
        w = state["w"] + 0.01 * batch.reward.mean() + 0.01 * jax.random.normal(key, state["w"].shape)
        return {"w": w, "target": 0.9 * state["target"] + 0.1 * w}, {"loss/w": (w**2).mean()}

    def act(w, obs, key, deterministic):
        eps = jnp.where(deterministic, 0, 1) * jax.random.normal(key, (obs.shape[0], 2))
        return ActOutput(obs @ w + eps, -(eps**2).sum(-1), {})

    return Learner(init, update, act, lambda state: state["w"], None, data, SPEC)._replace(**changes)


def test_random_sequences_are_valid():
    batch = random_batch(learner_of(REPLAY), jax.random.key(0))
    assert isinstance(batch, SequenceBatch)
    assert batch.obs.shape == (2, 6, 64, 8)
    np.testing.assert_array_equal(batch.last[:, :-1], batch.first[:, 1:])
    assert not (batch.first & batch.last).any()
    assert batch.first[:, 0].any()
    assert batch.last.any()
    assert not batch.reward[batch.first].any()
    assert not batch.cost[batch.first].any()
    assert set(batch.discount[batch.last]) == {0, 1}
    assert (batch.discount[~batch.last] == 1).all()
    assert batch.fresh.count == 10


def test_random_rollouts_are_valid():
    learner = learner_of(ROLLOUT)
    batch, again = (random_batch(learner, jax.random.key(0)) for _ in range(2))
    assert isinstance(batch, RolloutBatch)
    np.testing.assert_array_equal(batch.obs, again.obs)
    assert not np.array_equal(batch.obs, random_batch(learner, jax.random.key(1)).obs)
    assert batch.action.shape == (50, 4, 2)
    assert batch.episodes.count == (batch.terminated | batch.truncated).sum()
    assert not (batch.terminated & batch.truncated).any()
    assert batch.episodes.cost.shape == (2,)


@pytest.mark.parametrize("data", [REPLAY, ROLLOUT])
def test_check_accepts_a_good_learner(data):
    state, metrics = check_learner(learner_of(data), jax.random.key(0))
    assert set(state) == {"w", "target"}
    assert list(metrics) == ["loss/w"]


def test_check_rejects_broken_learners():
    good = learner_of(ROLLOUT)

    def update_with(change, metrics=None):
        def update(state, batch, key):
            state, good_metrics = good.update(state, batch, key)
            return change(state), good_metrics if metrics is None else metrics(good_metrics)

        return good._replace(update=update)

    def aliased(key):
        w = good.init(key)["w"]
        return {"w": w, "target": w}

    def random_mode(w, obs, key, deterministic):
        return good.act(w, obs, key, False)

    def column_log_prob(*args):
        out = good.act(*args)
        return out._replace(log_prob=out.log_prob[:, None])

    broken = [
        (update_with(lambda s: {**s, "target": s["w"].astype(jnp.bfloat16)}), "changed the tree"),
        (update_with(lambda s: {**s, "more": s["w"]}), "changed the tree"),
        (update_with(lambda s: {**s, "w": s["w"] / 0}), "state.*not finite"),
        (update_with(lambda s: s, lambda m: {"loss/w": jnp.nan}), "metrics.*not finite"),
        (update_with(lambda s: s, lambda m: {"loss": m["loss/w"]}), "group/name"),
        (update_with(lambda s: s, lambda m: {"loss/w": jnp.ones(2)}), "must be a scalar"),
        (good._replace(init=aliased), "share a buffer"),
        (good._replace(act=random_mode), "depends on the key"),
        (good._replace(act=column_log_prob), "log_prob has shape"),
    ]
    for learner, message in broken:
        with pytest.raises(AssertionError, match=message):
            check_learner(learner, jax.random.key(0))


def test_env_spec():
    assert env_spec(ToyEnv(1, act_dim=2, horizon=9)) == EnvSpec(obs_dim=5, act_dim=2, num_costs=1, horizon=9)
