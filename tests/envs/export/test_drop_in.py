"""Code that imports safety_gymnasium runs on this engine."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from jsafe.envs import as_gymnasium  # noqa: E402
from jsafe.envs.export import drop_in, wrappers  # noqa: E402

import safety_gymnasium  # noqa: E402  isort: skip
from safety_gymnasium.vector.async_vector_env import SafetyAsyncVectorEnv  # noqa: E402  isort: skip
from safety_gymnasium.wrappers import (  # noqa: E402  isort: skip
    Gymnasium2SafetyGymnasium,
    SafeAutoResetWrapper,
    SafeNormalizeObservation,
    SafeRescaleAction,
    SafetyGymnasium2Gymnasium,
    SafeUnsqueeze,
)

ID = "SafetyPointGoal1-v0"


@pytest.fixture(scope="module", autouse=True)
def _put_away():
    """Other tests in this process find no such package, as before."""
    yield
    for name in drop_in.modules():
        sys.modules.pop(name, None)


def test_one_environment_has_six_results_and_begins_anew():
    env = safety_gymnasium.make(ID, autoreset=True, max_episode_steps=3)
    plain = as_gymnasium(ID, safety=True)
    assert env.observation_space == plain.observation_space
    np.testing.assert_array_equal(env.reset(seed=4)[0], plain.reset(seed=4)[0])
    action = np.array([0.5, -0.2])
    for t in range(3):
        got, want = env.step(action), plain.step(action)
        assert got[1:4] == want[1:4]
        assert got[4] == (t == 2)
    np.testing.assert_array_equal(got[5]["final_observation"], want[0])
    assert not np.array_equal(got[0], want[0])


def test_a_batch_is_one_engine_however_it_is_asked_for():
    def one():
        return SafeRescaleAction(safety_gymnasium.make(ID), -1.0, 1.0)

    batches = [SafetyAsyncVectorEnv([one] * 3), safety_gymnasium.vector.make(env_id=ID, num_envs=3)]
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 2))
    firsts = [batch.reset(seed=7)[0] for batch in batches]
    steps = [batch.step(actions) for batch in batches]
    np.testing.assert_array_equal(*firsts)
    for a, b in zip(*(step[:5] for step in steps), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape[0] == 3
    assert batches[0].single_action_space.shape == (2,)
    assert batches[0].action_space.shape == (3, 2)
    assert batches[0].engine.num_envs == 3


def test_environments_that_differ_cannot_be_a_batch():
    makes = [lambda: safety_gymnasium.make(ID), lambda: safety_gymnasium.make("SafetyPointGoal2-v0")]
    with pytest.raises(ValueError, match="must be alike"):
        SafetyAsyncVectorEnv(makes)
    with pytest.raises(ValueError, match="got SafeAutoResetWrapper"):
        SafetyAsyncVectorEnv([lambda: safety_gymnasium.make(ID, autoreset=True)])


def test_actions_are_rescaled_to_the_box():
    env = SafeRescaleAction(safety_gymnasium.make(ID), 0.0, 10.0)
    np.testing.assert_allclose(env.rescale([0.0, 7.5]), [-1.0, 0.5])
    assert env.action_space.high.tolist() == [10.0, 10.0]
    with pytest.raises(ValueError, match="min_action must be below"):
        SafeRescaleAction(safety_gymnasium.make(ID), 1.0, 1.0)


def test_safepos_chain_of_wrappers():
    env = SafeAutoResetWrapper(safety_gymnasium.make(ID, max_episode_steps=2))
    env = SafeUnsqueeze(SafeNormalizeObservation(SafeRescaleAction(env, -1.0, 1.0)))
    obs, _ = env.reset(seed=0)
    seen = [obs[0]]
    for _ in range(2):
        obs, reward, cost, terminated, truncated, info = env.step(np.zeros((1, 2)))
        assert obs.shape == (1, 60)
        assert reward.shape == cost.shape == terminated.shape == truncated.shape == (1,)
        seen.append(obs[0])
    assert truncated[0]
    assert info["final_observation"].shape == (1, 60)
    statistics = env.env.obs_rms
    assert statistics.count == pytest.approx(3, abs=1e-3)
    assert np.abs(seen[0]).max() < 1e-2  # the first one is its own mean


def test_running_statistics_are_those_of_all_rows():
    statistics, rows = wrappers._RunningStatistics((2,)), np.random.default_rng(0).normal(3.0, 2.0, (500, 2))
    for part in np.split(rows, [1, 40, 333]):
        statistics.update(part)
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics.var, rows.var(axis=0), rtol=1e-4)


def test_five_results_and_back():
    five = SafetyGymnasium2Gymnasium(safety_gymnasium.make(ID))
    five.reset(seed=1)
    results = five.step(np.zeros(2))
    assert len(results) == 5
    assert results[4]["cost"] == 0.0
    six = Gymnasium2SafetyGymnasium(SafetyGymnasium2Gymnasium(safety_gymnasium.make(ID)))
    six.reset(seed=1)
    np.testing.assert_array_equal(six.step(np.zeros(2))[0], results[0])
    named = gymnasium.make("SafetyPointGoal1Gymnasium-v0")
    named.reset(seed=1)
    np.testing.assert_array_equal(named.step(np.zeros(2))[0], results[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "SafetyPointGoal9-v0"}, "unknown environment 'SafetyPointGoal9-v0'; did you mean"),
        ({"id": ID, "config": {"agent_name": "Car"}}, r"config changes the task.*agent_name"),
        ({"id": ID, "max_episode_steps": 0}, "max_episode_steps must be a positive integer"),
        ({"id": ID, "render_mode": "human"}, "render_mode"),
    ],
)
def test_what_is_not_there_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        safety_gymnasium.make(**options)


def test_the_official_package_is_not_replaced_behind_its_back(monkeypatch):
    drop_in.install()  # again: harmless
    monkeypatch.setitem(sys.modules, "safety_gymnasium", type(sys)("safety_gymnasium", "the official one"))
    with pytest.raises(RuntimeError, match="imported already"):
        drop_in.install()


def test_a_script_runs_without_a_line_changed(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, safety_gymnasium as s\n"
        "env = s.vector.make(sys.argv[1], num_envs=2)\n"
        "env.reset(seed=0); print(len(env.step(env.action_space.sample())), env.num_envs, s.__version__)\n"
    )
    words = [sys.executable, "-m", "jsafe.envs.export.drop_in", str(script), ID]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["6", "2", "1.0.0"]


def test_they_can_be_sent_to_other_processes():
    env = safety_gymnasium.make(ID)
    env.reset(seed=3)
    again = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(env.step(np.ones(2))[0], again.step(np.ones(2))[0])
