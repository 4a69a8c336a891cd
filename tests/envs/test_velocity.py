"""Velocity tasks against recordings of the official package, and the interface of batched environments."""

import json
import pathlib

import numpy as np
import pytest

import jsafe.envs
from jsafe.envs.models import joints as joints_of
from jsafe.envs.velocity import RUNNERS, VELOCITY_IDS
from jsafe.envs.velocity.state import resume, words

DATA = pathlib.Path(__file__).parent / "data"
NAMES = tuple(RUNNERS)


def _load(name):
    with np.load(DATA / "velocity.npz") as file:
        return {key.split("/")[1]: file[key] for key in file.files if key.startswith(f"{name}/")}


def _joint_state(env, qpos, qvel, warmstart):
    return {name: (qpos[q], qvel[v], warmstart[v]) for name, q, v in joints_of(env.simulation.model)}


@pytest.mark.parametrize("name", NAMES)
def test_episodes_follow_the_official_recordings(name):
    """Steps follow one another as they were recorded: the last substep's positions then are the official ones, too."""
    g = _load(name)
    env = jsafe.envs.make(f"Safety{name}Velocity-v1", num_envs=1)
    env.reset()
    for k in range(len(g["reward"])):
        before = np.concatenate([env.simulation.data[0].qpos, env.simulation.data[0].qvel])
        recorded = np.concatenate([g["s_qpos"][k], g["s_qvel"][k]])
        if g["k"][k] == 0 or np.abs(before - recorded).max() > 1e-9:  # a new episode, or the recorder changed the speed
            joints = _joint_state(env, g["s_qpos"][k], g["s_qvel"][k], g["s_qacc_warmstart"][k])
            env.set_state(0, {"time": float(g["s_time"][k]), "step": int(g["k"][k]), "joints": joints})
        out = env.step(g["action"][k][None])
        np.testing.assert_allclose(out.final_obs[0], g["obs"][k], rtol=0, atol=1e-8)
        assert out.reward[0] == pytest.approx(g["reward"][k], abs=1e-8)
        assert out.cost[0, 0] == g["cost"][k]
        assert (out.terminated[0], out.truncated[0]) == (g["terminated"][k], g["truncated"][k])
        assert out.info["x_velocity"][0] == pytest.approx(g["info_x_velocity"][k], abs=1e-8)
        if out.terminated[0]:
            env.reset()


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_gymnasiums(name):
    g = _load(name)
    first = np.flatnonzero(g["k"] == 0)
    seeds = g["seed"][first]
    obs = jsafe.envs.make(f"Safety{name}Velocity-v1", num_envs=len(first), seed=int(seeds[0])).reset()
    expected = g["obs_before"][first].copy()
    np.testing.assert_array_equal(seeds, seeds[0] + np.arange(len(seeds)))
    if name in ("Ant", "Humanoid"):
        quat = expected[:, 1:5]  # the recordings' MuJoCo leaves it as it was drawn, the package's own normalises it
        expected[:, 1:5] = quat / np.linalg.norm(quat, axis=1, keepdims=True)
    np.testing.assert_allclose(obs, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("id", sorted(VELOCITY_IDS))
def test_interface(id):
    env = jsafe.envs.make(id, num_envs=3, seed=5, num_threads=2)
    obs = env.reset()
    spec = env.spec
    assert obs.shape == (3, spec.obs_dim)
    assert spec.obs_dim == max(stop for _, stop in spec.obs_slices.values())
    out = env.step(np.zeros((3, spec.act_dim)))
    assert out.obs.shape == out.final_obs.shape == (3, spec.obs_dim)
    assert out.reward.shape == (3,)
    assert out.cost.shape == (3, 1)
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full((3, spec.act_dim), np.nan))
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()


def test_limits_and_speeds_differ_between_versions():
    """v0's swimmer looks at the speed in the plane, v1's at the forward velocity alone."""
    costs = {}
    for version in (0, 1):
        env = jsafe.envs.make(f"SafetySwimmerVelocity-v{version}", num_envs=2)
        env.reset()
        for i, velocity in enumerate(((-1.0, 0.0), (1.0, 0.0))):
            joints = env.get_state(i)["joints"]
            for name, value in zip(("slider1", "slider2"), velocity):
                joints[name] = (joints[name][0], np.array([value]), joints[name][2])
            env.set_state(i, {"joints": joints})
        costs[version] = env.step(np.zeros((2, 2))).cost[:, 0].tolist()
    assert costs == {0: [1.0, 1.0], 1: [0.0, 1.0]}


def test_results_do_not_depend_on_threads_or_neighbours():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (30, 6, 3))

    def run(rows, threads):
        env = jsafe.envs.make("SafetyHopperVelocity-v1", num_envs=len(rows), seed=10 + rows[0], num_threads=threads)
        env.reset()
        return np.stack([env.step(a[rows]).obs for a in actions])

    whole = run(list(range(6)), 1)
    np.testing.assert_array_equal(run(list(range(6)), 2), whole)
    np.testing.assert_array_equal(run([3, 4], 1), whole[:, 3:5])


@pytest.mark.parametrize("name", ["Ant", "Walker2d", "Humanoid"])
def test_saved_engines_go_on_bit_for_bit(name):
    rng = np.random.default_rng(1)
    env, other = (jsafe.envs.make(f"Safety{name}Velocity-v1", num_envs=2, seed=seed) for seed in (0, 7))
    env.reset()
    for _ in range(15):
        env.step(rng.uniform(-0.4, 0.4, (2, env.spec.act_dim)))
    env.set_state(1, {"step": 980})
    saved = env.state_dict()
    actions = rng.uniform(-0.4, 0.4, (40, 2, env.spec.act_dim))
    first = [env.step(a) for a in actions]
    assert any((step.terminated | step.truncated).any() for step in first)  # the random streams are used again
    other.load_state_dict(saved)
    np.testing.assert_array_equal(other.observe(), saved["last_obs"])
    for a, step in zip(actions, first):
        again = other.step(a)
        for x, y in zip(step[:6], again[:6]):
            np.testing.assert_array_equal(x, y)


def test_state_by_names_is_complete():
    env = jsafe.envs.make("SafetyAntVelocity-v1", num_envs=2)
    env.reset()
    rng = np.random.default_rng(2)
    for _ in range(5):
        env.step(rng.uniform(-1, 1, (2, 8)))
    env.set_state(1, env.get_state(0))
    out = env.step(np.tile(rng.uniform(-1, 1, 8), (2, 1)))
    assert out.reward[0] == out.reward[1]
    np.testing.assert_array_equal(out.obs[0], out.obs[1])


def test_stream_words_round_trip():
    stream = np.random.default_rng(3)
    stream.uniform(size=5)
    stream.integers(10, dtype=np.uint32)
    other = np.random.default_rng(9)
    resume(other, words(stream))
    np.testing.assert_array_equal(other.standard_normal(10), stream.standard_normal(10))


def test_episode_ends_after_1000_steps_and_masks_reset():
    env = jsafe.envs.make("SafetyHalfCheetahVelocity-v1", num_envs=2)
    env.reset()
    env.set_state(0, {"step": 999})
    out = env.step(np.zeros((2, 6)))
    assert out.truncated.tolist() == [True, False]
    assert not np.array_equal(out.obs[0], out.final_obs[0])
    np.testing.assert_array_equal(out.obs[1], out.final_obs[1])
    before = env.observe()
    after = env.reset(mask=np.array([False, True]))
    np.testing.assert_array_equal(after[0], before[0])
    assert not np.array_equal(after[1], before[1])


def test_divergence_is_reported_and_ends_the_episode():
    env = jsafe.envs.make("SafetyHopperVelocity-v1", num_envs=2)
    env.reset()
    joints = env.get_state(0)["joints"]
    joints["rootx"] = (joints["rootx"][0], np.array([1e12]), joints["rootx"][2])
    env.set_state(0, {"joints": joints})
    out = env.step(np.zeros((2, 3)))
    assert out.info["diverged"].tolist() == [True, False]
    assert (out.reward[0], out.cost[0, 0], out.truncated[0], out.terminated[0]) == (-10.0, 0.0, True, False)
    assert np.isfinite(out.obs).all()


@pytest.mark.parametrize("name", ["SafetyHopperVelocity-v2", "SafetyHoperVelocity-v1"])
def test_close_names_are_offered(name):
    with pytest.raises(ValueError, match="did you mean 'SafetyHopperVelocity-v"):
        jsafe.envs.make(name)


def test_models_weigh_what_gymnasiums_do():
    weights = {"HalfCheetah": 14.0, "Hopper": 15.820013, "Walker2d": 23.677137, "Swimmer": 106.81415,
               "Ant": 0.91088008, "Humanoid": 42.11603}  # fmt: skip
    for name, weight in weights.items():
        env = jsafe.envs.make(f"Safety{name}Velocity-v1")
        assert env.simulation.model.body_mass.sum() == pytest.approx(weight, rel=1e-6)
    assert json.dumps(env.spec.obs_slices["cfrc_ext"]) == "[292, 376]"
