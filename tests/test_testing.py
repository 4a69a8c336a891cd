"""The toy tasks against their closed form, and the learner check against broken learners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.envs.toy import ToyEnv
from jsafe.feeds import Dataset, Replay, Rollouts
from jsafe.spaces import Box, Discrete, Tree
from jsafe.testing import check_learner, random_batch, random_rows
from jsafe.types import NO_MEMORY, ActOutput, EnvSpec, Learner, Memory, PolicyState, Steps, env_spec


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


SPEC = EnvSpec(4, 2, num_costs=2, horizon=20)
REPLAY = Replay(num_envs=2, unroll=5, sequences=64, sequence_length=6, frame_stack=2, updates=2)
ROLLOUT = Rollouts(num_envs=4, length=50)
STRUCTURED = EnvSpec(Tree({"image": Box((3, 3, 1), 0, 255, "uint8"), "speed": Box(2)}), Discrete((3, 2)), horizon=20)


def last_frame(width, stack):
    """The memory of a policy that sees the newest frames side by side, oldest first."""

    def init(n):
        return {"frames": jnp.zeros((n, stack, width)), "fresh": jnp.ones(n, bool)}

    return Memory(init, lambda memory, started: {**memory, "fresh": memory["fresh"] | started})


def push(memory, obs):
    pushed = jnp.concatenate([memory["frames"][:, 1:], obs[:, None]], axis=1)
    frames = jnp.where(memory["fresh"][:, None, None], obs[:, None], pushed)
    return {"frames": frames, "fresh": jnp.zeros_like(memory["fresh"])}


def learner_of(feed, **changes):
    stack = getattr(feed, "frame_stack", 1)
    width = SPEC.obs_dim * stack

    def init(key):
        return {"w": jax.random.normal(key, (width, 2)), "target": jnp.zeros((width, 2))}

    def update(state, batch, key):
        w = state["w"] + 0.01 * batch.steps.reward.mean() + 0.01 * jax.random.normal(key, state["w"].shape)
        return {"w": w, "target": 0.9 * state["target"] + 0.1 * w}, {"loss/w": (w**2).mean()}

    def act(policy_state, memory, obs, key, deterministic):
        if stack > 1:
            memory = push(memory, obs)
            obs = memory["frames"].reshape(len(obs), -1)
        eps = jnp.where(deterministic, 0, 1) * jax.random.normal(key, (obs.shape[0], 2))
        return ActOutput(obs @ policy_state.params + eps, -(eps**2).sum(-1), {}, memory)

    memory = NO_MEMORY if stack == 1 else last_frame(SPEC.obs_dim, stack)
    return Learner(init, update, lambda state: PolicyState(state["w"]), act, memory, feed, None, SPEC)._replace(
        **changes
    )


def test_random_windows_are_valid():
    batch = random_batch(learner_of(REPLAY), jax.random.key(0))
    steps = batch.steps
    assert steps.obs.shape == (2, 6, 64, 8)
    last = steps.weight == 0
    ended = steps.terminated | steps.truncated
    np.testing.assert_array_equal(ended[:, :-1], last[:, 1:] & ~last[:, :-1])
    assert not (steps.terminated & steps.truncated).any()
    assert steps.terminated.any()
    assert steps.truncated.any()
    for value in (steps.reward, steps.cost):
        assert not value[last].any()
        assert not value[:, -1].any()
        assert value.any()
    assert not steps.action[last].any()
    assert not ended[:, -1].any()
    assert steps.next_obs is None
    assert batch.memory == ()
    assert batch.measured.rows.count == 10


def test_random_rollouts_are_valid():
    learner = learner_of(ROLLOUT)
    batch, again = (random_batch(learner, jax.random.key(0)) for _ in range(2))
    steps, state = batch.steps, learner.init(jax.random.split(jax.random.key(0), 3)[0])
    np.testing.assert_array_equal(steps.obs, again.steps.obs)
    assert not np.array_equal(steps.obs, random_batch(learner, jax.random.key(1)).steps.obs)
    assert steps.action.shape == (50, 4, 2)
    np.testing.assert_array_equal(steps.next_obs[:-1], steps.obs[1:])
    eps = steps.action - steps.obs @ np.asarray(state["w"])
    np.testing.assert_allclose(steps.extras["log_prob"], -(eps**2).sum(-1), rtol=1e-3, atol=1e-4)
    assert batch.measured.episodes.count == (steps.terminated | steps.truncated).sum()
    assert not (steps.terminated & steps.truncated).any()
    assert batch.measured.episodes.cost.shape == (2,)
    assert batch.measured.rows.count == 200


def counting(feed):
    """Structured observations, two choices at once, and a memory that counts the steps of the episode."""

    def act(policy_state, memory, obs, key, deterministic):
        count = memory + 1
        choice = (obs["image"].sum((1, 2, 3)).astype(jnp.int32) + count) % 2
        return ActOutput(jnp.stack([choice, choice], -1), -count.astype(jnp.float32), {}, count)

    memory = Memory(lambda n: jnp.zeros(n, jnp.int32), lambda memory, started: jnp.where(started, 0, memory))
    return learner_of(feed, act=act, memory=memory, spec=STRUCTURED)


def test_structured_observations_choices_and_memory():
    steps = random_batch(counting(ROLLOUT), jax.random.key(0)).steps
    assert (steps.obs["image"].shape, steps.obs["image"].dtype) == ((50, 4, 3, 3, 1), np.uint8)
    assert steps.obs["speed"].dtype == np.float32
    assert (steps.action.shape, steps.action.dtype) == ((50, 4, 2), np.int32)
    count = np.zeros(4)
    for t in range(50):  # the memory starts anew where an episode ended
        np.testing.assert_array_equal(-steps.extras["log_prob"][t], count + 1)
        count = np.where(steps.terminated[t] | steps.truncated[t], 0, count + 1)
    replayed = random_batch(counting(Replay(sequences=5, sequence_length=3)), jax.random.key(0))
    assert replayed.steps.action.shape == (3, 5, 2)
    check_learner(counting(ROLLOUT), jax.random.key(0))


def test_a_feed_of_ones_own():
    class Pairs(Rollouts):
        pass

    class Other:
        shape = (2, 3)

    assert random_batch(learner_of(Pairs(num_envs=3, length=2)), jax.random.key(0)).steps.reward.shape == (2, 3)
    with pytest.raises(ValueError, match="no random rows are known for a feed of type Other"):
        random_batch(learner_of(Other()), jax.random.key(0))

    @random_rows.register
    def _(feed: Other, learner, rng, keys):
        zeros = np.zeros(feed.shape, np.float32)
        return Steps(zeros, zeros, zeros, zeros, zeros > 0, zeros > 0, None, None, {}), ()

    Other.steps_per_batch = 6
    assert random_batch(learner_of(Other()), jax.random.key(0)).measured.rows.count == 6


@pytest.mark.parametrize("feed", [REPLAY, ROLLOUT])
def test_check_accepts_a_good_learner(feed):
    state, metrics = check_learner(learner_of(feed), jax.random.key(0))
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

    def random_mode(policy_state, memory, obs, key, deterministic):
        return good.act(policy_state, memory, obs, key, False)

    steady = counting(ROLLOUT)

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
        (learner_of(REPLAY, memory=NO_MEMORY, act=good.act), "needs a memory that stacks"),
        (steady._replace(memory=steady.memory._replace(reset=lambda m, s: m)), "does not start an episode"),
        (steady._replace(memory=steady.memory._replace(reset=lambda m, s: 0 * m)), "where no episode has started"),
    ]
    for learner, message in broken:
        with pytest.raises(AssertionError, match=message):
            check_learner(learner, jax.random.key(0))


def test_env_spec():
    parts = (("direction", 0, 2), ("position", 2, 4), ("time", 4, 5))
    want = EnvSpec(5, Box(2, -1.0, 3.0), num_costs=1, horizon=9, layout=parts)
    assert env_spec(ToyEnv(1, act_dim=2, horizon=9)) == want


@pytest.mark.parametrize("length", [1, 4])
def test_random_rows_of_a_data_set_are_what_the_feed_promises(length):
    names = ("initial_obs", "cost_to_go", "episode_return", "step")
    feed = Dataset(batch_size=6, updates=3, length=length, extras=names)
    learner = Learner(*4 * [None], NO_MEMORY, feed, None, EnvSpec(5, 2, num_costs=2, horizon=7))
    batch = random_batch(learner, jax.random.key(0))
    lead = (3, 6) if length == 1 else (3, 4, 6)
    assert batch.steps.reward.shape == feed.shape == lead
    assert batch.steps.cost.shape == batch.steps.extras["cost_to_go"].shape == (*lead, 2)
    assert batch.steps.next_obs.shape == batch.steps.extras["initial_obs"].shape == (*lead, 5)
    assert sorted(batch.steps.extras) == sorted(names)
    assert batch.steps.extras["step"].max() < 7
    assert not (batch.steps.terminated & batch.steps.truncated).any()
    assert (np.diff(batch.steps.weight, axis=1) <= 0).all() if length > 1 else (batch.steps.weight == 1).all()
    assert batch.ready
    assert all(not leaf.any() for leaf in jax.tree.leaves(batch.measured))


def test_a_data_set_feed_refuses_what_nobody_can_give():
    with pytest.raises(ValueError, match=r"initial'; did you mean 'initial_obs'"):
        Dataset(extras=("initial",))
    with pytest.raises(ValueError, match="did you mean 'safe'"):
        Dataset(filter="saf")
    with pytest.raises(ValueError, match="batch_size must be a multiple of the number of processes, 3, got 256"):
        Dataset().divided(3)
