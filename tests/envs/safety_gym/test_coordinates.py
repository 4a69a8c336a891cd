"""Coordinate observations: every column from the state, by hand."""

import numpy as np
import pytest

import jsafe.envs

GOAL1 = {
    "velocimeter": (0, 2),
    "accelerometer": (2, 3),
    "gyro": (3, 4),
    "magnetometer": (4, 7),
    "goal": (7, 9),
    "hazards": (9, 25),
    "robot_m": (25, 27),
    "robot": (27, 29),
}
SENSORS = {"velocimeter": [0, 1], "accelerometer": [0], "gyro": [2], "magnetometer": [0, 1, 2]}


def quat_to_matrix(q):
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@pytest.mark.parametrize("robot", ["Point", "Car", "Ant"])
def test_columns_from_states(robot):
    """The same episodes with the stock observation: sensors from its columns, poses from `get_state`."""
    name, n = f"Safety{robot}Goal1-v0", 4
    env = jsafe.envs.make(f"{name}-modelbased", num_envs=n, seed=2, action_repeat=1)
    stock = jsafe.envs.make(name, num_envs=n, seed=2)
    assert env.spec.obs_slices == GOAL1
    assert env.spec.obs_dim == 29
    env.reset(), stock.reset()
    rng = np.random.default_rng(0)
    for _ in range(25):
        a = rng.uniform(-1, 1, (n, env.spec.act_dim))
        out, same = env.step(a), stock.step(a)
        for name in ("reward", "cost", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(out, name), getattr(same, name))
        for part, columns in SENSORS.items():
            start, stop = stock.spec.obs_slices[part]
            np.testing.assert_array_equal(out.obs[:, slice(*GOAL1[part])], same.obs[:, start:stop][:, columns])
        for i in range(n):
            state = env.get_state(i)
            if robot == "Point":
                x, y, angle = (state["joints"][each][0][0] for each in "xyz")
                p = np.array([x, y])
                matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
            else:
                pose = state["joints"]["agent" if robot == "Car" else "root"][0]
                p, matrix = pose[:2], quat_to_matrix(pose[3:])
            for group, names in {"goal": ["goal"], "hazards": [f"hazard{k}" for k in range(8)]}.items():
                places = np.array([state["bodies"][each][0][:2] - p for each in names])
                ego = np.concatenate([places, np.zeros((len(places), 1))], axis=1) @ matrix
                np.testing.assert_allclose(out.obs[i, slice(*GOAL1[group])], ego[:, :2].ravel(), atol=2e-6)
            np.testing.assert_allclose(out.obs[i, 25:27], matrix[0, :2], atol=2e-6)
            np.testing.assert_allclose(out.obs[i, 27:29], p, atol=2e-6)
    assert robot != "Point" or not out.obs[:, 6].any()


def test_ids_parts_and_other_tasks():
    sizes = {}
    for robot in ("Point", "Car", "Ant"):
        for level, width in ((0, 13), (1, 29)):
            env = jsafe.envs.make(f"Safety{robot}Goal{level}-v0-modelbased")
            assert (env.spec.obs_dim, env.spec.horizon, env.spec.action_repeat) == (width, 200, 5)
            sizes[robot, level] = width
    env = jsafe.envs.make("SafetyCarGoal2-v0", observation="coordinates")
    assert list(env.spec.obs_slices)[4:] == [
        "ballangvel_rear", "ballquat_rear", "goal", "hazards", "vases", "robot_m", "robot",
    ]  # fmt: skip
    groups = {"Push1": ["goal", "push_box", "hazards"], "Button1": ["goal", "buttons", "hazards", "gremlins"],
              "Circle2": ["circle"], "Run0": []}  # fmt: skip
    for task, names in groups.items():
        env = jsafe.envs.make(f"SafetyPoint{task}-v0", observation="coordinates")
        assert list(env.spec.obs_slices)[4:] == [*names, "robot_m", "robot"]
        env.reset()
        assert np.isfinite(env.step(np.ones((1, 2))).obs).all()
    for options, message in {
        ("observation", "pixels"): "unknown observation 'pixels'",
        ("parts", "some"): "unknown choice of parts 'some'",
    }.items():
        with pytest.raises(ValueError, match=message):
            jsafe.envs.make("SafetyPointGoal1-v0", **dict([options]))


def test_a_goal_that_was_met_shows_the_next_one_and_ends_the_repeat():
    env = jsafe.envs.make("SafetyPointGoal0-v0-modelbased", seed=1)
    env.reset()
    state = env.get_state(0)
    x, y, _ = env.simulation.scene.agent_pos[0]
    ahead = env.simulation.scene.agent_rot[0][:2, 0]
    state["bodies"]["goal"] = (np.array([x + 0.303 * ahead[0], y + 0.303 * ahead[1], 0.16]), np.array([1.0, 0, 0, 0]))
    state["task"]["last_dist_goal"] = 0.303
    env.set_state(0, state)
    np.testing.assert_allclose(env.observe()[0, 7:9], [0.303, 0], atol=1e-9)
    for _ in range(10):
        out = env.step(np.array([[1.0, 0.0]]))
        if out.info["success"][0]:
            break
    assert out.info["success"][0]
    assert out.reward[0] > 1
    assert out.info["raw_steps"][0] < 5
    assert np.hypot(*out.obs[0, 7:9]) > 0.3  # the next goal
    np.testing.assert_array_equal(out.obs, env.observe())


def test_render_without_lidars():
    env = jsafe.envs.make("SafetyPointGoal1-v0-modelbased")
    env.reset()
    assert env.render(0, width=64, height=64).shape == (64, 64, 3)
