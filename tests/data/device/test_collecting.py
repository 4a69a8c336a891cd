"""Collectors in the program do what the host's do with the same environments, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.components.compat import build
from jsafe.components.transforms import EarlyTermination, Saute
from jsafe.data import BadValueError, RolloutCollector, make_collector
from jsafe.data.device import DeviceCollector, Episodes, Report, collecting
from jsafe.data.replay.store import LAST
from jsafe.device import make
from jsafe.envs.device import DeviceEnv, hosted, vectorise
from jsafe.envs.device.batch import rarely
from jsafe.feeds import Replay, Rollouts

N = 5


def course(**options):
    return make("Toy-SpeedLimit-v0", **{"horizon": 7, "terminate_probability": 0.1, "act_dim": 2, **options})


def close(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path))


TRANSFORMS = {"none": None, "saute": Saute(), "early": EarlyTermination()}


@pytest.mark.parametrize("again", [False, True], ids=["runs_on", "reset_each_epoch"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_rollouts_are_those_of_the_host(make_learner, name, again):
    env, transform = course(), TRANSFORMS[name]
    built = None if transform is None else build(transform, jsafe.env_spec(env), None, "paper")
    feed = Rollouts(N, 12, reset_each_epoch=again, transform=None if built is None else built.data)
    learner = make_learner(env, feed, noise=0.5)
    policy = learner.policy(learner.init(jax.random.key(1)))
    if built is not None:
        limit = jnp.array([1.0])
        policy = policy._replace(transform=built.params(built.init(limit), limit))
    outside, inside = RolloutCollector(hosted(env, N), learner, seed=3), DeviceCollector(env, learner, seed=3)
    early = 0
    for i in range(3):
        key = jax.random.key(i)
        theirs, ours = outside.collect(policy, key), inside.collect(policy, key)
        close(ours, theirs)
        theirs, ours = outside.episodes(), inside.episodes()
        assert ours.pop("episode/count") == theirs.pop("episode/count") > 0
        close(ours, theirs)
        early += int(np.asarray(inside.world(policy).started).sum())
    assert inside.env_steps == inside.progress == outside.env_steps == 3 * 12 * N
    assert early or again


@pytest.mark.parametrize("stack", [1, 3])
def test_the_replay_holds_the_rows_of_the_host(make_learner, stack):
    env = course()
    feed = Replay(N, 4, sequences=13, sequence_length=3, frame_stack=stack, replay_rows=20, initial_rows=60, updates=2)
    learner = make_learner(env, feed, noise=0.5)
    policy = learner.policy(learner.init(jax.random.key(1)))
    outside, inside = make_collector(hosted(env, N), learner, seed=3), DeviceCollector(env, learner, seed=3)
    ready = []
    for i in range(8):
        key = jax.random.key(i)
        theirs, ours = outside.collect(policy, key), inside.collect(policy, key)
        close(ours.measured, theirs.measured)
        assert bool(ours.ready) == bool(theirs.ready)
        assert [x.shape for x in jax.tree.leaves(ours.steps)] == [x.shape for x in jax.tree.leaves(theirs.steps)]
        ready.append(bool(ours.ready))
        if not ready[-1]:
            assert not any(np.asarray(x).any() for x in jax.tree.leaves(ours.steps))
        host, kept = outside.replay.arrays(), inside.world(policy).kept
        close((kept.obs, kept.rows, kept.total, kept.age), host)
    assert ready[0] is False
    assert ready[-1] is True
    assert (np.asarray(kept.total) > 20).all()  # rows have been overwritten
    # Every window that was drawn is what the host's store shows at that place.
    store, length = outside.replay, feed.sequence_length
    rows = np.asarray(kept.rows).reshape(N, 20, -1)
    for k in range(2):
        steps = jax.tree.map(lambda x, k=k: np.asarray(x[k]), ours.steps)
        where = [_place(rows, kept, steps, b, length) for b in range(13)]
        env_of, start = (np.array(each) for each in zip(*where))
        store._draw = lambda rng, windows, starts, found=(env_of, start - (stack - 1)): found
        close(steps, store.sample(np.random.default_rng(0), 13, length))
        assert set(np.bincount(env_of, minlength=N)) == {2, 3}  # 13 windows of 5 environments


def _place(rows, kept, steps, b, length):
    """Environment and position (from the oldest row) of a window, by its actions, which are all different."""
    for e in range(N):
        for p in range(20 - length + 1):
            at = (int(kept.total[e]) + p + np.arange(length)) % 20
            acted = np.array_equal(rows[e, at, :2], steps.action[:, b])
            if acted and np.array_equal(rows[e, at, -2] != LAST, steps.weight[:, b] > 0):
                return e, p
    raise AssertionError("a window that the replay does not hold")


def test_windows_are_spread_over_the_replay(make_learner):
    env = course()
    feed = Replay(N, 4, sequences=200, sequence_length=2, replay_rows=20, initial_rows=0, updates=8)
    learner = make_learner(env, feed, noise=0.5)
    policy = learner.policy(learner.init(jax.random.key(1)))
    inside = DeviceCollector(env, learner, seed=3)
    for i in range(8):
        batch = inside.collect(policy, jax.random.key(i))
    kept = inside.world(policy).kept
    held = np.asarray(kept.obs[0]).reshape(-1, 5)
    index = {row.tobytes(): i for i, row in enumerate(held)}
    drawn = [index[row.tobytes()] for row in np.asarray(batch.steps.obs)[:, 0].reshape(-1, 5)]
    counts = np.bincount(drawn, minlength=len(held)).reshape(N, 20)
    assert (counts > 0).sum() == N * 19  # all but the newest row of each environment
    assert counts.max() < 40  # of 1600 windows, 17 for each start


def test_random_steps_come_first(make_learner):
    env = course(terminate_probability=0.0)
    feed = Replay(N, 4, sequences=4, sequence_length=2, replay_rows=40, initial_rows=0, random_steps=8 * N)
    learner = make_learner(env, feed)
    policy = learner.policy(learner.init(jax.random.key(1)))
    inside = DeviceCollector(env, learner)
    for i in range(4):
        inside.collect(policy, jax.random.key(i))
    kept = inside.world(policy).kept
    obs, rows = np.asarray(kept.obs[0]), np.asarray(kept.rows)
    follows = np.abs(np.tanh(obs @ np.asarray(policy.params)) - rows[:, :2]).max(1).reshape(N, 40) < 1e-5
    assert not follows[:, :7].any()
    assert follows[:, 9:15].all()


def test_rarely_computes_the_chosen_rows_alone():
    seen = []

    def double(x):
        jax.debug.callback(lambda x: seen.append(float(x)), x)
        return 2 * x

    x = jnp.arange(10.0)
    mask = jnp.array([False, True, False, True, True, True, False, False, False, True])
    np.testing.assert_array_equal(rarely(mask, double, (x,), -x), np.where(mask, 2 * x, -x))
    jax.effects_barrier()
    assert len(seen) == 8  # two times four rows, of ten
    none = rarely(jnp.zeros(10, bool), double, (x,), -x)
    np.testing.assert_array_equal(none, -x)
    jax.effects_barrier()
    assert len(seen) == 8
    masks = jnp.stack([mask, ~mask])
    both = jax.vmap(lambda mask: rarely(mask, lambda x: 2 * x, (x,), -x))(masks)
    np.testing.assert_array_equal(both, np.where(masks, 2 * x, -x))


def test_an_episode_does_not_depend_on_its_neighbours():
    env = vectorise(course())
    keys = jax.random.split(jax.random.key(0), (30, N))
    actions = jax.random.uniform(jax.random.key(1), (30, N, 2))

    def roll(rows):
        state, _ = env.reset(keys[0, rows])
        return jax.lax.scan(lambda state, x: env.step(state, *x), state, (actions[:, rows], keys[:, rows]))[1]

    close(jax.tree.map(lambda x: x[:, 3:4], roll(jnp.arange(N))), roll(jnp.array([3])))


def test_statistics_keep_the_newest_hundred_episodes():
    episodes = Episodes(4, 1)
    assert np.isnan(episodes.pop()["episode/return"])

    def report(count, total, finished=4):
        return Report(np.array([count, total, 2 * count, 0, count], np.float32), np.int32(finished), np.zeros(3, int))

    episodes.add(report(3, 30, finished=3))
    assert np.isnan(episodes.pop()["episode/return"])
    episodes.add(report(60, 60))
    episodes.add(report(60, 180))
    found = episodes.pop()
    assert found["episode/count"] == 120
    assert found["episode/window"] == 120
    assert found["episode/return"] == 2.0
    assert found["episode/length"] == 2.0
    assert found["episode/cost_rate"] == 0.5
    again = Episodes(4, 1)
    again.load_state_dict(episodes.state_dict())
    assert again.pop() == episodes.pop()


def test_bad_values_are_named(make_learner):
    env = course()
    cases = {"reward": 0, "cost 0 (cost_speed0)": 1, "observation": 2}
    for what, which in cases.items():

        def step(state, action, key, which=which):
            state, out = env.step(state, action, key)
            spoilt = jnp.where(state.elapsed == 3, jnp.nan, 1.0)
            fields = [("reward",), ("cost",), ("obs", "final_obs")][which]
            return state, out._replace(**{name: getattr(out, name) * spoilt for name in fields})

        bad = DeviceEnv(env.spec, env.reset, step)
        learner = make_learner(env, Rollouts(N, 6))
        policy = learner.policy(learner.init(jax.random.key(1)))
        with pytest.raises(BadValueError, match=what.replace("(", r"\(").replace(")", r"\)")):
            DeviceCollector(bad, learner).collect(policy, jax.random.key(0))


def test_what_does_not_fit(make_learner):
    env = course()
    learner = make_learner(env, Rollouts(N, 6))
    with pytest.raises(ValueError, match="does not fit the learner"):
        collecting(learner, course(act_dim=1))
    with pytest.raises(ValueError, match="nothing collects for a feed of type object"):
        collecting(learner._replace(feed=object()), env)
    with pytest.raises(ValueError, match="no closed form of Car"):
        make("SafetyCarGoal1-v0")
    with pytest.raises(ValueError, match="options of 'Toy-SpeedLimit-v0' on the device"):
        make("Toy-SpeedLimit-v0", delay=True)
    with pytest.raises(ValueError, match="backend"):
        jsafe.envs.make("Toy-SpeedLimit-v0", backend="moon")
    collector = DeviceCollector(env, learner)
    with pytest.raises(ValueError, match="saved state is not one of 5"):
        collector.load_state_dict({"world": [], "tracker": collector.tracker.state_dict(), "env_steps": 0})
