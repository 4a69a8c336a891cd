"""Layouts, headings and later goals of whole episodes against the official rules, written down naively."""

import numpy as np
import pytest

import jsafe.envs

SEEDS = (0, 7, 123)


def official_layout(rng, places):
    """[(keepout, rectangle)] -> positions, by single draws."""
    while True:
        layout = []
        for keepout, (xmin, ymin, xmax, ymax) in places:
            for _ in range(100):
                xy = np.array(
                    [rng.uniform(xmin + keepout, xmax - keepout), rng.uniform(ymin + keepout, ymax - keepout)]
                )
                if all(np.sqrt(((xy - p) ** 2).sum()) >= keepout + k for p, (k, _) in zip(layout, places)):
                    layout.append(xy)
                    break
            else:
                break
        if len(layout) == len(places):
            return np.array(layout)


def official_goal(rng, goal, others):
    keepout, (xmin, ymin, xmax, ymax) = goal
    while True:
        xy = np.array([rng.uniform(xmin + keepout, xmax - keepout), rng.uniform(ymin + keepout, ymax - keepout)])
        if all(np.sqrt(((xy - p) ** 2).sum()) >= keepout + k for p, k in others):
            return xy


def objects(env, i):
    return {name: pos for name, (pos, _) in env.get_state(i)["bodies"].items()}


def agent_xy(env, i):
    joints = env.get_state(i)["joints"]
    return joints["agent"][0][:2] if "agent" in joints else np.array([joints["x"][0][0], joints["y"][0][0]])


@pytest.mark.parametrize("robot", ["Point", "Car"])
def test_goals(robot):
    e, agent, goal, hazard, vase = 2.0, 0.4, 0.305, 0.18, 0.15
    square = (-e, -e, e, e)
    keepouts = [agent, goal] + [hazard] * 10 + [vase] * 10
    env = jsafe.envs.make(f"Safety{robot}Goal2-v0", num_envs=3, seed=0)
    for seed in SEEDS:
        env.reset(seed=seed)
        rng = np.random.RandomState(seed + 1)  # environment 1
        layout = official_layout(rng, [(k, square) for k in keepouts])
        yaws = rng.uniform(0, 2 * np.pi, 22)
        others = [(p, k) for n, (p, k) in enumerate(zip(layout, keepouts)) if n != 1]
        layout[1] = official_goal(rng, (goal, square), others)
        seen = objects(env, 1)
        names = ["goal", *(f"hazard{i}" for i in range(10)), *(f"vase{i}" for i in range(10))]
        np.testing.assert_allclose([seen[n][:2] for n in names], layout[1:], atol=1e-14)
        np.testing.assert_allclose(agent_xy(env, 1), layout[0], atol=1e-14)
        for name, yaw in (("agent", yaws[0]), ("hazard3", yaws[5]), ("vase9", yaws[21])):
            quat = env.get_state(1)["bodies"][name][1]
            np.testing.assert_allclose(quat, [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], atol=1e-14)
        for steps in (5, 1, 9):  # goals reached after so many steps
            for _ in range(steps):
                before = env.step(np.zeros((3, 2)))
                assert not before.info["success"].any()
                rng.random_sample()
            goal_at = {"goal": (np.r_[agent_xy(env, 1), 0.16], np.array([1.0, 0, 0, 0]))}
            env.set_state(1, {"bodies": goal_at})
            out = env.step(np.zeros((3, 2)))
            np.testing.assert_array_equal(out.info["success"], [False, True, False])
            rng.random_sample()
            seen = objects(env, 1)
            poses = env.get_state(1)["joints"]
            others = [(agent_xy(env, 1), agent)] + [(seen[n][:2], hazard) for n in names[1:11]]
            others += [(poses[n][0][:2], vase) for n in names[11:]]
            np.testing.assert_allclose(seen["goal"][:2], official_goal(rng, (goal, square), others), atol=1e-14)


def test_buttons():
    env = jsafe.envs.make("SafetyPointButton1-v0", num_envs=2, seed=0)
    square = (-1.5, -1.5, 1.5, 1.5)
    keepouts = [0.4] + [0.2] * 4 + [0.4] + [0.18] * 4 + [0.4] * 4
    for seed in SEEDS:
        env.reset(seed=seed)
        rng = np.random.RandomState(seed)
        layout = official_layout(rng, [(k, square) for k in keepouts])
        yaws = rng.uniform(0, 2 * np.pi, 14)
        button = rng.choice(4)
        state = env.get_state(0)
        assert state["task"]["goal_button"] == button
        assert state["task"]["button_timer"] == 0
        np.testing.assert_allclose(state["bodies"]["goal"][0][:2], layout[1 + button], atol=1e-14)
        for i in range(4):
            pos, quat = state["bodies"][f"gremlin{i}obj"]
            np.testing.assert_allclose(pos[:2], layout[10 + i], atol=1e-14)
            np.testing.assert_allclose(quat[[0, 3]], [np.cos(yaws[10 + i] / 2), np.sin(yaws[10 + i] / 2)], atol=1e-14)
        for _ in range(4):
            env.step(np.zeros((2, 2)))
            rng.random_sample()
        state = env.get_state(0)
        x, y = state["bodies"][f"button{button}"][0][:2]
        joints = {"x": ([x + 0.19], [0], [0]), "y": ([y], [0], [0])}
        env.set_state(0, {"joints": joints})
        out = env.step(np.zeros((2, 2)))
        rng.random_sample()
        assert out.info["success"][0]
        assert env.get_state(0)["task"]["goal_button"] == rng.choice(4)
        assert env.get_state(0)["task"]["button_timer"] == 10


def test_streams_go_on_without_a_seed():
    env = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=2, seed=5)
    first, second = env.reset(), env.reset()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(env.reset(seed=5), first)
    np.testing.assert_array_equal(env.reset(), second)
    np.testing.assert_array_equal(env.reset(seed=6)[0], first[1])
