"""Minibatches: no bleed across the ends of episodes, uniform, the same wherever they are gathered."""

import dataclasses

import jax
import numpy as np
import pytest
from recorded import LENGTHS, fed, rows, small

from jsafe.components.limits import CostLimit
from jsafe.data import Collector, datasets, make_collector
from jsafe.data.datasets import DatasetError, ManyDatasets, from_rows, write
from jsafe.envs.toy import ToyEnv
from jsafe.scale.devices import make_mesh, shard_map_update
from jsafe.testing import random_batch
from jsafe.types import Batch, EnvSpec

ALL = ("initial_obs", "return_to_go", "cost_to_go", "episode_return", "episode_cost", "step")


@dataclasses.dataclass(frozen=True)
class Config:
    limit: CostLimit = CostLimit(3.0)


def collected(episodes, config=None, number=0, **options):
    collector = make_collector(None, fed(episodes, config, **options), data=episodes)
    return collector.collect(None, jax.random.key(number))


@pytest.mark.parametrize("resident", [True, False])
def test_no_row_is_followed_by_that_of_another_episode(resident):
    episodes = small(2)
    batch = collected(episodes, batch_size=50, updates=4, resident=resident, extras=ALL)
    steps, extras = jax.tree.map(np.asarray, batch.steps), batch.steps.extras
    episode, step = steps.obs[..., 0].astype(int), steps.obs[..., 1].astype(int)
    assert steps.obs.shape == (4, 50, 3)
    assert steps.cost.shape == (4, 50, 2)
    np.testing.assert_array_equal(steps.next_obs, steps.obs + np.array([0, 1, 0]))
    last = step == np.array(LENGTHS)[episode] - 1
    np.testing.assert_array_equal(steps.terminated, last & (episode == 1))
    np.testing.assert_array_equal(steps.truncated, last & (episode != 1))  # what was stopped is cut
    assert {(0, True), (1, True), (2, True)} <= set(zip(episode[last], last[last]))
    np.testing.assert_array_equal(steps.reward, 10 * episode + step)
    np.testing.assert_array_equal(steps.cost[..., 1], (step + 1) % 3)
    np.testing.assert_array_equal(steps.weight, 1)
    first = np.asarray(extras["initial_obs"])
    np.testing.assert_array_equal(first[..., 1], 0)
    assert set(first[..., 0].ravel()) == {0, 1, 2}
    assert abs(np.corrcoef(first[..., 0].ravel(), episode.ravel())[0, 1]) < 0.2
    np.testing.assert_array_equal(extras["step"], step)
    left = [(sum(10 * e + t for t in range(s, LENGTHS[e]))) for e, s in zip(episode.ravel(), step.ravel())]
    np.testing.assert_array_equal(np.ravel(extras["return_to_go"]), left)
    np.testing.assert_array_equal(np.ravel(extras["episode_return"]), np.array([6, 21, 63])[episode.ravel()])
    np.testing.assert_array_equal(extras["episode_cost"][..., 0], np.array([3, 1, 3])[episode])
    assert set(steps.extras) == set(ALL)
    assert set(collected(episodes).steps.extras) == set()


def test_sums_to_go_are_discounted():
    steps = collected(small(), batch_size=200, updates=1, extras=("cost_to_go", "step"), to_go_gamma=0.5).steps
    episode, step = np.asarray(steps.obs[..., 0], int).ravel(), np.asarray(steps.extras["step"]).ravel()
    costs = [[0, 1, 2, 0], [0, 1], [0, 1, 2]]
    want = [sum(c * 0.5**i for i, c in enumerate(costs[e][s:])) for e, s in zip(episode, step)]
    np.testing.assert_allclose(np.ravel(steps.extras["cost_to_go"]), want, rtol=1e-6)


def test_windows_stay_in_their_episode():
    batch = collected(small(), batch_size=60, updates=2, length=3, extras=("initial_obs", "step"))
    steps = jax.tree.map(np.asarray, batch.steps)
    assert steps.obs.shape == (2, 3, 60, 3)
    counts = steps.weight == 1
    first, length = steps.obs[:, :1, :, 1], np.array(LENGTHS)[steps.obs[:, 0, :, 0].astype(int)]
    np.testing.assert_array_equal(counts.sum(1), np.minimum(3, length - first[:, 0]))
    np.testing.assert_array_equal(steps.obs[..., 0], np.broadcast_to(steps.obs[:, :1, :, 0], steps.obs.shape[:-1]))
    want = np.minimum(first + np.arange(3)[:, None], length[:, None] - 1)
    np.testing.assert_array_equal(steps.obs[..., 1], want)
    np.testing.assert_array_equal(steps.next_obs[..., 1], want + 1)
    assert steps.extras["initial_obs"].shape == steps.obs.shape


def test_rows_that_stand_by_themselves_have_what_followed_them():
    data = rows(lengths=(40,), ends=("truncated",))
    order = np.random.default_rng(0).permutation(39)
    episodes = from_rows(**{name: np.concatenate([value[:39][order], value[39:]]) for name, value in data.items()})
    for resident in (True, False):
        steps = collected(episodes, resident=resident).steps
        np.testing.assert_array_equal(steps.next_obs, steps.obs + np.array([0, 1, 0]))


def test_steps_and_first_observations_are_drawn_uniformly():
    batch = collected(small(), batch_size=100_000, updates=1, extras=("initial_obs",))
    place = np.asarray(batch.steps.obs[0] @ np.array([4.0, 1, 0])).astype(int)
    for drawn in (place, np.asarray(batch.steps.extras["initial_obs"][0, :, 0]).astype(int)):
        count = np.unique(drawn, return_counts=True)[1]
        expected = len(drawn) / len(count)
        chi_square = ((count - expected) ** 2 / expected).sum()
        assert chi_square < {9: 26.1, 3: 13.8}[len(count)]  # p = 1e-3 with 8 and 2 degrees of freedom


def test_the_same_key_draws_the_same_rows_wherever_they_are(assert_equal):
    episodes = small()
    for length in (1, 3):
        on, off = (collected(episodes, resident=r, length=length, extras=ALL) for r in (True, False))
        assert_equal(jax.tree.map(np.asarray, on), jax.tree.map(np.asarray, off))
    assert not np.array_equal(collected(episodes).steps.obs, collected(episodes, number=1).steps.obs)
    half = dataclasses.replace(episodes, obs=episodes.obs.astype(np.float16))
    assert collected(half).steps.obs.dtype == np.float32


def test_batches_are_of_the_shapes_that_the_random_ones_have():
    episodes = small()
    for options in ({}, {"length": 4}):
        learner = fed(episodes, extras=ALL, **options)
        batch = make_collector(None, learner, data=episodes).collect(None, jax.random.key(0))
        shapes = [
            jax.tree.map(lambda x: (x.shape, x.dtype), each)
            for each in (batch, random_batch(learner, jax.random.key(1)))
        ]
        assert isinstance(batch, Batch)
        assert shapes[0] == shapes[1]


def test_filters_are_options_of_the_feed():
    """Costs of the episodes are 3, 1 and 3."""

    def kept(config=None, **options):
        episodes = small()
        return make_collector(None, fed(episodes, config, **options), 5, data=episodes).chosen.tolist()

    assert kept() == [0, 1, 2]
    assert kept(filter="safe", filter_limit=2.0) == [1]
    assert kept(Config(), filter="safe") == [0, 1, 2]
    assert kept(Config(CostLimit(0.5, per="step")), filter="safe") == [1]  # 2 in an episode of 4 steps
    assert kept(Config(CostLimit(1.5)), filter="risky") == [0, 2]
    assert kept(Config(CostLimit(1.0)), filter="boundary") == [1]
    with pytest.raises(DatasetError, match=r"'safe' at the limit \[0\.5\] leaves none of 3 episodes, whose costs are"):
        kept(filter="safe", filter_limit=0.5)
    with pytest.raises(ValueError, match="needs a cost limit: give filter_limit"):
        kept(filter="safe")
    assert len(kept(fraction=0.7)) == 2
    assert kept(fraction=0.7) == kept(fraction=0.7)


def test_rewards_are_scaled_and_costs_are_not():
    steps = collected(small(), reward_scale="range", extras=("return_to_go", "episode_return")).steps
    scale = 4 / (63 - 6)
    place = np.asarray(10 * steps.obs[..., 0] + steps.obs[..., 1])
    np.testing.assert_allclose(steps.reward, scale * place, rtol=1e-6)
    whole = np.array([6, 21, 63])[np.asarray(steps.obs[..., 0], int)]
    np.testing.assert_allclose(steps.extras["episode_return"], scale * whole, rtol=1e-6)
    assert steps.cost.max() == 2


def test_what_does_not_fit_is_named():
    episodes = small()
    for other, message in (
        (fed(small(2)), r"the data set has 1 costs \(cost\), the learner 2"),
        (fed(episodes)._replace(spec=EnvSpec(4, 2)), "the obs space of the data set does not fit"),
    ):
        with pytest.raises(DatasetError, match=message):
            make_collector(None, other, data=episodes)
    with pytest.raises(ValueError, match="needs a data set"):
        make_collector(None, fed(episodes))
    with pytest.raises(DatasetError, match="returns, and all are equal"):
        make_collector(None, fed(episodes, reward_scale="range"), data=episodes.take([1]))


def test_a_run_goes_on_where_it_was_saved(tmp_path, assert_equal):
    write(small(), tmp_path / "set.npz")
    learner = fed(small())
    one, other = (make_collector(None, learner, data=tmp_path / "set.npz") for _ in range(2))
    assert isinstance(one, Collector)
    for i in range(2):
        one.collect(None, jax.random.key(i))
    assert (one.progress, one.env_steps, one.journal()) == (6, 0, None)
    other.load_state_dict(one.state_dict())
    assert other.progress == 6
    assert_equal(*(jax.tree.map(np.asarray, each.collect(None, jax.random.key(2))) for each in (one, other)))
    changed = make_collector(None, learner, data=small().take([0, 2, 1]))
    with pytest.raises(ValueError, match="the data set is another one: its checksum is"):
        changed.load_state_dict(one.state_dict())


def test_evaluation_reports_and_does_nothing_else(assert_equal):
    env = ToyEnv(4, act_dim=2, horizon=5)
    data = datasets.record(env, None, jax.random.key(0), episodes=6)
    learner = fed(data)
    state = learner.policy(np.float32(1))
    with_env = make_collector(env, learner, 3, data=data, eval_interval=6, eval_episodes=5)
    without = make_collector(None, learner, 3, data=data)
    seen = []
    for i in range(5):
        batches = [each.collect(state, jax.random.key(i)) for each in (with_env, without)]
        assert_equal(*batches)
        seen.append(with_env.episodes())
        assert np.isnan(without.episodes()["episode/return"])
    # Updates before each batch: 0, 3, 6, 9, 12; due after 6 and 12.
    assert [each["episode/count"] for each in seen] == [0, 0, 5, 0, 5]
    assert np.isnan(seen[1]["episode/return"])
    assert seen[2]["episode/return"] == seen[3]["episode/return"] == seen[4]["episode/return"]  # the same seed
    assert seen[2]["episode/length"] == 5
    again = make_collector(env, learner, 3, data=data, eval_interval=6, eval_episodes=5)
    again.load_state_dict(with_env.state_dict())
    again._fresh = 0.0
    assert again.episodes() == {**seen[4], "episode/count": 0.0}


def test_runs_side_by_side_draw_what_they_would_alone(assert_equal):
    episodes = small()
    learner = fed(episodes, extras=("initial_obs",))
    many = ManyDatasets(None, [learner, learner], [0, 1], data=episodes)
    keys = jax.random.split(jax.random.key(0), 2)
    batch = many.collect(None, keys)
    for r in range(2):
        alone = make_collector(None, learner, r, data=episodes).collect(None, keys[r])
        assert_equal(jax.tree.map(lambda x, r=r: np.asarray(x)[r], batch), jax.tree.map(np.asarray, alone))
    assert many.progress == 3
    with pytest.raises(DatasetError, match="keeps 3 in one and 1 in another"):
        ManyDatasets(
            None,
            [fed(episodes, Config(), filter="safe"), fed(episodes, Config(CostLimit(2.0)), filter="safe")],
            [0, 1],
            data=episodes,
        )


def test_a_policy_that_has_diverged_ends_its_run_alone():
    env = ToyEnv(2, act_dim=2, horizon=5)
    data = datasets.record(env, None, jax.random.key(0), episodes=2)
    learner = fed(data)
    many = ManyDatasets(env, [learner, learner], [0, 1], data=data, eval_interval=6, eval_episodes=2)
    states = learner.policy(np.array([1, np.nan], np.float32))
    for i in range(3):
        many.collect(states, jax.random.split(jax.random.key(i), 2))
    assert list(many.lost) == [1]
    assert str(many.lost[1]).startswith("action of environment 0 is nan in step 1 of its episode")
    assert [each["episode/count"] for each in many.episodes()] == [2, 0]


def test_devices_share_the_minibatch():
    episodes = small()
    learner = fed(episodes, batch_size=8)

    def update(state, batch, key):
        total = jax.lax.psum(batch.steps.reward.sum(), "devices")
        return state + total, {"loss/total": total}

    learner = learner._replace(update=update)
    batch = make_collector(None, learner, data=episodes).collect(None, jax.random.key(0))
    devices = jax.devices()
    placed = shard_map_update(learner, make_mesh(devices))
    _, metrics = placed(np.float32(0), batch, jax.random.key(1))
    np.testing.assert_allclose(metrics["loss/total"], batch.steps.reward.sum(), rtol=1e-6)


def test_a_data_set_that_is_too_large_stays_on_the_host(monkeypatch):
    monkeypatch.setattr(datasets.collector.ram, "available", lambda: 100)
    with pytest.warns(UserWarning, match="more than half of the device's memory"):
        collector = make_collector(None, fed(small()), data=small())
    assert not collector.resident
    assert isinstance(collector.collect(None, jax.random.key(0)).steps.obs, np.ndarray)
