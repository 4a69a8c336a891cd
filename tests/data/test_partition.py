"""The state of one collector from those of several processes, and back."""

import dataclasses

import fake_learner
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.data import make_collector, partition
from jsafe.envs.toy import ToyEnv
from jsafe.feeds import Replay, Rollouts
from jsafe.runs.checkpoint import Checkpoints
from jsafe.scale.processes import Snapshot
from jsafe.types import ActOutput, CMDPTransform, Memory, PolicyState, TransformStep


def spend(params, z, reward, cost, terminated, truncated):
    """A budget that costs use up; it starts anew with each episode."""
    z_final = z - cost.sum(-1)
    return TransformStep(np.where(terminated | truncated, params, z_final), z_final, reward, terminated)


BUDGET = CMDPTransform(1, lambda params, n: np.full(n, params), lambda obs, z: np.column_stack([obs, z]), spend)
CASES = {
    "replay": Replay(4, unroll=7, sequences=8, sequence_length=3, replay_rows=40, initial_rows=20),
    "rollouts": Rollouts(4, 10, transform=BUDGET),
}


def collectors(feed, count):
    """One collector for all environments, and those of a job, with the same streams."""
    n = feed.num_envs

    def make(size, seed):
        env = ToyEnv(size, seed, terminate_probability=0.1)
        learner = fake_learner.build(fake_learner.FakeConfig(), jsafe.env_spec(env))

        def act(policy_state, memory, obs, key, deterministic):
            action = jax.random.uniform(key, (len(obs), 1), minval=-1)
            return ActOutput(action, obs[:, -1], {}, memory + 1)

        carried = Memory(jnp.zeros, lambda memory, started: jnp.where(started, 0, memory))
        mine = dataclasses.replace(feed, num_envs=size)
        return make_collector(env, learner._replace(feed=mine, act=act, memory=carried), seed=seed)

    return make(n, 5), [make(n // count, 5 + i * n // count) for i in range(count)]


def equal(a, b):
    (leaves, structure), (others, other) = map(jax.tree_util.tree_flatten_with_path, (a, b))
    assert structure == other
    for (path, x), (_, y) in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", CASES)
def test_states_merge_and_split(name, tmp_path):
    """Parts come back as they were, also through a checkpoint; together they are one collector's state."""
    whole, parts = collectors(CASES[name], 2)
    policy = PolicyState((), transform=np.float32(3))
    store = Checkpoints(tmp_path, keep=2)
    for i in range(8):
        for j, part in enumerate(parts):
            part.collect(policy, jax.random.key(10 * i + j))
            part.episodes()
        chunks, keeps = [part.journal() for part in parts], [part.journal_keep() for part in parts]
        states = [part.state_dict() for part in parts]
        merged = partition.merge(states)
        store.save(i + 1, {}, Snapshot(partition.merge_chunks(chunks), max(keeps), merged), {})
    # The same number of processes gets back what it gave.
    for j, state in enumerate(states):
        again = partition.split(merged, j, 2)
        if "replay" in again:
            ends = again["replay"].pop("chunk_ends")
            mine = state["replay"].pop("chunk_ends")
            np.testing.assert_array_equal(ends[len(ends) - len(mine) :], mine)
        equal(again, state)
    # One process continues with all environments, and hands them back.
    assert store.load({}, whole).iteration == 8
    assert whole.env_steps == sum(part.env_steps for part in parts)
    found = whole.state_dict()
    for j, part in enumerate(parts):
        back, own = partition.split(found, j, 2), part.state_dict()
        names = ("env", "obs", "started", "memory", "env_steps")
        equal(*({name: state[name] for name in names} for state in (back, own)))
        equal(*({name: state["tracker"][name] for name in ("running", "finished")} for state in (back, own)))
        assert abs(2 * len(back["tracker"]["window"]) - whole.tracker.sums()[0]) <= 1
    if name == "replay":
        rows = [collector.replay.state_dict()["total"] for collector in (whole, *parts)]
        np.testing.assert_array_equal(rows[0], np.concatenate(rows[1:]))
        assert rows[0].min() > 40  # the ring has turned: chunks were dropped


def test_state_that_cannot_be_divided():
    part = {"env_steps": 4, "tracker": {"running": np.zeros((2, 4))}, "env": {"table": np.zeros(7)}}
    with pytest.raises(ValueError, match=r"env\.table of the collector's state is neither one value per environment"):
        partition.merge([part, part])
    state = {"tracker": {"running": np.zeros((4, 4))}, "env_steps": 4, "env": {"table": np.zeros(7)}}
    with pytest.raises(ValueError, match=r"env\.table of the collector's state has 7 entries for 4 environments"):
        partition.split(state, 0, 2)
    with pytest.raises(ValueError, match="4 environments cannot be shared equally by 3 processes"):
        partition.split(state, 0, 3)
