"""Our tasks as Gymnasium environments."""

import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import vector as wrappers

import jsafe.envs
from jsafe.envs.export.registration import register_all

IDS = ["SafetyPointGoal1-v0", "SafetyCarButton2-v0", "SafetyAntRun0-v0", "SafetyHopperVelocity-v1",
       "Safexp-PointGoal1-v0", "Toy-SpeedLimit-v0", "Toy-Grid-v0", "Toy-Recall-v0", "Toy-Image-v0"]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*Box (observation|action) space")
@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_checker_is_content(id):
    env = jsafe.envs.as_gymnasium(id)
    check_env(env, skip_render_check=True)
    env.close()


def test_single_environment_follows_the_engine():
    env, engine = jsafe.envs.as_gymnasium("SafetyPointRun0-v0"), jsafe.envs.make("SafetyPointRun0-v0")
    obs, info = env.reset(seed=4)
    np.testing.assert_array_equal(obs, engine.reset(seed=4)[0])
    assert info == {}
    rng = np.random.default_rng(1)
    for _ in range(2):
        for t in range(500):
            action = rng.uniform(-1, 1, 2)
            obs, reward, terminated, truncated, info = env.step(action)
            out = engine.step(action[None])
            np.testing.assert_array_equal(obs, out.final_obs[0])
            assert (reward, info["cost"], terminated) == (out.reward[0], out.cost[0, 0], False)
            assert truncated == (t == 499)
        with pytest.raises(RuntimeError, match="reset"):
            env.step(action)
        np.testing.assert_array_equal(env.reset()[0], out.obs[0])  # the stream goes on as the engine's
    assert info["cost_out_of_boundary"] in (0.0, 1.0)


def test_six_results_and_separate_costs():
    env = jsafe.envs.as_gymnasium("SafetyPointGoal2-v0", safety=True, costs="separate")
    env.reset(seed=0)
    result = env.step(env.action_space.sample())
    assert len(result) == 6
    assert result[2].shape == (2,)
    assert isinstance(result[5]["cost_sum"], float)


@pytest.mark.parametrize("safety", [False, True])
def test_same_step(safety):
    env = jsafe.envs.as_gymnasium("SafetyHopperVelocity-v1", safety=safety, num_envs=3)
    obs, _ = env.reset(seed=2)
    assert env.observation_space.contains(obs)
    assert env.single_action_space.shape == (3,)
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    ended = False
    for _ in range(60):
        *result, info = env.step(env.action_space.sample())
        assert len(result) == (5 if safety else 4)
        done = result[-1] | result[-2]
        key = "final_observation" if safety else "final_obs"
        assert (key in info) == ("final_info" in info) == done.any()
        if done.any():
            ended = True
            assert not np.array_equal(info[key][done], result[0][done])
            np.testing.assert_array_equal(info[key][~done], result[0][~done])
            last = info["final_info"]
            np.testing.assert_array_equal(last["_x_velocity"], done)
            np.testing.assert_array_equal(last["x_velocity"], np.where(done, info["x_velocity"], 0))
    assert ended
    env.close()


@pytest.mark.parametrize("autoreset", ["next_step", "disabled"])
def test_other_autoresets_have_the_episodes_of_single_environments(autoreset):
    """Each row sees, one after the other, what a single environment of its seed sees with the same actions."""
    env = jsafe.envs.as_gymnasium("SafetyHopperVelocity-v1", num_envs=3, autoreset=autoreset)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 3, 3))
    obs, _ = env.reset(seed=5)
    seen, taken, held = [[row] for row in obs], [[], [], []], np.zeros(3, bool)
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        done = terminated | truncated
        assert not done[held].any()
        assert (reward[held] == 0).all()
        for i in range(3):
            seen[i].append(obs[i])
            if not held[i]:
                taken[i].append(action[i])
        held = done if autoreset == "next_step" else held
        if autoreset == "disabled" and done.any():
            with pytest.raises(RuntimeError, match="are over: reset"):
                env.step(action)
            obs, _ = env.reset(options={"reset_mask": done})
            for i in np.flatnonzero(done):
                seen[i].append(obs[i])
    single = jsafe.envs.as_gymnasium("SafetyHopperVelocity-v1")
    for i in range(3):
        expected = [single.reset(seed=5 + i)[0]]
        for action in taken[i]:
            obs, _, terminated, truncated, _ = single.step(action)
            expected.append(obs)
            if terminated or truncated:
                expected.append(single.reset()[0])
        np.testing.assert_array_equal(seen[i], expected[: len(seen[i])])
        assert len(seen[i]) > 61 - (autoreset == "next_step")


def test_masks_and_lists_of_seeds():
    env = jsafe.envs.as_gymnasium("SafetyPointGoal1-v0", num_envs=3)
    obs, _ = env.reset(seed=[7, 3, 9])
    np.testing.assert_array_equal(obs[1], jsafe.envs.as_gymnasium("SafetyPointGoal1-v0").reset(seed=3)[0])
    mask = np.array([False, True, False])
    some, _ = env.reset(options={"reset_mask": mask})
    assert [np.array_equal(a, b) for a, b in zip(obs, some)] == (~mask).tolist()
    for bad in ({"seed": [1, 2]}, {"seed": [1, -2, 3]}, {"options": {"reset_mask": [True]}}):
        with pytest.raises(ValueError, match=r"seed|mask"):
            env.reset(**bad)


def test_environments_can_be_pickled():
    for options in ({"num_envs": 2, "autoreset": "next_step"}, {}):
        env = jsafe.envs.as_gymnasium("Toy-Recall-v0", delay=1, **options)
        assert pickle.loads(pickle.dumps(env)).action_space == env.action_space
        env.reset(seed=3)
        for _ in range(2):  # in the batch, the next step only looks at new episodes
            env.step(np.zeros(2, int) if options else 0)
        if not options:
            env.reset()
        other = pickle.loads(pickle.dumps(env))
        for x, y in zip(*(e.step(np.ones(2, int) if options else 1)[:4] for e in (env, other))):
            np.testing.assert_array_equal(x, y)


def test_gymnasiums_wrappers_work_on_the_next_step_mode():
    env = jsafe.envs.as_gymnasium("SafetyHopperVelocity-v1", num_envs=3, autoreset="next_step")
    env = wrappers.NormalizeObservation(wrappers.RecordEpisodeStatistics(env))
    env.reset(seed=0)
    env.action_space.seed(0)
    lengths = []
    for _ in range(60):
        *_, info = env.step(env.action_space.sample())
        if "episode" in info:
            lengths += info["episode"]["l"][info["_episode"]].tolist()
    assert len(lengths) >= 3
    assert all(5 < length < 60 for length in lengths)


def test_gymnasium_makes_them_by_name():
    register_all()
    with gymnasium.envs.registration.namespace("jsafe"), warnings.catch_warnings():  # as from its table of plugins
        warnings.simplefilter("error")
        gymnasium.registry.pop("jsafe/SafetyPointGoal1-v0")
        register_all()
    env = gymnasium.make("jsafe/SafetyPointGoal1-v0", costs="separate")
    np.testing.assert_array_equal(env.reset(seed=2)[0], jsafe.envs.make("SafetyPointGoal1-v0", seed=2).reset()[0])
    many = gymnasium.make_vec("jsafe/Toy-Grid-v0", num_envs=3, autoreset="disabled")
    assert many.reset()[0].shape == (3, 25)
    code = (
        "import sys; from jsafe.envs.export.registration import register_all; register_all();"
        "print([name for name in ('mujoco', 'jax') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert out.stdout == "[]\n"  # Gymnasium calls it whenever it is imported


def test_as_gymnasium_checks_its_arguments():
    with pytest.raises(ValueError, match="render_mode"):
        jsafe.envs.as_gymnasium("SafetyPointGoal1-v0", render_mode="human")
    with pytest.raises(ValueError, match="did you mean"):
        jsafe.envs.as_gymnasium("SafetyPointGaol1-v0")
    with pytest.raises(ValueError, match="num_envs"):
        jsafe.envs.as_gymnasium("SafetyPointGoal1-v0", num_envs=0)
    with pytest.raises(ValueError, match="unknown autoreset 'next'; did you mean 'next_step'"):
        jsafe.envs.as_gymnasium("SafetyPointGoal1-v0", num_envs=2, autoreset="next")
