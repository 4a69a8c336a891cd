"""How a batch is divided among devices and among processes, on learners of a few lines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.envs.toy import ToyEnv
from jsafe.feeds import Replay, Rollouts
from jsafe.scale import devices as parallel
from jsafe.scale.processes import Team, TeamCollector, local_learner
from jsafe.spaces import Box, Discrete, Tree
from jsafe.testing import random_batch
from jsafe.types import NO_MEMORY, ActOutput, EnvSpec, Learner, Memory, PolicyState, env_spec

AXIS = parallel.AXIS
SPEC = EnvSpec(3, 2)
STRUCTURED = EnvSpec(Tree({"image": Box((2, 2, 1), 0, 255, "uint8"), "speed": Box(2)}), Discrete(5), horizon=20)


def learner_of(feed, axis_name=AXIS, spec=SPEC, memory=NO_MEMORY):
    """Plain gradient descent on a mean over rows; a bias that follows the measured costs and the memory."""

    def features(obs):
        flat = [jnp.float32(leaf).reshape(*leaf.shape[: len(feed.shape)], -1) for leaf in jax.tree.leaves(obs)]
        return jnp.concatenate(flat, axis=-1)

    def pmean(x):
        return x if axis_name is None else jax.lax.pmean(x, axis_name)

    def psum(x):
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    def init(key):
        width = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(spec_leaves(spec)))
        return {"w": jax.random.normal(key, (width,)), "bias": jnp.zeros(())}

    def update(state, batch, key):
        steps = batch.steps

        def loss(w):
            return pmean(jnp.mean((features(steps.obs) @ w - steps.reward) ** 2))

        grad = pmean(jax.grad(lambda w: jnp.mean((features(steps.obs) @ w - steps.reward) ** 2))(state["w"]))
        rows = jax.tree.map(psum, batch.measured.rows)
        carried = sum(pmean(jnp.mean(jnp.float32(leaf))) for leaf in jax.tree.leaves(batch.memory))
        bias = state["bias"] + rows.total.sum() / rows.count + carried
        ready = pmean(jnp.float32(batch.ready)) == 1
        new = {"w": state["w"] - 1e-3 * grad, "bias": bias}
        return jax.tree.map(lambda a, b: jnp.where(ready, b, a), state, new), {"loss/all": loss(state["w"])}

    def act(policy_state, memory, obs, key, deterministic):
        n = jax.tree.leaves(obs)[0].shape[0]
        if isinstance(spec.action, Discrete):
            return ActOutput(jnp.zeros(n, jnp.int32), jnp.zeros(n), {}, memory)
        return ActOutput(jnp.zeros((n, spec.act_dim)), jnp.zeros(n), {}, memory)

    return Learner(init, update, lambda state: PolicyState(state), act, memory, feed, None, spec)


def spec_leaves(spec):
    return dict(spec.obs.items) if isinstance(spec.obs, Tree) else spec.obs


COUNT = Memory(lambda n: {"steps": jnp.arange(n)}, lambda memory, started: memory)
CASES = {
    "rollouts": (Rollouts(8, 6), SPEC, NO_MEMORY),
    "structured rollouts with a memory": (Rollouts(8, 6), STRUCTURED, COUNT),
    "windows": (Replay(4, sequences=8, sequence_length=3), SPEC, NO_MEMORY),
    "three minibatches": (Replay(4, sequences=8, sequence_length=3, updates=3), STRUCTURED, NO_MEMORY),
}


@pytest.mark.parametrize("wrapper", ["shard_map", "pmap"])
@pytest.mark.parametrize("case", CASES)
def test_devices_equal_one(case, wrapper):
    feed, spec, memory = CASES[case]
    one = learner_of(feed, None, spec, memory)
    state, batch = one.init(jax.random.key(0)), random_batch(one, jax.random.key(1))
    expected, metrics = one.update(state, batch, jax.random.key(2))
    learner = learner_of(feed, AXIS, spec, memory)
    update = getattr(parallel, f"{wrapper}_update")(learner)
    found, found_metrics = update(state, batch, jax.random.key(2))
    parallel.assert_replicated(found)
    for a, b in zip(jax.tree.leaves((expected, metrics)), jax.tree.leaves((found, found_metrics)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert float(jnp.abs(expected["w"] - state["w"]).max()) > 1e-4
    # Each device by itself, told its part: another list of the same rows.
    axis = len(feed.shape) - 1
    parts = [split(batch, axis, i) for i in range(4)]
    again, _ = update(state, parts, jax.random.key(2))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    # Without its collectives the parts of one device would be taken for all.
    local, _ = one.update(state, parts[0], jax.random.key(2))
    assert not np.allclose(local["w"], expected["w"], rtol=1e-5)


def split(batch, axis, i):
    cut = slice(2 * i, 2 * i + 2)
    return batch._replace(
        steps=jax.tree.map(lambda x: x[(slice(None),) * axis + (cut,)], batch.steps),
        measured=jax.tree.map(lambda x: x / np.float32(4), batch.measured),
        memory=jax.tree.map(lambda x: x[cut], batch.memory),
    )


def test_rows_memory_and_sums_are_divided():
    learner = learner_of(Rollouts(8, 6), AXIS, STRUCTURED, COUNT)
    batch = random_batch(learner, jax.random.key(0))
    update = parallel.shard_map_update(learner)
    placed = update.place_batch(batch)
    assert update.place_batch(placed) is placed
    assert placed.steps.obs["image"].shape == (6, 4, 2, 2, 2, 1)
    np.testing.assert_array_equal(
        np.asarray(placed.steps.obs["image"]).reshape(6, 8, 2, 2, 1), batch.steps.obs["image"]
    )
    np.testing.assert_array_equal(placed.memory["steps"], np.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(np.asarray(placed.measured.rows.total).sum(0), batch.measured.rows.total)
    assert np.asarray(placed.measured.episodes.count).tolist() == [batch.measured.episodes.count, 0, 0, 0]
    assert np.asarray(placed.ready).tolist() == [True] * 4


def test_batches_that_do_not_fit():
    rollouts, windows = (learner_of(CASES[case][0]) for case in ("rollouts", "windows"))
    minibatches = learner_of(Replay(4, sequences=8, sequence_length=3, updates=3))
    batch = random_batch(windows, jax.random.key(0))
    state, key = windows.init(jax.random.key(0)), jax.random.key(0)
    three = parallel.make_mesh(jax.devices()[:3])
    with pytest.raises(ValueError, match="8 sequences cannot be shared equally by 3 devices: sequences must be"):
        parallel.shard_map_update(windows, three)(state, batch, key)
    with pytest.raises(ValueError, match="8 environments cannot be shared equally by 3 devices: num_envs must be a"):
        parallel.shard_map_update(rollouts, three)(state, random_batch(rollouts, key), key)
    with pytest.raises(ValueError, match="must have the 3 leading axes of the learner's feed, Replay, got 2"):
        parallel.shard_map_update(minibatches)(state, batch, key)


def test_a_process_takes_its_share():
    team = Team.alone()
    assert (team.index, team.count, team.mesh, team.axis_name, team.flags) == (0, 1, None, None, "")
    learner = learner_of(Replay(6, sequences=9))
    assert local_learner(learner, team).feed == learner.feed
    team.count = 3
    assert local_learner(learner, team).feed == Replay(2, sequences=3, initial_rows=3334)
    assert local_learner(learner_of(Rollouts(6, 5)), team).feed == Rollouts(2, 5)
    with pytest.raises(ValueError, match="sequences must be a multiple of the number of processes, 3, got 8"):
        local_learner(learner_of(Replay(6, sequences=8)), team)
    with pytest.raises(ValueError, match="num_envs must be a multiple of the number of processes, 3, got 7"):
        local_learner(learner_of(Replay(7, sequences=9)), team)
    team.mesh = parallel.make_mesh()  # 4 devices
    with pytest.raises(ValueError, match="sequences must be a multiple of the number of devices, 4, got 9"):
        local_learner(learner, team)


def test_a_process_alone_says_what_a_team_would():
    from jsafe.data import make_collector

    team = Team.alone()
    assert team.update(learner_of(Rollouts(2, 5))) is None
    assert team.agreed(True, False) == (True, False)
    assert team.agreed(False, True) == (False, True)
    assert np.asarray(team.votes([3, 4])).tolist() == [3, 4]
    assert team.gather("x") == team.collect("x") == ["x"]
    team.check_equal({"a": np.nan})

    def make():
        env = ToyEnv(2, horizon=4)
        feed = Rollouts(2, 5)
        return make_collector(env, learner_of(feed, None, env_spec(env)), seed=0)

    plain, wrapped = make(), team.collector(make())
    assert isinstance(wrapped, TeamCollector)
    for i in range(3):
        a, b = (each.collect(PolicyState(()), jax.random.key(i)) for each in (plain, wrapped))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
        found = wrapped.episodes()
        assert found | wrapped.pooled(found["episode/count"]) == plain.episodes()
    saved = wrapped.snapshot()
    assert (saved.journal(), saved.journal_keep(), wrapped.env_steps, wrapped.progress) == (None, 0, 30, 30)
    fresh = team.collector(make())
    fresh.load_state_dict(saved.state_dict())
    a, b = (each.collect(PolicyState(()), jax.random.key(9)) for each in (plain, fresh))
    np.testing.assert_array_equal(a.steps.obs, b.steps.obs)
