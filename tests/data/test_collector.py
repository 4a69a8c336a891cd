"""Collectors against environments that are stepped one by one in plain Python."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from jsafe.data import ReplayCollector, RolloutCollector, make_collector
from jsafe.envs.toy import ToyEnv
from jsafe.feeds import Replay, Rollouts
from jsafe.types import CMDPTransform, PolicyState, TransformStep

REPLAY = Replay(
    num_envs=3, unroll=4, sequences=9, sequence_length=5, frame_stack=3, replay_rows=40, initial_rows=60, updates=1
)
ROLLOUT = Rollouts(num_envs=3, length=12)


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
    assert isinstance(collector, ReplayCollector)
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
    fresh = [batch.measured.rows for batch in batches]
    # The costs of the last step are known, but the rows that they belong to are not in the replay yet.
    pending = collector.state_dict()["arrival"][:, 3:].sum(0)
    np.testing.assert_allclose(sum(f.total for f in fresh), chunk["rows"][:, 3:5].sum(0) + pending, rtol=1e-5)
    assert sum(f.count for f in fresh) == 60
    assert collector.env_steps == collector.progress == 60
    episodes = [batch.measured.episodes for batch in batches]
    finished = [np.sum([getattr(e, name) for e in episodes]) for name in ("total_return", "length", "count")]
    np.testing.assert_allclose(finished, totals[[0, 3, 4]], rtol=1e-5)
    np.testing.assert_allclose(sum(e.cost for e in episodes), totals[1:3], rtol=1e-5)
    assert sum(e.count > 0 for e in episodes) > 1


def test_the_replayed_observation_is_the_one_that_was_acted_on(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, REPLAY)
    collector = make_collector(env, learner)
    batch = run(collector, learner, 30)[-1]
    w = np.asarray(learner.init(jax.random.key(5))["w"])
    steps = batch.steps
    assert batch.ready
    last = steps.weight == 0
    assert last.any()
    np.testing.assert_allclose(steps.action[~last], np.tanh(steps.obs @ w)[~last], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(steps.action[last], 0)
    ended = steps.terminated | steps.truncated
    np.testing.assert_array_equal(ended[:-1], last[1:])
    assert not ended[-1].any()
    for value in (steps.reward, steps.cost):
        assert not value[last].any()
        assert not value[-1].any()
    # What a row says of the action is what the environment did: reward and cost depend on nothing but direction and u.
    seen = ~last & (np.arange(5)[:, None] < 4)
    v = steps.obs[..., -5:-3] * np.clip(steps.action, -1, 1)
    np.testing.assert_allclose(steps.reward[seen], v.mean(-1)[seen], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(steps.cost[seen], (v**2)[seen], rtol=1e-4, atol=1e-5)


def test_ready_when_the_replay_holds_enough(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, REPLAY)
    collector = make_collector(env, learner)
    flags = []
    for i in range(12):
        batch = run(collector, learner, 1, i)[0]
        flags.append(bool(batch.ready))
        assert batch.ready == (collector.replay.rows >= 60)
        assert batch.steps.obs.shape == (5, 9, 3 * env.spec.obs_dim)
        assert batch.measured.rows.count == 12
        if not batch.ready:
            assert not any(leaf.any() for leaf in jax.tree.leaves(batch.steps))
            assert not batch.steps.obs.flags.writeable
    assert not flags[0]
    assert flags[-1]


def test_shapes_do_not_depend_on_ready(make_env, make_learner):
    env = make_env()
    feed = Replay(num_envs=3, unroll=10, sequences=6, sequence_length=2, replay_rows=50, initial_rows=40, updates=3)
    learner = make_learner(env, feed)
    first, *_, last = run(make_collector(env, learner), learner, 3)
    assert (bool(first.ready), bool(last.ready)) == (False, True)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(last)):
        assert (np.shape(a), a.dtype) == (np.shape(b), b.dtype)
    assert last.steps.obs.shape == (3, 2, 6, env.spec.obs_dim)
    assert last.steps.weight.shape == (3, 2, 6)


def test_random_steps_come_first(make_env, make_learner):
    env = make_env()
    feed = Replay(num_envs=3, unroll=40, random_steps=240, replay_rows=500, initial_rows=1500, frame_stack=2)
    learner = make_learner(env, feed)
    collector = make_collector(env, learner)
    policy_state = PolicyState(np.zeros((2 * env.spec.obs_dim, 2), np.float32))  # always acts 0
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


def with_z(feed):
    return Rollouts(feed.num_envs, feed.length, feed.reset_each_epoch, BUDGET)


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


@pytest.mark.parametrize("reset_each_epoch", [False, True])
def test_rollout_equals_a_replay_of_its_actions(make_env, make_learner, reset_each_epoch):
    feed = Rollouts(3, 12, reset_each_epoch)
    env, check = make_env(3, 4), make_env(3, 4)
    learner = make_learner(env, feed, noise=0.5)
    collector = make_collector(env, learner)
    assert isinstance(collector, RolloutCollector)
    obs = check.reset()
    totals, running, lengths = [], np.zeros((3, 3)), np.zeros(3)
    for i in range(4):
        batch = run(collector, learner, 1, i)[0]
        if reset_each_epoch and i:
            obs, running, lengths = check.reset(), np.zeros((3, 3)), np.zeros(3)
        ended_here = []
        steps, episodes = batch.steps, batch.measured.episodes
        for t in range(12):
            np.testing.assert_array_equal(steps.obs[t], obs.astype(np.float32))
            step = check.step(-1.0 + 2 * (steps.action[t].astype(np.float64) + 1))
            np.testing.assert_allclose(steps.reward[t], step.reward, atol=1e-6)
            np.testing.assert_allclose(steps.cost[t], step.cost, atol=1e-6)
            np.testing.assert_allclose(steps.next_obs[t], step.final_obs, atol=1e-6)
            np.testing.assert_array_equal(steps.terminated[t], step.terminated)
            cut = reset_each_epoch and t == 11
            np.testing.assert_array_equal(steps.truncated[t], step.truncated | (cut & ~step.terminated))
            running += np.column_stack([step.reward, step.cost])
            lengths += 1
            for n in np.flatnonzero(step.terminated | step.truncated):
                ended_here.append([running[n].copy(), lengths[n]])
                running[n], lengths[n] = 0, 0
            obs = step.obs
        assert episodes.count == len(ended_here)
        assert batch.measured.rows.count == 36
        np.testing.assert_allclose(batch.measured.rows.total, steps.cost.sum((0, 1)), rtol=1e-6)
        sums = sum((row for row, _ in ended_here), np.zeros(3))
        np.testing.assert_allclose(episodes.total_return, sums[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(episodes.cost, sums[1:], rtol=1e-5)
        assert episodes.length == sum(length for _, length in ended_here)
        totals += ended_here
        stats = collector.episodes()
        assert stats["episode/count"] == len(ended_here)
    returns, costs = np.array([row[0] for row, _ in totals]), np.array([row[1:] for row, _ in totals])
    lengths = np.array([length for _, length in totals])
    assert len(totals) < 100
    np.testing.assert_allclose(stats["episode/return"], returns.mean())
    for i, cost in enumerate(costs.T):
        np.testing.assert_allclose(stats[f"episode/cost/{i}"], cost.mean())
        np.testing.assert_allclose(stats[f"episode/cost_rate/{i}"], cost.sum() / lengths.sum())
    np.testing.assert_allclose(stats["episode/length"], lengths.mean())
    assert stats["episode/window"] == len(totals)
    assert collector.episodes()["episode/count"] == 0


def test_rollout_keeps_what_the_policy_said(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, ROLLOUT, noise=0.5)
    a, b = (batch.steps for batch in run(make_collector(env, learner), learner, 2))
    w = np.asarray(learner.init(jax.random.key(5))["w"])
    eps = (a.action - np.tanh(a.obs @ w)) / 0.5
    assert (np.abs(a.action) > 1).any(), "what the policy said is kept, not what the environment made of it"
    np.testing.assert_allclose(a.extras["log_prob"], -0.5 * (eps**2).sum(-1), rtol=1e-3, atol=1e-4)
    assert len(np.unique(eps.round(4))) == eps.size, "the noise repeats"
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert not x.flags.writeable
        assert not np.shares_memory(x, y)


def test_transform(make_env, make_learner):
    feed = with_z(ROLLOUT)
    env = make_env()
    learner = make_learner(env, feed, noise=0.5)
    collector = make_collector(env, learner)
    w = np.asarray(jax.random.normal(jax.random.key(0), (env.spec.obs_dim + 1, 2)))
    policy = PolicyState(w, transform=np.float32(6.0))
    z, elapsed = np.full(3, 6.0), np.zeros(3)
    early = both = 0
    for i in range(20):
        batch = collector.collect(policy, jax.random.key(i))
        steps = batch.steps
        for t in range(12):
            np.testing.assert_allclose(steps.obs[t, :, -1], z, atol=1e-5)
            np.testing.assert_allclose(steps.obs[t, :, 4] * 7, elapsed, atol=1e-5)
            z = z - steps.cost[t].sum(-1)
            elapsed += 1
            np.testing.assert_allclose(steps.next_obs[t, :, -1], z, atol=1e-5)
            np.testing.assert_allclose(steps.next_obs[t, :, 4] * 7, elapsed, atol=1e-5)
            assert steps.terminated[t][z < -1e-5].all()
            np.testing.assert_array_equal(steps.reward[t][z < -1e-5], -5)
            assert not (steps.terminated[t] & steps.truncated[t]).any()
            early += (z < -1e-5).sum()
            both += ((z < -1e-5) & (elapsed == 7)).sum()  # in the step that would have been truncated
            ended = steps.terminated[t] | steps.truncated[t]
            z, elapsed = np.where(ended, 6.0, z), np.where(ended, 0, elapsed)
        assert batch.measured.episodes.count == (steps.terminated | steps.truncated).sum()
    assert early > 20
    assert both > 0


def resume_cases(make_env, make_learner):
    float16 = dataclasses.replace(REPLAY, dtype="float16", random_steps=30, updates=2)
    for feed in (REPLAY, float16, ROLLOUT, Rollouts(3, 12, True), with_z(ROLLOUT)):
        yield feed, make_learner(make_env(), feed, noise=0.5)


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("before", [0, 2, 30])
def test_resume_is_exact(make_env, make_learner, assert_equal, case, before):
    feed, learner = list(resume_cases(make_env, make_learner))[case]
    if getattr(feed, "transform", None):
        w = np.asarray(jax.random.normal(jax.random.key(0), (6, 2)))
        learner = learner._replace(policy=lambda state: PolicyState(w, transform=np.float32(2)))
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
    assert not np.array_equal(c[0].steps.obs, d[0].steps.obs)


@pytest.mark.parametrize("feed", [ROLLOUT, REPLAY])
def test_one_compilation(make_env, make_learner, feed):
    env = make_env()
    learner = make_learner(env, feed)
    traces = []

    def act(*args):
        traces.append(None)
        return learner.act(*args)

    run(make_collector(env, learner._replace(act=act)), learner, 3)
    assert len(traces) == 1


def test_errors(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, ROLLOUT)
    with pytest.raises(ValueError, match=r"env\.num_envs is 2, but the learner's feed asks for num_envs=3"):
        make_collector(make_env(2), learner)
    with pytest.raises(ValueError, match="num_costs of environment 'Toy-SpeedLimit-v0' is 1"):
        make_collector(make_env(num_costs=1), learner)
    with pytest.raises(ValueError, match=r"observations of environment 'Toy.*not fit the learner: its shape is \(7,\)"):
        make_collector(make_env(delay=True, num_costs=1), make_learner(make_env(num_costs=1), ROLLOUT))
    with pytest.raises(ValueError, match="on_bad must be 'stop' or 'end', got 'ignore'"):
        make_collector(env, learner, on_bad="ignore")
    bad = {"sequences": 0, "replay_rows": 6, "initial_rows": 121, "dtype": "int8"}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=rf"{name}.*{value}"):
            make_collector(env, make_learner(env, dataclasses.replace(REPLAY, **{name: value})))
