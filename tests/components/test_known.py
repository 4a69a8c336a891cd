"""Known reward and cost against the engine, and where nothing is known."""

import numpy as np
import pytest

import jsafe.envs
from jsafe.components.known import Auto, goal_geometry
from jsafe.types import env_spec


@pytest.mark.parametrize(("robot", "exact"), [("Point", 1e-6), ("Car", 1e-3)])
def test_equals_the_engine_on_every_raw_step(robot, exact):
    n = 8
    env = jsafe.envs.make(f"Safety{robot}Goal1-v0-modelbased", num_envs=n, seed=0, action_repeat=1)
    known = goal_geometry(env_spec(env), goal=0.3)
    obs, rng, costs, a = env.reset(), np.random.default_rng(0), 0, np.zeros((n, 2))
    for t in range(400):
        if t % 20 == 0:
            a = rng.uniform(-0.2, 1, (n, 2)) if robot == "Point" else rng.uniform(0, 1, (n, 1)).repeat(2, 1)
        out = env.step(a)
        going = ~(out.info["success"] | out.terminated | out.truncated)
        # float32 (and for the Car a tilt) decides at the very edge of a hazard.
        close = np.abs(np.sqrt(np.square(out.final_obs[:, 9:25].reshape(n, 8, 2)).sum(-1)) - 0.2).min(-1) < 5 * exact
        seen, after = obs.astype(np.float32), out.final_obs.astype(np.float32)
        cost = np.asarray(known.cost(seen, a, after))
        np.testing.assert_array_equal(cost[~close], out.cost[~close])
        reward = np.asarray(known.reward(seen, a, after))
        np.testing.assert_allclose(reward[going], out.reward[going], atol=exact)
        assert not np.asarray(known.arrived(after))[going].any()
        costs += out.cost.sum()
        obs = out.obs
    assert costs > 20


@pytest.mark.parametrize(("task", "columns"), [("Goal2", ["vases"]), ("Button1", ["buttons", "gremlins"])])
def test_contacts_lie_between_the_side_and_the_front(task, columns):
    """Nothing touches beyond the reach of a front and an edge, and everything does below that of two sides."""
    options = {"observation": "coordinates", "parts": "base", "num_envs": 16, "seed": 0}
    env = jsafe.envs.make(f"SafetyPoint{task}-v0", **options, costs="separate")
    spec = env_spec(jsafe.envs.make(f"SafetyPoint{task}-v0", **options))
    far, near = (goal_geometry(spec, radius=1e-9, touch=touch) for touch in (0.31, 0.2))
    env.reset()
    rng, met, touched, missed, a = np.random.default_rng(1), 0, 0, 0, np.zeros((16, 2))
    for t in range(300):
        if t % 20 == 0:
            a = rng.uniform(-0.2, 1, (16, 2))
        out = env.step(a)
        seen = out.final_obs.astype(np.float32)
        # A goal just met is seen elsewhere already.
        counts = ~(out.info["success"] | out.terminated | out.truncated)
        cost = sum(out.cost[:, i] for i, name in enumerate(env.spec.cost_names) if name in columns)[counts] >= 1
        beyond, within = (np.asarray(known.costs(None, None, None, seen))[counts, 0] > 0 for known in (far, near))
        if task == "Goal2":  # buttons are free of cost for ten steps, and gremlins turn their sides away
            assert cost[within].all()
        met, touched, missed = met + cost.sum(), touched + within.sum(), missed + (cost & ~beyond).sum()
    assert met > 20
    assert touched > 0
    assert missed <= 0.1 * met if task == "Goal2" else missed == 0  # a vase that was thrown costs its speed, too


def test_gremlins_drift_as_fast_as_is_said():
    """Seen from a robot that stands, they drive at 0.35 m/s, once they have come from the middles of their circles."""
    env = jsafe.envs.make("SafetyPointButton1-v0", observation="coordinates", parts="base", num_envs=4, seed=0)
    start, stop = next((start, stop) for name, start, stop in env_spec(env).layout if name == "gremlins")
    seen = [env.reset()[:, start:stop].reshape(4, -1, 2)]
    seen += [env.step(np.zeros((4, 2))).final_obs[:, start:stop].reshape(4, -1, 2) for _ in range(70)]
    for steps in (1, 5):
        moved = np.linalg.norm(np.array(seen[30 + steps :]) - seen[30:-steps], axis=-1)
        assert 0.0065 * steps < moved.min() <= moved.max() < 0.007 * steps


def test_contacts_are_told_once_and_where_there_are_some():
    env = jsafe.envs.make("SafetyPointGoal1-v0", observation="coordinates")
    with pytest.raises(ValueError, match=r"known.touch is of vases, pillars, gremlins, buttons, and this"):
        Auto(touch=0.3).build(env_spec(env))
    env = jsafe.envs.make("SafetyPointGoal2-v0", observation="coordinates", costs="separate")
    for column, beside in ((0, "known.column=0 is of hazards alone"), (None, "here are 2")):
        with pytest.raises(ValueError, match=rf"known.touch=0.3 makes one cost of all \(costs='sum'\), {beside}"):
            Auto(touch=0.3, column=column).build(env_spec(env))
    env = jsafe.envs.make("SafetyPointGoal2-v0", observation="coordinates")
    with pytest.raises(ValueError, match=r"known.drift=0.03 is of gremlins whose contacts are known"):
        Auto(touch=0.3, drift=0.03).build(env_spec(env))
    button = Auto(touch=0.3, reward=True).build(
        env_spec(jsafe.envs.make("SafetyPointButton1-v0", observation="coordinates"))
    )
    assert None not in (button.reward, button.cost, button.arrived)


def test_hazards_of_other_tasks_have_other_radii():
    """Push's hazards are 0.3 m wide, and Goal's vases cost from level 2 on: nothing is taken for known there."""
    for task, known in (("Goal1", True), ("Goal2", False), ("Push1", False), ("Button1", False)):
        env = jsafe.envs.make(f"SafetyPoint{task}-v0", observation="coordinates")
        found = Auto(reward=True).build(env_spec(env))
        assert (found.cost is not None) == known
        assert (found.reward is not None) == task.startswith("Goal")
        assert (found.arrived is not None) == task.startswith("Goal")
