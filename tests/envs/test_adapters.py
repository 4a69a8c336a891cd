"""Outside environments in worker processes, and our tasks as Gymnasium environments."""

import functools
import logging
import os
import pathlib
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from outside_envs import Counter, Nested, Switch

import jsafe.envs


@pytest.fixture
def make():
    """`jsafe.envs.make` with one worker for each two environments; closes what it made."""
    made = []

    def make(factory, num_envs=4, num_threads=2, horizon=4, **options):
        env = jsafe.envs.make(factory, num_envs, num_threads=num_threads, horizon=horizon, **options)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()


def test_a_registered_environment_steps_as_by_itself(make):
    env = make("gymnasium:Pendulum-v1", num_envs=3, horizon=None, seed=5)
    assert env.spec.horizon == 200
    assert (env.spec.action_low, env.spec.action_high) == ((-2.0,), (2.0,))
    obs = env.reset()
    alone = [gymnasium.make("Pendulum-v1") for _ in range(3)]
    np.testing.assert_array_equal(obs, [e.reset(seed=5 + i)[0] for i, e in enumerate(alone)])
    rng = np.random.default_rng(0)
    for _ in range(3):
        actions = rng.uniform(-2, 2, (3, 1)).astype(np.float32)
        out = env.step(actions)
        results = [e.step(a) for e, a in zip(alone, actions)]
        np.testing.assert_array_equal(out.obs, [r[0] for r in results])
        np.testing.assert_allclose(out.reward, [r[1] for r in results])
        assert (out.cost == 0).all()


@pytest.mark.parametrize("results", [5, 6])
def test_costs_of_both_kinds_of_step(make, results):
    env = make(functools.partial(Counter, results=results))
    env.reset()
    actions = np.array([[0.1, 0.5], [0.2, 0.0], [0.3, 1.0], [0.4, 3.0]])
    out = env.step(actions)
    np.testing.assert_allclose(out.reward, actions[:, 0])
    np.testing.assert_allclose(out.cost[:, 0], [0.5, 0.0, 1.0, 2.0])  # the last one is clipped to its box
    np.testing.assert_allclose(out.info["cost_sum"], out.cost[:, 0])
    assert not out.info["success"].any()
    assert env.step(actions).info["success"].all()


def test_vector_costs_summed_or_separate(make):
    actions = np.tile([0.0, 0.5], (4, 1))
    env = make(functools.partial(Counter, costs=3))
    env.reset()
    np.testing.assert_allclose(env.step(actions).cost, np.full((4, 1), 4.5))
    env = make(functools.partial(Counter, costs=3, results=6), costs="separate")
    assert env.spec.cost_names == ("cost0", "cost1", "cost2")
    assert env.reset()[0, 1] == 1  # the step that counted the costs left no trace
    np.testing.assert_allclose(env.step(actions).cost, np.tile([0.5, 1.5, 2.5], (4, 1)))


def test_new_episodes_begin_in_the_same_step(make):
    env = make(functools.partial(Counter, length=2), seed=10)
    env.reset()
    env.step(np.zeros((4, 2)))
    out = env.step(np.zeros((4, 2)))
    assert out.terminated.all()
    np.testing.assert_array_equal(out.final_obs[:, 1:3], np.tile([1, 2], (4, 1)))  # episode, step
    np.testing.assert_array_equal(out.obs[:, :3], [[10 + i, 2, 0] for i in range(4)])
    np.testing.assert_array_equal(env.observe(), out.obs)


def test_seeds_and_masks(make):
    env = make(Counter, seed=7)
    first = env.reset()
    np.testing.assert_array_equal(first[:, 0], [7, 8, 9, 10])
    again = env.reset()
    np.testing.assert_array_equal(again[:, 1], 2)
    assert (again[:, 3] != first[:, 3]).all()
    some = env.reset(mask=np.array([False, True, True, False]))
    np.testing.assert_array_equal(some[:, 1], [2, 3, 3, 2])
    np.testing.assert_array_equal(env.reset(seed=7), first)


def test_horizon_truncates(make):
    env = make(functools.partial(Counter, length=100), horizon=3)
    env.reset()
    flags = [env.step(np.zeros((4, 2))).truncated.all() for _ in range(6)]
    assert flags == [False, False, True, False, False, True]


def test_nested_observations_are_flattened(make):
    env = make(Nested)
    assert env.spec.obs_dim == 7
    np.testing.assert_array_equal(env.reset()[0], [1, 0, 0, 0.5, 0.5, 0.5, 0.5])


def test_lambdas_work(make):
    env = make(lambda: Counter(length=1), num_envs=1)
    env.reset()
    assert env.step(np.zeros((1, 2))).terminated.all()


@pytest.mark.parametrize(("trouble", "words"), [
    ("raise", "ArithmeticError: too much for me"), ("die", "killed by signal 9"), ("exit", "exit status 3"),
])  # fmt: skip
def test_a_worker_that_dies_is_reported_and_replaced(make, caplog, trouble, words):
    env = make(functools.partial(Counter, length=50, trouble=trouble), horizon=50, seed=3)
    env.reset()
    last = env.step(np.zeros((4, 2))).obs
    actions = np.zeros((4, 2))
    actions[1, 0] = 1.0
    with caplog.at_level(logging.ERROR):
        out = env.step(actions)
    assert words in caplog.text
    assert [rows for rows, _ in env.failures] == [[0, 1]]
    assert words in env.failures[0][1]
    assert out.info["crashed"].tolist() == out.truncated.tolist() == [True, True, False, False]
    assert not out.terminated.any()
    np.testing.assert_array_equal(out.final_obs[:2], last[:2])
    np.testing.assert_array_equal(out.obs[:2, 1:3], [[1, 0], [1, 0]])  # new episodes, with seeds of their own
    assert not set(out.obs[:2, 0]) & {3, 4, 5, 6}
    np.testing.assert_array_equal(out.obs[2:, 2], [2, 2])
    again = env.step(np.zeros((4, 2)))
    assert not again.info["crashed"].any()
    np.testing.assert_array_equal(again.obs[:, 2], [1, 1, 3, 3])


def test_endless_failures_are_raised(make):
    env = make(functools.partial(Counter, trouble="raise"))
    env.reset()
    for _ in range(3):
        assert env.step(np.ones((4, 2))).info["crashed"].all()
    with pytest.raises(jsafe.envs.WorkerError, match="too much for me"):
        env.step(np.ones((4, 2)))
    with pytest.raises(jsafe.envs.WorkerError, match="no reset today"):
        make(functools.partial(Counter, trouble="reset")).reset()


def test_resuming_cuts_episodes(make):
    env, other = (make(functools.partial(Counter, length=50), horizon=50) for _ in range(2))
    env.reset()
    for _ in range(3):
        last = env.step(np.zeros((4, 2))).obs
    other.load_state_dict(env.state_dict())
    np.testing.assert_array_equal(other.observe(), last)
    out = other.step(np.ones((4, 2)))
    assert out.truncated.all()
    assert (out.reward == 0).all()
    np.testing.assert_array_equal(out.final_obs, last)
    np.testing.assert_array_equal(out.obs[:, 2], 0)
    assert not set(out.obs[:, 0]) & {0, 1, 2, 3}
    out = other.step(np.ones((4, 2)))
    assert not out.truncated.any()
    np.testing.assert_array_equal(out.obs[:, 2], 1)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"id": "gymnasium:Nothing-v0"}, "cannot be made"),
    ({"id": "gymnasum:Pendulum-v1"}, "did you mean 'gymnasium'"),
    ({"id": "gymnasium:"}, "must be 'gymnasium:ID'"),
    ({"id": "gymnasium:Pendulum-v1", "num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
    ({"id": "gymnasium:Pendulum-v1", "costs": "all"}, "costs must be"),
    ({"id": "gymnasium:Pendulum-v1", "gravitas": 3}, "gravitas"),
    ({"id": "gymnasium:Pendulum-v1", "horizon": -1}, "horizon must be an integer of at least 1, got -1"),
    ({"id": Counter}, "pass horizon=..."),
    ({"id": Switch, "horizon": 5}, "must be a Box, got Discrete"),
])  # fmt: skip
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        jsafe.envs.make(**arguments)


def test_bad_actions_and_states_change_nothing(make):
    env = make(Counter)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros((4, 2)))
    env.reset()
    for actions in (np.zeros((4, 3)), np.full((4, 2), np.nan), [["a", "b"]] * 4, None):
        with pytest.raises(ValueError, match="actions must"):
            env.step(actions)
    for change in ({"id": "x"}, {"num_envs": 3}, {"seed": -1}, {"restarts": None}, {"last_obs": np.zeros(3)}):
        with pytest.raises(ValueError):
            env.load_state_dict(env.state_dict() | change)
    np.testing.assert_array_equal(env.step(np.zeros((4, 2))).obs[:, 1:3], np.tile([1, 1], (4, 1)))


def test_processes_end_with_the_environment(make):
    env = make(Counter)
    processes = [w.process for w in env._workers]
    env.close()
    assert all(p.poll() is not None for p in processes)
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()


def test_processes_end_with_their_parent():
    code = (
        "import os, jsafe.envs; env = jsafe.envs.make('gymnasium:Pendulum-v1', 2, num_threads=2); env.reset();"
        "print(*(w.process.pid for w in env._workers), flush=True); os._exit(0)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    pids = [int(p) for p in out.stdout.split()]
    assert len(pids) == 2
    end = time.time() + 20
    while any(_alive(pid) for pid in pids) and time.time() < end:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid):
    state = pathlib.Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_pictures(make):
    env = make("gymnasium:Pendulum-v1", num_envs=2)
    env.reset()
    with pytest.raises(ValueError, match="render_mode='rgb_array'"):
        env.render(1)


@pytest.mark.skipif("JSAFE_OFFICIAL_PYTHON" not in os.environ, reason="needs an interpreter with safety-gymnasium")
@pytest.mark.parametrize("id", [f"Safety{name}-v0" for name in ("PointGoal2", "CarButton1", "DoggoPush1", "AntRun0")])
def test_the_official_package_agrees(make, id):
    """Whole rollouts of the official package on the same MuJoCo, through its shim."""
    python = os.environ["JSAFE_OFFICIAL_PYTHON"]
    theirs = make(f"safety_gymnasium:{id}", num_envs=2, horizon=None, seed=21, python=python)
    ours = jsafe.envs.make(id, num_envs=2, seed=21)
    assert theirs.spec.horizon == ours.spec.horizon
    np.testing.assert_allclose(theirs.reset(), ours.reset(), atol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.uniform(-1, 1, (2, ours.spec.act_dim))
        a, b = theirs.step(actions), ours.step(actions)
        np.testing.assert_allclose(a.final_obs, b.final_obs, atol=1e-5)
        np.testing.assert_allclose(a.reward, b.reward, atol=1e-6)
        np.testing.assert_array_equal(a.cost, b.cost)
        np.testing.assert_array_equal(a.terminated, b.terminated)


def test_shim_repairs_dataclasses():
    sys.path.insert(0, str(pathlib.Path(jsafe.envs.__file__).parent / "adapters"))
    try:
        import shim
    finally:
        sys.path.pop(0)
    import dataclasses

    original = dataclasses.dataclass
    with shim._array_defaults():

        @dataclasses.dataclass
        class Thing:
            colour: np.ndarray = np.ones(3)  # noqa: RUF009
            size: float = 1.0

    a, b = Thing(), Thing()
    a.colour[0] = 5
    assert b.colour.tolist() == [1, 1, 1]
    assert dataclasses.dataclass is original
    assert shim._scalar(np.array([2.5])) == 2.5


# ---- our tasks outside -----------------------------------------------------------------------------------------------

IDS = ["SafetyPointGoal1-v0", "SafetyCarButton2-v0", "SafetyAntRun0-v0", "SafetyHopperVelocity-v1",
       "Safexp-PointGoal1-v0"]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*Box observation space.*infinity")
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
def test_vector_environment(safety):
    env = jsafe.envs.as_gymnasium("SafetyHopperVelocity-v1", safety=safety, num_envs=3)
    obs, _ = env.reset(seed=2)
    assert env.observation_space.contains(obs)
    assert env.single_action_space.shape == (3,)
    ended = False
    for _ in range(60):
        *result, info = env.step(env.action_space.sample())
        assert len(result) == (5 if safety else 4)
        done = result[-1] | result[-2]
        key = "final_observation" if safety else "final_obs"
        assert (key in info) == done.any()
        if done.any():
            ended = True
            assert not np.array_equal(info[key][done], result[0][done])
            np.testing.assert_array_equal(info[key][~done], result[0][~done])
    assert ended
    env.close()


def test_as_gymnasium_checks_its_arguments():
    with pytest.raises(ValueError, match="render_mode"):
        jsafe.envs.as_gymnasium("SafetyPointGoal1-v0", render_mode="human")
    with pytest.raises(ValueError, match="did you mean"):
        jsafe.envs.as_gymnasium("SafetyPointGaol1-v0")
    with pytest.raises(ValueError, match="num_envs"):
        jsafe.envs.as_gymnasium("SafetyPointGoal1-v0", num_envs=0)
