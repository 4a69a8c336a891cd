"""Policies with a memory, structured observations and choices: what collectors hand over, save, and share."""

import copy
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.data import Collector, EpisodeTracker, ManyCollector, PrefetchCollector, evaluate, feeds_with, make_collector
from jsafe.data.coroutine import Actions
from jsafe.envs.api import Step
from jsafe.feeds import Replay, Rollouts
from jsafe.spaces import Box, Discrete, Tree
from jsafe.types import NO_MEMORY, ActOutput, EnvSpec, Learner, Memory, PolicyState

SPACE = Tree({"image": Box((2, 2, 1), 0, 255, "uint8"), "time": Box(1, dtype="float64")})
LENGTHS = np.array([3, 5, 8])


class Spec(NamedTuple):
    obs: Tree = SPACE
    action: Discrete = Discrete(4)
    id: str = "Clock"
    num_costs: int = 1
    horizon: int = 8


class Clock:
    """Environment i has episodes of LENGTHS[i] steps; the image holds its number and the time. Choices are costs."""

    def __init__(self, num_envs=3):
        self.spec, self.num_envs = Spec(), num_envs
        self.lengths = np.resize(LENGTHS, num_envs)
        self.time = np.zeros(num_envs, int)
        self.seen = []

    def _obs(self, time):
        image = np.zeros((self.num_envs, 2, 2, 1), np.uint8)
        image[:, 0, 0, 0], image[:, 1, 1, 0] = np.arange(self.num_envs) % 3, time
        return {"image": image, "time": time[:, None] / 8}

    def reset(self, seed=None, *, mask=None):
        self.time = self.time * 0 if mask is None else np.where(mask, 0, self.time)
        return self._obs(self.time)

    def step(self, actions):
        assert actions.shape == (self.num_envs,)
        assert actions.dtype.kind == "i"
        self.seen.append(actions)
        self.time = self.time + 1
        final, ended = self._obs(self.time), self.time == self.lengths
        self.time = np.where(ended, 0, self.time)
        none = np.zeros(self.num_envs, bool)
        return Step(self._obs(self.time), 1.0 * actions, actions[:, None] / 4, none, ended, final, {})

    def state_dict(self):
        return {"time": self.time.copy()}

    def load_state_dict(self, state):
        self.time = np.array(state["time"])

    def close(self):
        pass


class Count(NamedTuple):
    """How many observations of the episode the policy has seen, and the sum of their times."""

    steps: jax.Array
    total: jax.Array


def learner_of(feed, clock=None):
    """Acts by the number of steps that it remembers; its log-probability is what it remembers."""

    def act(policy_state, memory, obs, key, deterministic):
        memory = Count(memory.steps + 1, memory.total + obs["time"][:, 0])
        noise = jax.random.randint(key, memory.steps.shape, 0, 1 if deterministic else 2)
        choice = (memory.steps + policy_state.params + noise) % 4
        return ActOutput(choice, memory.total + memory.steps, {}, memory)

    def reset(memory, started):
        return Count(jnp.where(started, 0, memory.steps), jnp.where(started, 0.0, memory.total))

    memory = Memory(lambda n: Count(jnp.zeros(n, jnp.int32), jnp.zeros(n)), reset)
    spec = EnvSpec(SPACE, Discrete(4), 1, 8)

    def init(key):
        return jnp.int32(0)

    return Learner(init, lambda state, batch, key: (state, {}), PolicyState, act, memory, feed, None, spec)


def collected(collector, iterations, start=0):
    return [collector.collect(PolicyState(jnp.int32(1)), jax.random.key(i)) for i in range(start, start + iterations)]


def test_rollouts_carry_the_memory_and_start_it_anew():
    env = Clock()
    collector = make_collector(env, learner_of(Rollouts(3, 7)))
    assert isinstance(collector, Collector)
    time = np.zeros(3)
    for batch in collected(collector, 4):
        steps = batch.steps
        np.testing.assert_array_equal(batch.memory.steps, time)
        np.testing.assert_allclose(batch.memory.total, time * (time - 1) / 2 / 8)
        assert (steps.action.dtype, steps.obs["image"].dtype) == (np.int32, np.uint8)
        assert steps.obs["time"].dtype == steps.next_obs["time"].dtype == np.float32
        for t in range(7):
            np.testing.assert_array_equal(steps.obs["image"][t, :, 1, 1, 0], time)
            np.testing.assert_array_equal(steps.obs["image"][t, :, 0, 0, 0], np.arange(3))
            np.testing.assert_array_equal(steps.next_obs["image"][t, :, 1, 1, 0], time + 1)
            np.testing.assert_allclose(steps.extras["log_prob"][t], time + 1 + time * (time + 1) / 2 / 8)
            np.testing.assert_array_equal(steps.truncated[t], time + 1 == LENGTHS)
            np.testing.assert_array_equal(steps.reward[t], steps.action[t])
            assert set(steps.action[t] - (time + 2) % 4) <= {0, 1, -3}
            time = np.where(steps.truncated[t], 0, time + 1)
    assert not any(leaf.flags.writeable for leaf in jax.tree.leaves(steps))


REPLAY = Replay(3, unroll=6, sequences=9, sequence_length=4, replay_rows=60, initial_rows=30, random_steps=30)


def test_replays_hand_over_choices_and_the_memory_sees_random_steps_too():
    env = Clock()
    collector = make_collector(env, learner_of(REPLAY))
    batches = collected(collector, 12)
    random, acted = np.array(env.seen[:10]), np.array(env.seen[12:])  # 30 steps of all, to the end of an iteration
    assert set(random.ravel()) == {0, 1, 2, 3}
    time = np.arange(72)[:, None] % LENGTHS
    assert (((acted - time[12:] - 2) % 4) <= 1).all()
    assert (((random - time[:10] - 2) % 4) > 1).any()
    steps = batches[-1].steps
    assert batches[-1].ready
    assert batches[-1].memory == ()
    assert (steps.action.dtype, steps.action.shape) == (np.int32, (4, 9))
    assert steps.obs["image"].dtype == np.uint8
    step = (steps.weight == 1) & (np.arange(4)[:, None] < 3)
    np.testing.assert_array_equal(steps.reward[step], steps.action[step])
    np.testing.assert_array_equal(steps.cost[step][:, 0], steps.action[step] / 4)
    length = LENGTHS[steps.obs["image"][..., 0, 0, 0]]
    np.testing.assert_array_equal(steps.truncated[step], (steps.obs["image"][..., 1, 1, 0] + 1 == length)[step])
    np.testing.assert_array_equal(steps.weight == 0, steps.obs["image"][..., 1, 1, 0] == length)


@pytest.mark.parametrize("feed", [REPLAY, Rollouts(3, 7)])
@pytest.mark.parametrize("ahead", [False, True])
def test_resume_is_exact(assert_equal, feed, ahead):
    def make():
        collector = make_collector(Clock(), learner_of(feed))
        return PrefetchCollector(collector) if ahead else collector

    a, b = make(), make()
    collected(a, 7)
    chunk = a.journal()
    state = copy.deepcopy(a.state_dict())
    assert all(type(leaf) is not jax.Array for leaf in jax.tree.leaves(state))
    b.load_state_dict(state, [] if chunk is None else [chunk])
    assert_equal(collected(a, 6, 7), collected(b, 6, 7))
    assert_equal(a.state_dict(), b.state_dict())
    a.close()
    b.close()


def test_a_memory_of_another_policy_is_refused():
    a = make_collector(Clock(), learner_of(REPLAY))
    other = learner_of(REPLAY)._replace(memory=NO_MEMORY, act=lambda *_: None)
    with pytest.raises(ValueError, match="memory has other shapes than the one that was saved"):
        a.load_state_dict(make_collector(Clock(), other).state_dict())


@pytest.mark.parametrize("feed", [REPLAY, Rollouts(3, 7)])
def test_runs_side_by_side_equal_single_ones(assert_equal, feed):
    learner = learner_of(feed)
    many = ManyCollector(Clock, [learner, learner], [0, 0])
    alone = [make_collector(Clock(), learner, seed=0) for _ in range(2)]
    policies = [PolicyState(jnp.int32(r)) for r in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *policies)
    for i in range(8):
        keys = jax.random.split(jax.random.key(i), 2)
        together = many.collect(stacked, keys)
        for r in range(2):
            single = alone[r].collect(policies[r], keys[r])
            assert_equal(jax.tree.map(lambda x, r=r: x[r], together), single)
    for each, single in zip(many.collectors, alone):
        assert_equal(each.state_dict()["memory"], single.state_dict()["memory"])
    assert many.progress == alone[0].progress


def test_evaluation_carries_the_memory():
    env = Clock()
    result = evaluate(env, learner_of(Rollouts(3, 7)), PolicyState(jnp.int32(1)), 6, jax.random.key(0))
    np.testing.assert_array_equal(result["length"], np.repeat(LENGTHS, 2))
    # In step t of an episode (from 0) the policy has seen t + 1 observations, and chooses t + 2.
    returns = [sum((t + 2) % 4 for t in range(length)) for length in LENGTHS]
    np.testing.assert_array_equal(result["return"], np.repeat(returns, 2))


def test_means_are_unknown_until_every_environment_has_finished():
    collector = make_collector(Clock(), learner_of(Rollouts(3, 1)))
    names = ("return", "cost", "length", "success", "cost_rate")
    for t in range(1, 13):
        collected(collector, 1, t)
        found = collector.episodes()
        assert found["episode/finished_envs"] == (t >= LENGTHS).sum()
        assert all(np.isnan(found[f"episode/{name}"]) == (t < 8) for name in names)
        assert found["episode/count"] == (t % LENGTHS == 0).sum()
    # Finished by step 12: four episodes of 3, two of 5, one of 8.
    assert found["episode/length"] == (4 * 3 + 2 * 5 + 8) / 7
    again = EpisodeTracker(3, 1)
    again.load_state_dict(collector.tracker.state_dict())
    assert again.pop() == {**found, "episode/count": 0.0}


def test_a_feed_and_collector_of_ones_own():
    class Pages(NamedTuple):
        num_envs: int = 3

    @feeds_with(Pages)
    class PageCollector:
        def __init__(self, env, learner, seed=None, *, size=1):
            self.made = env, learner, seed, size

    env, learner = Clock(), learner_of(Pages())
    assert make_collector(env, learner, 3, size=2).made == (env, learner, 3, 2)

    class More(Rollouts):
        pass

    assert type(make_collector(env, learner_of(More(3, 5)))).__name__ == "RolloutCollector"
    with pytest.raises(ValueError, match=r"serves a feed of type int \(known: .*Pages, Replay, Rollouts\)"):
        make_collector(env, learner_of(3))
    with pytest.raises(ValueError, match="frame_stack is 2, but the policy has no memory"):
        make_collector(env, learner_of(Replay(3, frame_stack=2))._replace(memory=NO_MEMORY))


def test_deterministic_actions_stay_in_the_box_when_evaluated(make_env, make_learner):
    """Gaussian policies leave it: evaluation clips, as training's environments do."""
    env, seen = make_env(), []
    learner = make_learner(env, Rollouts(3, 5))

    def act(policy_state, memory, obs, key, deterministic):
        return ActOutput(jnp.full((3, 2), 7.0) * jnp.array([1, -1]), jnp.zeros(3), {}, memory)

    step = env.step
    env.step = lambda actions: seen.append(actions) or step(actions)
    evaluate(env, learner._replace(act=act), PolicyState(()), 3, jax.random.key(0))
    np.testing.assert_array_equal(seen[0], [[3, -1]] * 3)  # the box is [-1, 3]


def test_actions_that_no_policy_can_give():
    class Free(NamedTuple):
        obs: Box = Box(3)
        action: Box = Box(2)
        id: str = "Free"
        num_costs: int = 1
        horizon: int = 8

    env = Clock()
    env.spec = Free()
    with pytest.raises(ValueError, match=r"the bounds of actions must be finite, got -inf and inf"):
        Actions(env)
    env.spec = Free(action=Tree({"arm": Box(2, -1, 1)}))
    with pytest.raises(ValueError, match="actions must be a Box or a Discrete, got Tree"):
        Actions(env)
    env.spec = Free(action=Box((2, 2), 0.0, (1.0, 2.0, 3.0, 4.0)))  # whatever the shape
    np.testing.assert_array_equal(Actions(env).to_env(np.ones((3, 4)))[0], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(Actions(env).to_env(np.zeros((3, 4)))[0], [[0.5, 1], [1.5, 2]])
