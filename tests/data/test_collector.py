"""Collectors against environments that are stepped one by one in plain Python."""

import copy
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jsafe.data import RolloutCollector, SequenceCollector, make_collector
from jsafe.envs.toy import ToyEnv
from jsafe.types import CMDPTransform, ReplayData, RolloutData, TransformStep

REPLAY = ReplayData(
    num_envs=3, unroll=4, sequences=9, sequence_length=5, frame_stack=3, replay_rows=40, initial_rows=60, updates=1
)
ROLLOUT = RolloutData(num_envs=3, length=12)


def run(collector, learner, iterations, start=0):
    policy_state = learner.policy(learner.init(jax.random.key(5)))
    root = jax.random.key(1)
    return [collector.collect(policy_state, jax.random.fold_in(root, start + i)) for i in range(iterations)]


def plain_rows(seed, w, frames, steps):
    """Rows of one environment in the replay's convention, from a single ToyEnv and numpy only."""
    env = ToyEnv(1, seed, horizon=7, terminate_probability=0.1, act_dim=2, num_costs=2)
    obs = env.reset()[0]
    stack = [obs] * frames
    arrival = (0.0, np.zeros(2), 1.0, 0)
    rows = []
    for _ in range(steps):
        u = np.tanh(np.concatenate(stack) @ w)
        rows.append((stack[-1], u, *arrival))
        step = env.step(np.array([-1.0 + 4 * (u + 1) / 2]))
        reward, cost = step.reward[0], step.cost[0]
        if step.terminated[0] or step.truncated[0]:
            rows.append((step.final_obs[0], np.zeros(2), reward, cost, 0.0 if step.terminated[0] else 1.0, 2))
            arrival, stack = (0.0, np.zeros(2), 1.0, 0), [step.obs[0]] * frames
        else:
            arrival, stack = (reward, cost, 1.0, 1), [*stack[1:], step.obs[0]]
    return [np.array([np.concatenate([np.ravel(x) for x in row]) for row in rows]), rows]


def test_rows_equal_a_plain_reference(make_env, make_learner):
    env = make_env(3, 11)
    learner = make_learner(env, REPLAY)
    collector = make_collector(env, learner, seed=11)
    assert isinstance(collector, SequenceCollector)
    batches = run(collector, learner, 5)
    chunk = collector.journal()
    w = np.asarray(learner.init(jax.random.key(5))["w"], np.float64)
    at = np.cumsum(chunk["count"]) - chunk["count"]
    ends = np.zeros(2)
    totals = np.zeros(5)  # of finished episodes: return, costs, length, count
    for i in range(3):
        expected, rows = plain_rows(11 + i, w, 3, 20)
        assert chunk["count"][i] == len(rows)
        assert len(rows) > 20
        mine = slice(at[i], at[i] + len(rows))
        # Columns of `rows`: action (2), reward, cost (2), discount, kind, frames back to the episode's start.
        got = np.column_stack([chunk["obs"][mine], chunk["rows"][mine][:, :7]])
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)
        running = np.zeros(5)
        for row in rows:
            running[:4] += row[2], *row[3], row[5] != 0
            if row[5] == 2:
                ends[int(row[4])] += 1
                totals += np.array([*running[:4], 1])
                running[:] = 0
    assert (ends > 0).all(), "both a termination and a truncation have to occur"
    fresh_cost = sum(np.asarray(batch.fresh.total) for batch in batches)
    np.testing.assert_allclose(fresh_cost, chunk["rows"][:, 3:5].sum(0), rtol=1e-5)
    assert sum(batch.fresh.count for batch in batches) == len(chunk["rows"])
    assert collector.env_steps == 60
    finished = [
        np.sum([np.sum(getattr(b.episodes, name)) for b in batches]) for name in ("total_return", "length", "count")
    ]
    np.testing.assert_allclose(finished, totals[[0, 3, 4]], rtol=1e-5)
    np.testing.assert_allclose(sum(b.episodes.cost for b in batches), totals[1:3], rtol=1e-5)
    assert sum(b.episodes.count > 0 for b in batches) > 1


def test_the_replayed_observation_is_the_one_that_was_acted_on(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, REPLAY)
    collector = make_collector(env, learner)
    batch = run(collector, learner, 30)[-1]
    w = np.asarray(learner.init(jax.random.key(5))["w"])
    assert batch.learn
    assert batch.last.any()
    assert batch.first.any()
    acted = ~batch.last
    np.testing.assert_allclose(batch.action[acted], np.tanh(batch.obs @ w)[acted], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(batch.action[batch.last], 0)
    np.testing.assert_array_equal(batch.last[:-1], batch.first[1:])
    assert not batch.reward[batch.first].any()
    assert not batch.cost[batch.first].any()
    assert (batch.discount[~batch.last] == 1).all()


def test_learn_starts_when_the_replay_holds_enough(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, REPLAY)
    collector = make_collector(env, learner)
    flags = []
    for i in range(12):
        batch = run(collector, learner, 1, i)[0]
        flags.append(bool(batch.learn))
        assert batch.learn == (collector.replay.rows >= 60)
        assert batch.obs.shape == (5, 9, 3 * env.spec.obs_dim)
        assert batch.fresh.count >= 12
        if not batch.learn:
            assert not batch.obs.any()
            assert not batch.obs.flags.writeable
    assert not flags[0]
    assert flags[-1]


def test_shapes_do_not_depend_on_learn(make_env, make_learner):
    env = make_env()
    data = ReplayData(num_envs=3, unroll=10, sequences=6, sequence_length=2, replay_rows=50, initial_rows=40, updates=3)
    learner = make_learner(env, data)
    first, *_, last = run(make_collector(env, learner), learner, 3)
    assert (bool(first.learn), bool(last.learn)) == (False, True)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(last)):
        assert (np.shape(a), a.dtype) == (np.shape(b), b.dtype)
    assert last.obs.shape == (3, 2, 6, env.spec.obs_dim)
    assert last.first.shape == (3, 2, 6)


def test_random_steps_come_first(make_env, make_learner):
    env = make_env()
    data = ReplayData(num_envs=3, unroll=40, random_steps=240, replay_rows=500, initial_rows=1500, frame_stack=2)
    learner = make_learner(env, data)
    collector = make_collector(env, learner)
    policy_state = {"w": np.zeros((2 * env.spec.obs_dim, 2), np.float32)}  # always acts 0
    for i in range(3):
        collector.collect(policy_state, jax.random.key(i))
        rows = collector.journal()["rows"]
        action = rows[rows[:, 6] != 2, :2]
        if i < 2:
            assert np.abs(action.mean(0)).max() < 0.25
            assert np.abs(action.var(0) - 1 / 3).max() < 0.1
            assert (np.abs(action) <= 1).all()
        else:
            np.testing.assert_array_equal(action, 0)


def with_z(data):
    return RolloutData(data.num_envs, data.length, data.reset_each_epoch, BUDGET)


def budget_step(params, z, reward, cost, terminated, truncated):
    """Spends a budget; the episode ends when it is gone."""
    z_final = z - cost.sum(-1)
    terminated = terminated | (z_final < 0)
    z = np.where(terminated | truncated, params, z_final)
    return TransformStep(z, z_final, np.where(z_final < 0, -5.0, reward), terminated)


BUDGET = CMDPTransform(
    extra_obs=1,
    init=lambda params, n: np.full(n, params, np.float64),
    augment=lambda obs, z: np.concatenate([obs, np.asarray(z, np.float32)[..., None]], -1),
    step=budget_step,
)


class BudgetPolicy(NamedTuple):
    w: jax.Array
    transform: jax.Array


@pytest.mark.parametrize("reset_each_epoch", [False, True])
def test_rollout_equals_a_replay_of_its_actions(make_env, make_learner, reset_each_epoch):
    data = RolloutData(3, 12, reset_each_epoch)
    env, check = make_env(3, 4), make_env(3, 4)
    learner = make_learner(env, data, noise=0.5)
    collector = make_collector(env, learner)
    assert isinstance(collector, RolloutCollector)
    obs = check.reset()
    totals, running, lengths = [], np.zeros((3, 3)), np.zeros(3)
    for i in range(4):
        batch = run(collector, learner, 1, i)[0]
        if reset_each_epoch and i:
            obs, running, lengths = check.reset(), np.zeros((3, 3)), np.zeros(3)
        ended_here = []
        for t in range(12):
            np.testing.assert_array_equal(batch.obs[t], obs.astype(np.float32))
            step = check.step(-1.0 + 2 * (batch.action[t].astype(np.float64) + 1))
            np.testing.assert_allclose(batch.reward[t], step.reward, atol=1e-6)
            np.testing.assert_allclose(batch.cost[t], step.cost, atol=1e-6)
            np.testing.assert_allclose(batch.next_obs[t], step.final_obs, atol=1e-6)
            np.testing.assert_array_equal(batch.terminated[t], step.terminated)
            cut = reset_each_epoch and t == 11
            np.testing.assert_array_equal(batch.truncated[t], step.truncated | (cut & ~step.terminated))
            running += np.column_stack([step.reward, step.cost])
            lengths += 1
            for n in np.flatnonzero(step.terminated | step.truncated):
                ended_here.append([running[n].copy(), lengths[n]])
                running[n], lengths[n] = 0, 0
            obs = step.obs
        assert batch.episodes.count == len(ended_here)
        sums = sum((row for row, _ in ended_here), np.zeros(3))
        np.testing.assert_allclose(batch.episodes.total_return, sums[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.episodes.cost, sums[1:], rtol=1e-5)
        assert batch.episodes.length == sum(length for _, length in ended_here)
        totals += ended_here
        stats = collector.episodes()
        assert stats["episode/count"] == len(ended_here)
    returns, costs = np.array([row[0] for row, _ in totals]), np.array([row[1:] for row, _ in totals])
    lengths = np.array([length for _, length in totals])
    assert len(totals) < 100
    np.testing.assert_allclose(stats["episode/return"], returns.mean())
    np.testing.assert_allclose(stats["episode/cost"], costs.sum(1).mean())
    np.testing.assert_allclose(stats["episode/length"], lengths.mean())
    np.testing.assert_allclose(stats["episode/cost_rate"], costs.sum() / lengths.sum())
    assert collector.episodes()["episode/count"] == 0


def test_rollout_keeps_what_the_policy_said(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, ROLLOUT, noise=0.5)
    a, b = run(make_collector(env, learner), learner, 2)
    w = np.asarray(learner.init(jax.random.key(5))["w"])
    eps = (a.action - np.tanh(a.obs @ w)) / 0.5
    np.testing.assert_allclose(a.log_prob, -0.5 * (eps**2).sum(-1), rtol=1e-3, atol=1e-4)
    assert len(np.unique(eps.round(4))) == eps.size, "the noise repeats"
    for x, y in zip(a[:-1], b[:-1]):
        assert not x.flags.writeable
        assert not np.shares_memory(x, y)


def test_transform(make_env, make_learner):
    data = with_z(ROLLOUT)
    env = make_env()
    learner = make_learner(env, data, noise=0.5)
    collector = make_collector(env, learner)
    policy = BudgetPolicy(np.asarray(jax.random.normal(jax.random.key(0), (env.spec.obs_dim + 1, 2))), np.float32(6.0))
    z, elapsed = np.full(3, 6.0), np.zeros(3)
    early = both = 0
    for i in range(20):
        batch = collector.collect(policy, jax.random.key(i))
        for t in range(12):
            np.testing.assert_allclose(batch.obs[t, :, -1], z, atol=1e-5)
            np.testing.assert_allclose(batch.obs[t, :, 4] * 7, elapsed, atol=1e-5)
            z = z - batch.cost[t].sum(-1)
            elapsed += 1
            np.testing.assert_allclose(batch.next_obs[t, :, -1], z, atol=1e-5)
            np.testing.assert_allclose(batch.next_obs[t, :, 4] * 7, elapsed, atol=1e-5)
            assert batch.terminated[t][z < -1e-5].all()
            np.testing.assert_array_equal(batch.reward[t][z < -1e-5], -5)
            assert not (batch.terminated[t] & batch.truncated[t]).any()
            early += (z < -1e-5).sum()
            both += ((z < -1e-5) & (elapsed == 7)).sum()  # in the step that would have been truncated
            ended = batch.terminated[t] | batch.truncated[t]
            z, elapsed = np.where(ended, 6.0, z), np.where(ended, 0, elapsed)
        assert batch.episodes.count == (batch.terminated | batch.truncated).sum()
    assert early > 20
    assert both > 0


def resume_cases(make_env, make_learner):
    float16 = {"dtype": "float16", "random_steps": 30, "updates": 2}
    replay = {field: getattr(REPLAY, field) for field in REPLAY.__dataclass_fields__} | float16
    for data in (REPLAY, ReplayData(**replay), ROLLOUT, RolloutData(3, 12, True), with_z(ROLLOUT)):
        yield data, make_learner(make_env(), data, noise=0.5)


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("before", [0, 2, 30])
def test_resume_is_exact(make_env, make_learner, assert_equal, case, before):
    data, learner = list(resume_cases(make_env, make_learner))[case]
    if data.__class__ is RolloutData and data.transform:
        w = np.asarray(jax.random.normal(jax.random.key(0), (6, 2)))
        learner = learner._replace(policy=lambda state: BudgetPolicy(w, np.float32(2)))
    a = make_collector(make_env(), learner, seed=3)
    chunks = []
    for i in range(before):
        run(a, learner, 1, i)
        if i % 4 == 1:
            chunks.append(a.journal())
    if before:
        chunks.append(a.journal())
    chunks = [chunk for chunk in chunks if chunk is not None]
    chunks = chunks[len(chunks) - a.journal_keep() :]
    state = copy.deepcopy(a.state_dict())
    b = make_collector(make_env(seed=99), learner, seed=98)
    b.load_state_dict(state, journal=chunks)
    assert b.env_steps == a.env_steps
    for i in range(before, before + 9):
        assert_equal(run(a, learner, 1, i), run(b, learner, 1, i))
        if i == before + 4:
            assert a.journal_keep() == b.journal_keep()
            assert_equal(a.state_dict(), b.state_dict())
    assert_equal(a.episodes(), b.episodes())


def test_the_seed_decides_and_without_one_streams_continue(make_env, make_learner, assert_equal):
    learner = make_learner(make_env(), ROLLOUT)
    a = run(make_collector(make_env(seed=1), learner, seed=5), learner, 1)
    b = run(make_collector(make_env(seed=2), learner, seed=5), learner, 1)
    assert_equal(a, b)
    c = run(make_collector(make_env(seed=5), learner), learner, 1)
    assert_equal(a, c)
    d = run(make_collector(make_env(seed=6), learner), learner, 1)
    assert not np.array_equal(c[0].obs, d[0].obs)


def test_one_compilation(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, ROLLOUT)
    traces = []

    def act(*args):
        traces.append(None)
        return learner.act(*args)

    run(make_collector(env, learner._replace(act=act)), learner, 3)
    assert len(traces) == 1


def test_errors(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, ROLLOUT)
    with pytest.raises(ValueError, match=r"env\.num_envs is 2, but the learner's data asks for num_envs=3"):
        make_collector(make_env(2), learner)
    with pytest.raises(ValueError, match="num_costs of environment 'Toy-SpeedLimit-v0' is 1"):
        make_collector(make_env(num_costs=1), learner)
    with pytest.raises(ValueError, match="must be a ReplayData or a RolloutData"):
        make_collector(env, learner._replace(data=None))
    bad = {"sequences": 0, "replay_rows": 6, "initial_rows": 121, "dtype": "int8"}
    for name, value in bad.items():
        fields = {field: getattr(REPLAY, field) for field in REPLAY.__dataclass_fields__} | {name: value}
        with pytest.raises(ValueError, match=rf"{name}.*{value}"):
            make_collector(env, learner._replace(data=ReplayData(**fields)))
