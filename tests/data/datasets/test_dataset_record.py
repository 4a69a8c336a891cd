"""Recordings: whole episodes, as the environment gave them, and done over again bit for bit."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from recorded import fed

from jsafe import envs
from jsafe.data import Policy, datasets
from jsafe.data.datasets import DatasetError, concatenate, read, record, replay, write
from jsafe.data.datasets.replay import differing
from jsafe.envs.toy import ToyEnv

TOY = {"act_dim": 2, "num_costs": 2, "horizon": 6, "terminate_probability": 0.2}


def by_hand(number, seed, episodes):
    """Rewards, costs and ends of the first episodes of one environment under the action 0.1."""
    env = ToyEnv(1, seed, **TOY)
    obs, found = env.reset(seed=seed), []
    for _ in range(episodes):
        rows, ended = [], False
        while not ended:
            step = env.step(-1 + 2 * (np.full((1, 2), 0.1, np.float32) + 1))
            rows.append((obs[0], step.reward[0], step.cost[0], step.terminated[0], step.final_obs[0]))
            ended, obs = step.terminated[0] or step.truncated[0], step.obs
        found.append(rows)
    return found[number]


def test_each_environment_records_its_episodes():
    env = ToyEnv(3, **TOY)
    found = record(
        env,
        Policy(fed(record(env, None, jax.random.key(0), episodes=1)), _state()),
        jax.random.key(0),
        episodes=7,
        seed=40,
    )
    assert len(found) == 7
    want = [by_hand(i, 40 + e, i + 1) for e, number in enumerate((3, 2, 2)) for i in range(number)]
    want.sort(key=len)
    order = np.argsort(found.lengths, kind="stable")
    np.testing.assert_array_equal(found.lengths[order], [len(rows) for rows in want])
    assert sorted(found.returns.round(5)) == sorted(np.sum([row[1] for row in rows]).round(5) for rows in want)
    np.testing.assert_array_equal(found.obs.dtype, np.float32)
    assert found.finished.all()
    assert found.about.term_names == ("speed0", "speed1")
    np.testing.assert_allclose(found.terms, found.cost)
    assert found.spec == datasets.episodes.EnvSpec(env.spec.obs, env.spec.action, 2, 6)


def _state():
    from jsafe.types import PolicyState

    return PolicyState(np.float32(1))


def test_enough_steps_are_recorded_and_no_episode_is_cut():
    found = record(ToyEnv(4, **TOY), None, jax.random.key(0), steps=60)
    assert 60 <= found.transitions < 60 + 4 * 6
    assert found.finished.all()
    assert np.abs(found.action).max() <= 1
    assert record(ToyEnv(4, **TOY), None, jax.random.key(0), steps=60, half=True).obs.dtype == np.float16
    for wrong in ({}, {"steps": 0}, {"steps": 3, "episodes": 3}):
        with pytest.raises(ValueError, match="one of episodes and steps"):
            record(ToyEnv(4, **TOY), None, jax.random.key(0), **wrong)


@pytest.mark.parametrize("id", ["SafetyPointCircle1-v0", "SafetyHopperVelocity-v1", "Toy-SpeedLimit-v0"])
def test_a_recorded_episode_is_replayed_bit_for_bit(tmp_path, id):
    options = {"horizon": 30} if id.startswith("Toy") else {}
    env = envs.make(id, 2, 0, **options)
    steps = 120
    found = record(env, None, jax.random.key(1), steps=steps, seed=9, env_options=options)
    env.close()
    write(found, tmp_path / "set.npz")
    found = read(tmp_path / "set.npz").take([len(found) - 1, 0])
    make_env = functools.partial(envs.make, found.about.env, 1, **dict(found.about.env_options))
    for number in range(2):
        assert differing(found, make_env, number) is None
    rows = [each.row for each in replay(found, make_env, 1)]
    assert rows == [*range(found.start[1], found.start[2] - 1)]
    changed = dataclasses.replace(found, action=-found.action)
    assert "in row" in differing(changed, make_env, 0)
    with pytest.raises(IndexError):
        next(replay(found, make_env, 2))
    with pytest.raises(DatasetError, match="no states of the engine"):
        next(replay(dataclasses.replace(found, states={}), make_env, 0))


def test_recordings_are_put_together():
    one, other = (
        record(ToyEnv(2, **TOY), None, jax.random.key(i), episodes=3, behaviour={"run": f"run{i}"}) for i in range(2)
    )
    both = concatenate([one, other]).check()
    np.testing.assert_array_equal(both.behaviour, [0, 0, 0, 1, 1, 1])
    assert [each["run"] for each in both.about.behaviours] == ["run0", "run1"]
    np.testing.assert_array_equal(both.returns, np.concatenate([one.returns, other.returns]))
    assert set(both.states) == set(one.states) != set()
    single = record(ToyEnv(2, act_dim=2), None, jax.random.key(0), episodes=2)
    with pytest.raises(DatasetError, match="different tasks: horizon is"):
        concatenate([one, single])


def test_costs_one_by_one():
    env = envs.make("SafetyPointButton1-v0", 2, 0)
    found = record(env, None, jax.random.key(0), episodes=2)
    env.close()
    apart = envs.make("SafetyPointButton1-v0", 1, 0, costs="separate")
    names = apart.spec.cost_names
    apart.close()
    assert found.with_costs("sum") is found
    assert found.with_costs("separate").about.cost_names == names
    assert found.with_costs("separate").check().spec.num_costs == len(names) == 3
    with pytest.raises(DatasetError, match="train with costs='sum'"):
        dataclasses.replace(found, terms=None).with_costs("separate")
