"""Bad values: stopped before they reach anything, or their episode is ended, and counted."""

import copy

import jax
import numpy as np
import pytest

from jsafe.data import BadValueError, Door, ManyCollector, ReplayCollector, evaluate, make_collector
from jsafe.data.replay.store import FIRST, LAST
from jsafe.envs.toy import ToyEnv
from jsafe.feeds import Replay, Rollouts
from jsafe.types import CMDPTransform, PolicyState, TransformStep

REPLAY = Replay(num_envs=3, unroll=10, sequences=6, sequence_length=3, replay_rows=200, initial_rows=10)
ROLLOUT = Rollouts(num_envs=3, length=10)
STEP, ENV = 24, 1
"""When, and in which environment, the bad value comes."""
CHANGES = {
    "nan reward": ("reward", ENV, np.nan, "reward of environment 1 is nan in step 4 of its episode: missing or not"),
    "infinite reward": ("reward", ENV, -np.inf, "reward of environment 1 is -inf in step 4 of its episode: infinite"),
    "absurd reward": ("reward", ENV, 1e300, "reward of environment 1 is 1e.300 in step 4 .*: larger than 1e.08"),
    "nan cost": ("cost", (ENV, 1), np.nan, r"cost 1 \(cost_speed1\) of environment 1 is nan in step 4"),
    "absurd cost": ("cost", (ENV, 0), 2e8, r"cost 0 \(cost_speed0\) of environment 1 is 200000000.0 in step 4"),
    "absurd observation": (
        "final_obs",
        (ENV, 3),
        1e30,
        r"observation, number 3 \(position\) of environment 1 is 1e",
    ),
    "nan observation": ("obs", (ENV, 0), np.nan, r"observation, number 0 \(direction\) of environment 1 is nan"),
}


class Spoilt(ToyEnv):
    """The toy task with one value changed in one step; episodes last 7 steps, so that step 24 is the 4th of one."""

    def __init__(self, change, when=(STEP,), **options):
        super().__init__(3, 0, act_dim=2, num_costs=2, **{"horizon": 7, **options})
        self.change, self.when, self.steps, self.restarts = change, when, 0, []

    def reset(self, seed=None, *, mask=None):
        if mask is not None:
            self.restarts.append((self.steps, mask.copy()))
        return super().reset(seed, mask=mask)

    def step(self, actions):
        step = super().step(actions)
        if self.steps in self.when:
            field, at, value, _ = CHANGES[self.change]
            getattr(step, field)[at] = value
            if field == "final_obs":
                step.obs[at] = value
            elif field == "obs":
                step.final_obs[at] = value
        self.steps += 1
        return step


def collected(collector, learner, iterations):
    policy = learner.policy(learner.init(jax.random.key(5)))
    return [collector.collect(policy, jax.random.key(i)) for i in range(iterations)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("feed", [REPLAY, ROLLOUT])
def test_a_bad_value_is_named_and_enters_nothing(make_learner, change, feed):
    env = Spoilt(change)
    learner = make_learner(env, feed)
    collector = make_collector(env, learner)
    collected(collector, learner, 2)
    before = copy.deepcopy(collector.state_dict())
    with pytest.raises(BadValueError, match=CHANGES[change][-1]) as caught:
        collected(collector, learner, 1)
    assert (caught.value.env, caught.value.step) == (ENV, 4)
    after = collector.state_dict()
    # The steps 20 to 23 were good; step 24 is nowhere.
    np.testing.assert_array_equal(after["tracker"]["running"][:, 1], [3, 3, 3])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    if feed is REPLAY:
        assert (after["replay"]["total"] - before["replay"]["total"] == [5, 5, 5]).all()  # one episode ended at 20


@pytest.mark.parametrize("change", CHANGES)
def test_the_episode_leaves_a_replay_like_a_cut_one(make_learner, change):
    """Rows are those of the plain environment up to the bad step, whose observation is then the last one."""
    env, plain = Spoilt(change), Spoilt(change, when=())
    learner = make_learner(env, REPLAY)
    collector = make_collector(env, learner, on_bad="end")
    reference = make_collector(plain, learner)
    assert isinstance(collector, ReplayCollector)
    batches = collected(collector, learner, 3)
    collected(reference, learner, 3)
    found, wanted = collector.journal(), reference.journal()
    ((step, mask),) = env.restarts
    assert (step, mask.tolist()) == (STEP + 1, [False, True, False])

    def rows(chunk, env):
        ends = np.cumsum(chunk["count"])
        mine = slice(ends[env] - chunk["count"][env], ends[env])
        return chunk["obs"][mine], chunk["rows"][mine]

    for other in (0, 2):
        for x, y in zip(rows(found, other), rows(wanted, other)):
            np.testing.assert_array_equal(x, y)
    (obs, values), (right_obs, right) = rows(found, ENV), rows(wanted, ENV)
    last = STEP + STEP // 7  # rows before it: one for each step, and one for each episode that ended
    np.testing.assert_array_equal(obs[: last + 1], right_obs[: last + 1])
    np.testing.assert_array_equal(values[:last], right[:last])
    np.testing.assert_array_equal(values[last, 2:6], right[last, 2:6])  # how it was arrived at
    np.testing.assert_array_equal(values[last, [0, 1, 6]], [0, 0, LAST])
    assert values[last + 1, 6] == FIRST
    assert obs[last + 1, 4] == 0  # elapsed
    assert batches[-1].measured.rows.count == 29
    # Environment 1 finished episodes at steps 7, 14, 21; its next began at step 25. The others also finished at 28.
    assert sum(batch.measured.episodes.count for batch in batches) == 3 + 4 + 4
    statistics = collector.episodes()
    assert statistics["episode/bad"] == 1
    assert statistics["episode/count"] == 11
    assert statistics["episode/length"] == 7


@pytest.mark.parametrize("feed", [REPLAY, ROLLOUT])
def test_an_episode_whose_environment_crashed_is_no_whole_one(make_learner, feed):
    """An adapter has cut it (`info["crashed"]`): what it cost until then says nothing about an episode."""

    class Crashes(ToyEnv):
        steps = 0

        def step(self, actions):
            step = super().step(actions)
            crashed = np.zeros(3, bool)
            if self.steps == STEP:
                crashed[ENV] = True
                step.truncated[ENV], step.reward[ENV], step.cost[ENV] = True, 0.0, 0.0
                super().reset(mask=crashed)
            self.steps += 1
            return step._replace(info=step.info | {"crashed": crashed})

    env = Crashes(3, 0, act_dim=2, num_costs=2, horizon=7)
    learner = make_learner(env, feed)
    collector = make_collector(env, learner)
    batches = collected(collector, learner, 3)
    # Environment 1 finished whole episodes at steps 7, 14, 21 and the next would end at 32; the others also at 28.
    assert sum(batch.measured.episodes.count for batch in batches) == 3 + 4 + 4
    statistics = collector.episodes()
    assert (statistics["episode/bad"], statistics["episode/count"], statistics["episode/length"]) == (1, 11, 7)
    assert collector.tracker.lengths.tolist() == [2, 5, 2]


@pytest.mark.parametrize("change", CHANGES)
def test_the_episode_is_cut_in_a_rollout(make_learner, change):
    env, plain = Spoilt(change), Spoilt(change, when=())
    learner = make_learner(env, ROLLOUT)
    collector = make_collector(env, learner, on_bad="end")
    batch, right = (collected(each, learner, 3)[-1] for each in (collector, make_collector(plain, learner)))
    t = STEP - 20
    steps, others = batch.steps, [0, 2]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(batch))
    for x, y in zip(jax.tree.leaves(steps), jax.tree.leaves(right.steps)):
        np.testing.assert_array_equal(x[:, others], y[:, others])
        np.testing.assert_array_equal(x[:t, ENV], y[:t, ENV])
    assert (steps.reward[t, ENV], *steps.cost[t, ENV]) == (0, 0, 0)
    assert steps.truncated[t, ENV]
    assert not steps.terminated[t, ENV]
    np.testing.assert_array_equal(steps.next_obs[t, ENV], steps.obs[t, ENV])
    assert steps.obs[t + 1, ENV, 4] == 0
    assert batch.measured.rows.count == 29
    assert collector.episodes()["episode/bad"] == 1


@pytest.mark.parametrize("feed", [REPLAY, ROLLOUT])
def test_a_bad_first_observation_after_a_good_episode(make_learner, feed):
    """The episode that ended well counts; the one that began badly is replaced."""

    class Start(Spoilt):
        def step(self, actions):
            step = ToyEnv.step(self, actions)
            if self.steps == 20:  # the last step of the third episode
                step.obs[ENV, 0] = np.inf
            self.steps += 1
            return step

    learner = make_learner(Start(""), feed)
    with pytest.raises(BadValueError, match="of environment 1 is inf at the start of an episode: infinite"):
        collected(make_collector(Start(""), learner), learner, 3)
    env = Start("")
    collector = make_collector(env, learner, on_bad="end")
    batches = collected(collector, learner, 3)
    assert len(env.restarts) == 1
    assert sum(batch.measured.episodes.count for batch in batches) == 12
    assert batches[-1].measured.rows.count == 30
    assert collector.episodes()["episode/bad"] == 1


def test_a_transform_starts_anew_with_the_episode(make_learner):
    """Its state of the next row is that of a first one, although no cost of the bad step was spent."""

    def spend(params, z, reward, cost, terminated, truncated):
        z_final = z - cost.sum(-1)
        return TransformStep(np.where(terminated | truncated, params, z_final), z_final, reward, terminated)

    budget = CMDPTransform(1, lambda params, n: np.full(n, params), lambda obs, z: np.column_stack([obs, z]), spend)
    env = Spoilt("nan cost")
    learner = make_learner(env, Rollouts(3, 10, transform=budget))
    collector = make_collector(env, learner, on_bad="end")
    policy = PolicyState(learner.init(jax.random.key(5))["w"], transform=np.float32(9))
    steps = [collector.collect(policy, jax.random.key(i)) for i in range(3)][-1].steps
    t = STEP - 20
    assert steps.obs[t, ENV, -1] < 9
    assert steps.next_obs[t, ENV, -1] == steps.obs[t, ENV, -1]
    np.testing.assert_array_equal(steps.obs[t + 1, ENV, [4, -1]], [0, 9])
    assert steps.obs[t + 1, 0, -1] < 9


@pytest.mark.parametrize("feed", [REPLAY, ROLLOUT])
def test_other_runs_beside_it_are_left_alone(make_learner, assert_equal, feed):
    made = []

    class Wide(Spoilt):  # the engine of both runs; the bad value is in the first
        def __init__(self, num_envs):
            ToyEnv.__init__(self, num_envs, 0, act_dim=2, num_costs=2, horizon=7)
            self.change, self.when, self.steps, self.restarts = "nan reward", (STEP,) * (num_envs > 3), 0, []
            made.append(self)

    learner = make_learner(Wide(3), feed)
    many = ManyCollector(Wide, [learner, learner], [0, 50], on_bad="end")
    alone = make_collector(Wide(3), learner, seed=50)
    policy = learner.policy(learner.init(jax.random.key(5)))
    policies = jax.tree.map(lambda x: np.stack([x, x]), policy)
    for i in range(4):
        keys = jax.random.split(jax.random.key(i), 2)
        together, single = many.collect(policies, keys), alone.collect(policy, keys[1])
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(single), strict=True):
            np.testing.assert_allclose(x[1], y, rtol=1e-5, atol=1e-6)
    assert [each["episode/bad"] for each in many.episodes()] == [1, 0]
    stops = ManyCollector(Wide, [learner, learner], [0, 50])
    alone = make_collector(Wide(3), learner, seed=50)
    for i in range(4):
        assert list(stops.lost) == [0] * (i > 2)
        keys = jax.random.split(jax.random.key(i), 2)
        together, single = stops.collect(policies, keys), alone.collect(policy, keys[1])
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(single), strict=True):
            np.testing.assert_allclose(x[1], y, rtol=1e-5, atol=1e-6)
    assert str(stops.lost[0]).startswith("reward of environment 1 is nan")
    assert stops.progress == alone.progress > stops.collectors[0].progress
    with pytest.raises(BadValueError, match="action of environment 0 is nan in step"):
        stops.collect(jax.tree.map(lambda x: np.full_like(x, np.nan), policies), keys)


def test_environments_that_are_never_good_raise(make_learner):
    class Broken(ToyEnv):
        def reset(self, seed=None, *, mask=None):
            return super().reset(seed, mask=mask) * np.nan

    env = Broken(3, act_dim=2, num_costs=2)
    learner = make_learner(env, ROLLOUT)
    with pytest.raises(BadValueError, match="of environment 0 is nan at the start of an episode"):
        make_collector(env, learner, on_bad="end")


def test_evaluation_stops(make_learner):
    env = Spoilt("nan reward")
    learner = make_learner(env, ROLLOUT)
    with pytest.raises(BadValueError, match="reward of environment 1 is nan in step 4"):
        evaluate(env, learner, learner.policy(learner.init(jax.random.key(0))), 30, jax.random.key(0))


def test_half_precision_does_not_overflow_silently(make_learner):
    class Large(ToyEnv):
        def step(self, actions):
            step = super().step(actions)
            step.obs[:, 2] = step.final_obs[:, 2] = 65_504 if self._state["elapsed"][0] < 5 else 70_000
            return step

    env = Large(3, act_dim=2, num_costs=2)
    half = Replay(num_envs=3, unroll=10, sequences=6, sequence_length=3, dtype="float16")
    with pytest.raises(BadValueError, match=r"70000\.0 in step 5 of its episode: float16 ends at 65504: store obs"):
        collected(make_collector(env, make_learner(env, half)), make_learner(env, half), 1)
    env = Large(3, act_dim=2, num_costs=2)
    collected(make_collector(env, make_learner(env, REPLAY)), make_learner(env, REPLAY), 1)


def test_bounds_and_shapes():
    env = ToyEnv(3, act_dim=2, num_costs=2)
    env.reset()
    step = env.step(np.zeros((3, 2)))
    lengths = np.zeros(3)
    assert Door(env.spec, 3).look(step, lengths) is None
    assert Door(env.spec, 3).look(step._replace(reward=np.full(3, 9e7)), lengths) is None  # its square sum is larger
    assert Door(env.spec, 3, largest=1e9).look(step._replace(reward=np.full(3, 9e8)), lengths) is None
    with pytest.raises(BadValueError, match=r"larger than 10 \(the option `largest`\)"):
        Door(env.spec, 3, largest=10).look(step._replace(reward=np.array([0.0, 11.0, 0.0])), lengths)
    image = {"image": np.full((3, 4, 4, 1), 255, np.uint8), "speed": np.zeros((3, 2), np.float32)}
    good = step._replace(obs=image, final_obs=image)
    assert Door(env.spec, 3).look(good, lengths) is None
    speed = np.zeros((3, 2), np.float32)
    speed[2, 1] = np.inf
    with pytest.raises(BadValueError, match=r"observation\['speed'\], number 1 of environment 2 is inf"):
        Door(type(env.spec)(**{**vars(env.spec), "obs_slices": {}}), 3).look(
            good._replace(final_obs={**image, "speed": speed}), lengths
        )
    for change, message in (
        ({"cost": None}, r"the costs of a step must have shape \(3, 2\), got none"),
        ({"cost": np.zeros((3, 1))}, r"the costs of a step must have shape \(3, 2\), got shape \(3, 1\)"),
        ({"reward": np.zeros((3, 1))}, r"the rewards of a step must have shape \(3,\), got shape \(3, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Door(env.spec, 3).look(step._replace(**change), lengths)
    with pytest.raises(ValueError, match="largest must be positive, got 0"):
        Door(env.spec, 3, largest=0)
