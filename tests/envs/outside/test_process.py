"""Outside environments in worker processes: values, spaces, costs, and everything that can go wrong."""

import dataclasses
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
from outside_envs import Counter, Moody, Mute, Nested, Rich, Whole

import jsafe.envs
from jsafe.envs.outside import values
from jsafe.spaces import Box, Discrete, Tree


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


def test_spaces_pass_through(make):
    env = make(Rich, num_envs=3, num_threads=2, seed=1)
    inner = Tree({"0": Discrete((2, 2)), "1": Discrete((2, 3))})
    picture = Box((4, 3, 1), 0, 255, "uint8")
    assert env.spec.obs == Tree({"picture": picture, "speed": Box((2,), -1, 1), "gear": Discrete(3), "inner": inner})
    assert env.spec.action == Discrete((2, 3))
    assert env.spec.dt == 0.04
    assert isinstance(env, jsafe.envs.VectorEnv)
    env.reset()
    actions = np.array([[0, 2], [1, 0], [1, 1]])
    out = env.step(actions)
    for obs in (out.obs, out.final_obs, env.observe()):
        assert obs["picture"].shape == (3, 4, 3, 1)
        assert obs["picture"].dtype == np.uint8
        np.testing.assert_array_equal(obs["picture"][:, 2, 1, 0], 100 * actions[:, 0])
        np.testing.assert_array_equal(obs["speed"], [[0.5, -0.5]] * 3)
        np.testing.assert_array_equal(obs["gear"], actions[:, 1])  # counted from 0 whatever the environment does
        np.testing.assert_array_equal(obs["inner"]["0"], [[1, 0]] * 3)
        np.testing.assert_array_equal(obs["inner"]["1"], actions)
    out.obs["gear"][:] = 9
    other = make(Rich, num_envs=3, num_threads=1)
    other.load_state_dict(env.state_dict())
    np.testing.assert_array_equal(other.observe()["gear"], actions[:, 1])
    still = env.step(np.zeros((3, 2), int), mask=np.array([True, False, True]))
    np.testing.assert_array_equal(still.obs["gear"], [0, 0, 0])
    np.testing.assert_array_equal(still.obs["inner"]["1"], [[0, 0], [1, 0], [0, 0]])
    np.testing.assert_array_equal(still.info["cost_sum"], [0.25, 0.0, 0.25])
    for bad in (actions[:, 0], actions + 1, actions.astype(float), actions - 1):
        with pytest.raises(ValueError, match="actions must be"):
            env.step(bad)


def test_named_costs(make):
    env = make("python:outside_envs:Rich", num_envs=2, num_threads=1, costs="separate", render_mode="rgb_array")
    assert env.spec.cost_names == ("wear", "noise")
    env.reset()
    out = env.step(np.array([[0, 2], [1, 1]]))
    np.testing.assert_array_equal(out.cost, [[2.0, 0.25], [1.0, 0.25]])
    np.testing.assert_array_equal(out.info["cost_wear"], [2.0, 1.0])
    np.testing.assert_array_equal(out.info["cost_sum"], [2.25, 1.25])
    assert env.render(1).shape == (8, 8, 3)


def test_where_the_cost_is(make, caplog):
    with pytest.raises(ValueError, match=r"gives no info\['cost'\], but 'constraint_costs': pass cost_key="):
        make(functools.partial(Rich, cost_in="constraint_costs"), num_envs=1)
    env = make(functools.partial(Rich, cost_in="constraint_costs"), num_envs=1, cost_key="constraint_costs")
    env.reset()
    assert env.step(np.zeros((1, 2), int)).cost.tolist() == [[0.25]]
    with caplog.at_level(logging.WARNING):
        make(functools.partial(Rich, cost_in=None), num_envs=1)
    assert "gives no cost: every cost counts as 0. Its info holds no 'cost' but []" in caplog.text


def test_structured_observations_in_one_vector(make):
    env = make(Nested, flatten=True)
    assert env.spec.obs_dim == 7
    np.testing.assert_array_equal(env.reset()[0], [1, 0, 0, 0.5, 0.5, 0.5, 0.5])


def test_actions_of_whole_numbers_are_rounded(make):
    env = make(Whole, num_envs=5, num_threads=1)
    env.reset()
    out = env.step(np.array([[-1.6], [-0.6], [0.4], [0.6], [9.0]]))
    np.testing.assert_array_equal(out.reward, [-2, -1, 0, 1, 2])


def test_bad_values_end_their_episode_and_nothing_else(make, caplog):
    env = make(Moody, num_envs=2, num_threads=1, horizon=50)
    env.reset()
    words = {
        "nan_reward": "reward is nan", "none_reward": "reward must be one number, got None",
        "two_rewards": "reward must be one number, got array", "inf_obs": "observation holds inf",
        "big_obs": "observation holds 1e+30", "short_obs": "observation has shape (2,), its space says (4,)",
        "nan_cost": "cost must be finite numbers, got nan", "none_cost": "cost must be finite numbers, got None",
        "long_cost": "cost must have 1 number, as in the first step",
    }  # fmt: skip
    for mood, name in enumerate(Moody.MOODS):
        last = env.step(np.zeros(2, int)).obs
        with caplog.at_level(logging.WARNING):
            out = env.step(np.array([mood, 0]))
        wrong = name in words
        assert out.info["crashed"].tolist() == out.truncated.tolist() == [wrong, False], name
        assert out.reward.tolist() == [0.0 if wrong else 1.0, 1.0]
        assert all(np.isfinite(x).all() for x in out[:6])
        if wrong:
            np.testing.assert_array_equal(out.final_obs[0], last[0])
            np.testing.assert_array_equal(out.obs[0, 2], 0)
            assert env.failures[-1][0] == [0]
            assert env.failures[-1][1].startswith(words[name])
            assert env.failures[-1][1].endswith(f"at step {int(last[0, 2]) + 1} of its episode")
    assert env.failed == len(words)
    assert "cost is [-1.0] in environment 0" in caplog.text
    assert "info holds no cost, as it did in the first step, in environment 0. A step without costs" in caplog.text
    for _ in range(3):
        env.step(np.full(2, 2))
    with pytest.raises(jsafe.envs.WorkerError, match="reward is nan, at step 1 of its episode; 4 times in a row"):
        env.step(np.full(2, 2))


def test_bad_values_may_stop_everything(make):
    env = make(Moody, num_envs=2, num_threads=1, bad_values="stop")
    env.reset()
    with pytest.raises(jsafe.envs.WorkerError, match="environment 1 of 'python:outside_envs:Moody': reward is nan"):
        env.step(np.array([0, 2]))


def test_a_traceback_is_legible_however_long_its_lines_are():
    assert values.legible("one\n" + 9000 * "x" + "\ntwo", width=3) == "one\nxxx... (9000 letters)\ntwo"


def test_lambdas_work(make):
    env = make(lambda: Counter(length=1), num_envs=1)
    env.reset()
    assert env.step(np.zeros((1, 2))).terminated.all()


@pytest.mark.parametrize(("trouble", "words"), [
    ("raise", "ArithmeticError: too much for me"), ("die", "killed by signal 9"), ("exit", "exit status 3"),
    ("hang", "it did nothing for step_timeout = 1 s"),
])  # fmt: skip
def test_a_worker_that_dies_is_reported_and_replaced(make, caplog, trouble, words):
    env = make(functools.partial(Counter, length=50, trouble=trouble), horizon=50, seed=3, step_timeout=1.0)
    env.reset()
    last = env.step(np.zeros((4, 2))).obs
    actions = np.zeros((4, 2))
    actions[1, 0] = 1.0
    with caplog.at_level(logging.ERROR):
        out = env.step(actions)
    assert words in caplog.text
    assert [rows for rows, _ in env.failures] == [[0, 1]]
    assert env.failures[0][1].splitlines()[0].endswith(f"{words}{')' * (trouble != 'raise')}, in environment 1")
    assert ("time.sleep" in env.failures[0][1] or "in step" in env.failures[0][1]) == (trouble in ("raise", "hang"))
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
    env = make(functools.partial(Counter, trouble="raise"), num_envs=2, num_threads=1)
    env.reset()
    for _ in range(3):
        assert env.step(np.ones((2, 2))).info["crashed"].all()
    with pytest.raises(jsafe.envs.WorkerError, match="too much for me"):
        env.step(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"cannot be made: KeyError: 'no reset today'\nTraceback"):
        make(functools.partial(Counter, trouble="reset"))


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
    ({"id": "gymnasium:"}, "must be one of 'gymnasium:ID'"),
    ({"id": "python:Counter"}, "must be 'python:MODULE:FUNCTION'"),
    ({"id": "gymnasium:Pendulum-v1", "step_timeout": 0}, "step_timeout must be positive"),
    ({"id": "gymnasium:Pendulum-v1", "bad_values": "keep"}, "bad_values must be"),
    ({"id": "gymnasium:Pendulum-v1", "num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
    ({"id": "gymnasium:Pendulum-v1", "costs": "all"}, "costs must be"),
    ({"id": "gymnasium:Pendulum-v1", "gravitas": 3}, "gravitas"),
    ({"id": "gymnasium:Pendulum-v1", "horizon": -1}, "horizon must be an integer of at least 1, got -1"),
    ({"id": Counter}, "pass horizon=..."),
    ({"id": Mute, "horizon": 5}, "must have finite bounds"),
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
    """Also one that hangs, and has no time limit."""
    code = """
import functools, os, threading, time, numpy as np, jsafe.envs, outside_envs
hanging = functools.partial(outside_envs.Counter, trouble="hang")
env = jsafe.envs.make(hanging, 2, num_threads=2, horizon=9, step_timeout=None)
env.reset()
threading.Thread(target=env.step, args=(np.array([[0.0, 0.0], [1.0, 0.0]]),), daemon=True).start()
time.sleep(0.3)
print(*(w.process.pid for w in env._workers), flush=True)
os._exit(0)
"""
    here = {"PYTHONPATH": os.pathsep.join([str(pathlib.Path(__file__).parent), *filter(None, sys.path)])}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True, env=os.environ | here
    )
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
    from jsafe.envs.outside import shim

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
