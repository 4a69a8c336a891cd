"""Circle and Run: rewards and costs from their formulas."""

import numpy as np
import pytest

import jsafe.envs
from jsafe.envs.safety_gym.robots import ROBOTS
from jsafe.envs.safety_gym.tasks import TASKS, Scene


def scene(pos, vel=None, memory=None):
    n = len(pos)
    velocity = np.zeros((n, 1, 3)) if vel is None else np.asarray(vel, float)[:, None]
    return Scene(np.asarray(pos, float), np.tile(np.eye(3), (n, 1, 1)), {}, {}, {"agent": velocity}, {}, memory or {})


def test_circle_pays_for_counterclockwise_speed_near_the_circle():
    task = TASKS["Circle"][0](ROBOTS["Point"], 0)
    positions = [[1.5, 0, 0.1], [0, 1.5, 0.1], [3.0, 0, 0.1], [1.5, 0, 0.1]]
    velocities = [[0, 2, 0], [2, 0, 0], [0, 2, 0], [2, 0, 5]]
    rewards = task.reward(scene(positions, velocities), {}, None)
    np.testing.assert_allclose(rewards, [0.2, -0.2, 0.2 / 2.5, 0.0], atol=1e-15)


@pytest.mark.parametrize(
    ("level", "crossed"), [(0, []), (1, [False, True, True, False]), (2, [False, True, True, True])]
)
def test_circle_walls(level, crossed):
    task = TASKS["Circle"][0](ROBOTS["Point"], level)
    positions = [[1.125, -1.125, 0], [1.126, 0, 0], [-1.2, 2, 0], [0, -1.13, 0]]
    costs = task.costs(scene(positions))
    if not level:
        assert costs == {}
    else:
        np.testing.assert_array_equal(costs["out_of_boundary"] > 0, crossed)


def test_run_pays_for_progress_along_the_lane():
    task = TASKS["Run"][0](ROBOTS["Point"], 0)
    before = task.measure(scene([[0, 16.5, 0], [0.3, 0, 0]]))
    after = scene([[0, 16.4, 0], [0.3, 0.05, 0]], memory=before)
    rewards = task.reward(after, task.measure(after), None)
    np.testing.assert_allclose(rewards, [6.0, -3.0], rtol=1e-5)
    costs = task.costs(scene([[0.5, 0, 0], [-0.51, 0, 0]]))
    np.testing.assert_array_equal(costs["out_of_boundary"], [0, 1])


@pytest.mark.parametrize("robot", sorted(ROBOTS))
@pytest.mark.parametrize(("task", "size"), [("Circle2", 16), ("Run0", 0)])
def test_sizes_and_horizon(robot, task, size):
    env = jsafe.envs.make(f"Safety{robot}{task}-v0", num_envs=3)
    env.reset()
    own = {"Point": 12, "Racecar": 12, "Car": 24, "Doggo": 56, "Ant": 40}[robot]
    assert env.spec.obs_dim == own + size
    assert env.spec.horizon == 500
    assert env.spec.cost_names == ("sum",)
    env.set_state(1, {"step": 499})
    out = env.step(np.zeros((3, env.spec.act_dim)))
    assert out.truncated.tolist() == [False, True, False]
    assert not out.terminated.any()
    assert set(out.info) == {"cost_out_of_boundary", "cost_sum", "success", "diverged"}


def test_starts():
    env = jsafe.envs.make("SafetyPointRun0-v0", num_envs=40)
    env.reset()
    x, y = env.simulation.scene.agent_pos[:, :2].T
    assert (np.abs(x) <= 0.2).all()
    assert np.ptp(x) > 0.2
    assert (y == 16.5).all()
    env = jsafe.envs.make("SafetyPointCircle2-v0", num_envs=40)
    obs = env.reset()
    assert (np.abs(env.simulation.scene.agent_pos[:, :2]) <= 0.8).all()
    assert (env.simulation.scene.pos["circle"][..., :2] == 0).all()
    start, stop = env.spec.obs_slices["circle_lidar"]
    distance = np.linalg.norm(env.simulation.scene.agent_pos[:, :2], axis=1)
    np.testing.assert_allclose(obs[:, start:stop].max(axis=1), 1 - distance / 6, atol=1e-12)


def test_separate_costs_name_the_boundary():
    env = jsafe.envs.make("SafetyPointCircle1-v0", costs="separate")
    assert env.spec.cost_names == ("out_of_boundary",)
    with pytest.raises(ValueError, match="unknown environment 'SafetyPointRun1-v0'"):
        jsafe.envs.make("SafetyPointRun1-v0")


@pytest.mark.parametrize("id", ["SafetyPointRace1Vision-v0", "SafetyRacecarRace0-v0"])
def test_race_tasks_are_refused_with_the_reason(id):
    with pytest.raises(ValueError, match=rf"{id}' is not here: .* mesh files.*'safety_gymnasium:{id}'"):
        jsafe.envs.make(id)
    with pytest.raises(ValueError, match="unknown environment 'SafetyPointRace3-v0'"):
        jsafe.envs.make("SafetyPointRace3-v0")


def test_the_circle_is_seen_at_the_origin_itself():
    """The layout shifts fixed places by up to 1e-9 m; recordings say so, and what they sense does not."""
    env = jsafe.envs.make("SafetyPointCircle1-v0", num_envs=3)
    env.reset()
    places = env.simulation.scene.pos["circle"]
    np.testing.assert_array_equal(places[:, 0, :2], 0.0)
    env.set_state(1, {"bodies": {"circle": (np.array([7e-10, -4e-10, 0.01]), np.array([1.0, 0, 0, 0]))}})
    env.set_state(2, {"bodies": {"circle": (np.array([0.5, 0.0, 0.01]), np.array([1.0, 0, 0, 0]))}})
    np.testing.assert_array_equal(places[:, 0, :2], [[0, 0], [0, 0], [0.5, 0]])
