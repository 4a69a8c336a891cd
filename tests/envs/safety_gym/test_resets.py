"""Ten thousand resets: nothing overlaps, nothing lies outside, nothing costs."""

import numpy as np
import pytest

import jsafe.envs

CASES = [("SafetyPointGoal2-v0", 5000), ("SafetyCarPush2-v0", 2000), ("SafetyPointGoal1-v0", 1000)]
CASES += [("SafetyCarGoal0-v0", 500), ("SafetyPointPush1-v0", 500), ("SafetyCarButton0-v0", 500)]
CASES += [("SafetyPointButton1-v0", 250), ("SafetyCarButton2-v0", 250)]


@pytest.mark.parametrize(("name", "count"), CASES)
def test_layouts(name, count):
    n = 250
    env = jsafe.envs.make(name, num_envs=n, seed=1000)
    scene, task = env.simulation.scene, env.task
    kinds = [kind for kind in env.simulation.world.groups for _ in range(kind.count)]
    button = "Button" in name
    goal = next(i for i, kind in enumerate(kinds) if kind.group == "goal")
    keepouts = np.array([task.agent_keepout] + [kind.keepout for kind in kinds])
    apart = keepouts[:, None] + keepouts
    np.fill_diagonal(apart, 0)
    if button:  # the goal marker stands on a button
        apart[1 + goal], apart[:, 1 + goal] = 0, 0
    for _ in range(count // n):
        obs = env.reset()
        xy = np.concatenate([scene.agent_pos[:, None, :2], env.simulation.pos[:, :, :2]], axis=1)
        distance = np.sqrt(((xy[:, :, None] - xy[:, None]) ** 2).sum(axis=-1))
        assert (distance >= apart - 1e-12).all()
        inside = task.extent - keepouts
        if button:
            inside[1 + goal] = task.extent - 0.2
        assert (np.abs(xy) <= inside[:, None] + 1e-12).all()
        for key, cost in task.costs(scene).items():
            assert not cost.any(), key
        assert np.isfinite(obs).all()
        lidars = np.concatenate([obs[:, a:b] for key, (a, b) in env.spec.obs_slices.items() if "lidar" in key], axis=1)
        assert (lidars >= 0).all()
        assert (lidars <= 1).all()
