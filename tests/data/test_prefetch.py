"""One iteration ahead: which policy made which batch, donated buffers, errors, resume."""

import copy
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.data import PrefetchCollector, make_collector
from jsafe.feeds import Replay, Rollouts
from jsafe.runs.checkpoint import Checkpoints
from jsafe.types import PolicyState

ROLLOUT = Rollouts(num_envs=3, length=10)
REPLAY = Replay(num_envs=3, unroll=6, sequences=6, sequence_length=3, replay_rows=50, initial_rows=30)


def policies(env, n):
    return [PolicyState(jax.random.normal(jax.random.key(i), (env.spec.obs_dim, 2))) for i in range(n)]


def test_batches_come_from_the_policy_of_one_call_before(make_env, make_learner):
    env = make_env()
    collector = PrefetchCollector(make_collector(env, make_learner(env, ROLLOUT)))
    given = policies(env, 5)
    weights = [np.asarray(policy.params) for policy in given]
    for i, policy in enumerate(given):
        batch = collector.collect(policy, jax.random.key(i))
        expected = np.tanh(batch.steps.obs @ weights[max(i - 1, 0)])
        np.testing.assert_allclose(batch.steps.action, expected, rtol=1e-4, atol=1e-5)
        assert collector.env_steps == 30 * (i + 1)
        policy.params.delete()  # as a donated state would be, while the thread still acts
    collector.close()


def test_the_data_is_the_inner_collectors(make_env, make_learner, assert_equal):
    """Depth 1 hands over the same stream of batches as the plain collector given the same policies and keys."""
    env = make_env()
    learner = make_learner(env, ROLLOUT, noise=0.5)
    ahead = PrefetchCollector(make_collector(env, learner, seed=2))
    plain = make_collector(make_env(), learner, seed=2)
    given = policies(env, 4)
    for i in range(4):
        batch = ahead.collect(given[i], jax.random.key(i))
        key = jax.random.key(0) if i == 0 else jax.random.fold_in(jax.random.key(i - 1), 1)
        assert_equal(batch, plain.collect(given[max(i - 1, 0)], key))
        assert_equal(ahead.episodes(), plain.episodes())
    ahead.close()


def test_depth_zero_passes_through(make_env, make_learner, assert_equal):
    env = make_env()
    learner = make_learner(env, ROLLOUT, noise=0.5)
    a = PrefetchCollector(make_collector(env, learner, seed=2), depth=0)
    b = make_collector(make_env(), learner, seed=2)
    for i, policy in enumerate(policies(env, 3)):
        assert_equal(a.collect(policy, jax.random.key(i)), b.collect(policy, jax.random.key(i)))
        assert a.env_steps == b.env_steps
        assert_equal(a.episodes(), b.episodes())
    with pytest.raises(ValueError, match="depth must be 0 or 1, got 2"):
        PrefetchCollector(b, depth=2)


def test_collects_in_the_background(make_env, make_learner):
    env = make_env()
    learner = make_learner(env, ROLLOUT)
    done, threads = threading.Event(), []
    step = env.step

    def watched(action):
        threads.append(threading.current_thread())
        if len(threads) == 20:
            done.set()
        return step(action)

    env.step = watched
    collector = PrefetchCollector(make_collector(env, learner))
    collector.collect(policies(env, 1)[0], jax.random.key(0))
    assert done.wait(30), "the second batch is not collected before it is asked for"
    assert set(threads[:10]) == {threading.main_thread()}
    assert threading.main_thread() not in threads[10:]
    collector.close()


def test_errors_reach_the_caller(make_env, make_learner):
    env = make_env()
    collector = PrefetchCollector(make_collector(env, make_learner(env, ROLLOUT)))
    collector.collect(policies(env, 1)[0], jax.random.key(0))
    collector.collect(PolicyState(jnp.full((env.spec.obs_dim, 2), jnp.nan)), jax.random.key(1))
    with pytest.raises(ValueError, match="the policy has diverged"):
        collector.collect(policies(env, 1)[0], jax.random.key(2))
    collector.close()


@pytest.mark.parametrize("data", [ROLLOUT, REPLAY])
@pytest.mark.parametrize("before", [0, 1, 4])
def test_resume_is_exact(make_env, make_learner, assert_equal, data, before):
    learner = make_learner(make_env(), data, noise=0.5)
    a = PrefetchCollector(make_collector(make_env(), learner, seed=3))
    given = policies(make_env(), 9)
    for i in range(before):
        a.collect(given[i], jax.random.key(i))
    chunk = a.journal()
    assert (chunk is None) == (data is ROLLOUT or before == 0)
    assert a.journal_keep() == (0 if chunk is None else 1)
    state = copy.deepcopy(a.state_dict())
    b = PrefetchCollector(make_collector(make_env(), learner, seed=4))
    b.load_state_dict(state, journal=[] if chunk is None else [chunk])
    assert b.env_steps == a.env_steps
    for i in range(before, 9):
        assert_equal(a.collect(given[i], jax.random.key(i)), b.collect(given[i], jax.random.key(i)))
        assert a.env_steps == b.env_steps
        if i % 2:  # counts add up over the calls in between
            assert_equal(a.episodes(), b.episodes())
    a.close()
    b.close()


def test_counts_every_episode_once(make_env, make_learner):
    env = make_env()
    collector = PrefetchCollector(make_collector(env, make_learner(env, ROLLOUT)))
    finished = counted = 0
    for i in range(9):
        batch = collector.collect(policies(env, 1)[0], jax.random.key(i))
        finished += int(batch.measured.episodes.count)
        if i % 3 == 2:
            counted += int(collector.episodes()["episode/count"])
    assert finished == counted
    assert finished > 20
    collector.close()


def test_resume_through_files(make_env, make_learner, assert_equal, tmp_path):
    """Several checkpoints, the replay wrapped around in between, a batch under way at each."""
    learner = make_learner(make_env(), REPLAY, noise=0.5)
    a = PrefetchCollector(make_collector(make_env(), learner, seed=3))
    given, files = policies(make_env(), 40), Checkpoints(tmp_path)
    for i in range(30):
        a.collect(given[i], jax.random.key(i))
        if i % 5 == 4:
            files.save(i, given[i], a)
    b = PrefetchCollector(make_collector(make_env(), learner, seed=4))
    loaded = Checkpoints(tmp_path).load(given[0], b)
    assert loaded.iteration == 29
    for i in range(30, 36):
        assert_equal(a.collect(given[i], jax.random.key(i)), b.collect(given[i], jax.random.key(i)))
    a.close()
    b.close()
