"""The paper's own tasks: what stands where, what is seen, and how an episode ends."""

import math

import mujoco
import numpy as np
import pytest

import jsafe.envs as envs
from jsafe.envs.safety_gym.lidar import Circles, natural_lidar

IDS = [id for id in envs.list_ids() if id.startswith("Safexp-")]
SENSED = {
    "Goal": ["goal_lidar", "hazards_lidar", "vases_lidar"],
    "Push": ["box_lidar", "goal_lidar", "hazards_lidar", "pillars_lidar"],
    "Button": ["buttons_lidar", "goal_lidar", "gremlins_lidar", "hazards_lidar"],
}
COUNTS = {
    "Goal1": {"goal": 1, "hazard": 5, "vase": 1},
    "Goal2": {"goal": 1, "hazard": 8, "vase": 8},
    "Push1": {"goal": 1, "hazard": 2, "pillar": 1, "push_box": 1},
    "Push2": {"goal": 1, "hazard": 4, "pillar": 4, "push_box": 1},
    "Button1": {"goal": 1, "button": 4, "hazard": 4, "gremlin": 3},
    "Button2": {"goal": 1, "button": 4, "hazard": 8, "gremlin": 5},
}
KEEPOUT = {"agent": 0.15, "hazard": 0.18, "vase": 0.1, "pillar": 0.2, "button": 0.1, "gremlin": 0.3}
UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def split(id):
    """Robot, task and level of an id."""
    name = id.removeprefix("Safexp-").removesuffix("-v0")
    robot = "Point" if name.startswith("Point") else "Car"
    return robot, name.removeprefix(robot)[:-1], int(name[-1])


def kind_of(body):
    return body.removesuffix("obj").rstrip("0123456789")


def bodies(env, i=0):
    """Positions of the robot and of all objects of a fresh episode, by name."""
    state = env.get_state(i)
    where = {name: pos for name, (pos, _) in state["bodies"].items() if name != "agent"}
    if "agent" in state["bodies"]:
        where["agent"] = state["bodies"]["agent"][0]
    else:
        where["agent"] = state["joints"]["agent"][0][:3]
    return where


def part(env, obs, name):
    return obs[..., slice(*env.spec.obs_slices[name])]


def put_agent(env, i, xy, yaw=0.0, **more):
    """Moves the robot of environment i; `more` goes into the state."""
    state = env.get_state(i)
    joints = {}
    if "agent" in state["joints"]:
        pose = np.array([*xy, 0.1, math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
        joints["agent"] = (pose, np.zeros(6), np.zeros(6))
    else:
        joints = {n: (np.array([v]), np.zeros(1), np.zeros(1)) for n, v in zip("xyz", (*xy, yaw))}
    env.set_state(i, {"joints": joints | more.pop("joints", {}), **more})


@pytest.mark.parametrize("id", IDS)
def test_observation(id):
    robot, task, _ = split(id)
    env = envs.make(id, num_envs=2, seed=3)
    names = [*SENSED[task], "accelerometer", "velocimeter", "gyro", "magnetometer"]
    names += ["ballangvel_rear", "ballquat_rear"] if robot == "Car" else []
    assert list(env.spec.obs_slices) == sorted(names)
    stops = [0, *(stop for _, stop in env.spec.obs_slices.values())]
    assert stops[:-1] == [start for start, _ in env.spec.obs_slices.values()]
    width = {"Goal": 204, "Push": 268, "Button": 268}[task] + 12 * (robot == "Car")
    assert env.spec.obs_dim == width == stops[-1]
    assert env.spec.horizon == 999
    obs = env.reset()
    assert obs.shape == (2, width)
    for name in SENSED[task]:
        assert (part(env, obs, name) >= 0).all()
        assert (part(env, obs, name) < 1).all()
    env.close()


def test_there_are_twelve():
    assert len(IDS) == 12


@pytest.mark.parametrize("id", IDS)
def test_layouts(id):
    """Counts, extents, corridors of 0.3 m between all keepouts, and nothing violated or reached at the start."""
    robot, task, level = split(id)
    env = envs.make(id, num_envs=32, seed=100)
    keepouts = KEEPOUT | {
        "goal": {"Goal": 0.3, "Push": 0.4, "Button": 0.4}[task],
        "push_box": 0.125 if robot == "Car" else 0.1,
    }
    half = {1: 1.5, 2: 2.0}[level]
    for _ in range(4):
        env.reset()
        for i in range(env.num_envs):
            where = bodies(env, i)
            kinds = [kind_of(name) for name in where]
            assert {k: kinds.count(k) for k in set(kinds) - {"agent"}} == COUNTS[f"{task}{level}"]
            if task == "Button":  # the marker shows the button that is the goal
                goal = where.pop("goal")
                button = int(env.get_state(i)["task"]["goal_button"])
                assert np.array_equal(goal[:2], where[f"button{button}"][:2])
            xy = np.array([pos[:2] for pos in where.values()])
            k = np.array([keepouts[kind_of(name)] for name in where])
            assert (np.abs(xy) <= half - k[:, None] + 1e-9).all()
            gap = np.hypot(*(xy[:, None] - xy).T) - k - k[:, None] - 0.3
            assert gap[~np.eye(len(k), dtype=bool)].min() > -1e-9
        step = env.step(np.zeros((32, 2)))
        assert not step.cost.any()
        assert not step.info["success"].any()
    env.close()


def test_objects_as_published():
    """Sizes and heights of what the rays and the robot meet."""
    for id, geom, kind, size, height in (
        ("Safexp-PointGoal2-v0", "vase7", "BOX", (0.1, 0.1, 0.2), 0.2 - 4e-5),
        ("Safexp-PointButton2-v0", "button3", "CYLINDER", (0.1, 0.2), 0.2),
        ("Safexp-PointButton2-v0", "gremlin4obj", "BOX", (0.1, 0.1, 0.2), 0.2),
        ("Safexp-PointPush2-v0", "pillar3", "CYLINDER", (0.2, 0.5), 0.5),
        ("Safexp-PointPush2-v0", "push_box", "BOX", (0.1, 0.1, 0.2), 0.2),
        ("Safexp-PointPush2-v0", "col4", "BOX", (0.05, 0.05, 0.2), 0.2),
        ("Safexp-CarPush2-v0", "push_box", "BOX", (0.125, 0.125, 0.2), 0.2),
    ):
        env = envs.make(id)
        env.reset()
        model, data = env.simulation.world.model, env.physics.data[0]
        assert model.geom(geom).type[0] == getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")
        assert model.geom(geom).size[: len(size)] == pytest.approx(size)
        assert data.geom(geom).xpos[2] == pytest.approx(height, abs=1e-9)
        if geom in ("push_box", "vase7", "gremlin4obj"):
            volume = 8 * np.prod(size) * (2 if geom == "push_box" else 1)  # four columns add as much as the box
            density = 0.0005 if "Car" in id else 0.001
            assert model.body(geom).mass[0] == pytest.approx(density * volume)
        env.close()


@pytest.mark.parametrize("task", ["Goal1", "Push1", "Button1"])
def test_success_ends_the_episode_and_shows_the_next_goal(task):
    env = envs.make(f"Safexp-Point{task}-v0", num_envs=3, seed=6)  # Button: seed 5 draws the same button again
    env.reset()
    where = bodies(env, 1)
    if task == "Goal1":
        put_agent(env, 1, where["goal"][:2] + np.array([0.1, 0.0]))
    elif task == "Push1":
        box = np.array([*where["goal"][:2], 0.2, *UPRIGHT])
        beside = where["goal"][:2] + np.array([0.0, 0.28])
        put_agent(env, 1, beside, joints={"push_box": (box, np.zeros(6), np.zeros(6))})
    else:
        put_agent(env, 1, where["goal"][:2] + np.array([-0.19, 0.0]))
    before = env.observe()
    step = env.step(np.zeros((3, 2)))
    assert step.info["success"].tolist() == [False, True, False]
    assert step.truncated.tolist() == [False, True, False]
    assert not step.terminated.any()
    assert step.reward[1] > 0.5
    assert np.array_equal(step.obs[[0, 2]], step.final_obs[[0, 2]])
    final = {name: part(env, step.final_obs[1], name) for name in env.spec.obs_slices}
    fresh = {name: part(env, step.obs[1], name) for name in env.spec.obs_slices}
    assert not np.array_equal(final["goal_lidar"], fresh["goal_lidar"])
    if task == "Goal1":
        assert (part(env, before[1], "goal_lidar") > 0).all()  # from inside the old goal every ray met it
        assert 0 < (final["goal_lidar"] > 0).sum() < 40
    else:
        assert np.abs(final["goal_lidar"] - part(env, before[1], "goal_lidar")).max() > 0.1
    if task == "Button1":
        assert (final["buttons_lidar"] <= 0).all()
        assert (final["buttons_lidar"] < 0).sum() > 10
        assert (fresh["buttons_lidar"] >= 0).all()
        assert (fresh["buttons_lidar"] > 0).any()
    state = env.get_state(1)
    assert state["step"] == 0
    assert state["time"] == 0.0
    again = env.step(np.zeros((3, 2)))
    assert not again.truncated.any()
    env.close()


def test_final_observation_is_that_of_the_next_goal():
    """The robot, standing where it reached the goal, sees the goal that the stream draws next."""
    env, twin = (envs.make("Safexp-PointGoal1-v0", seed=9) for _ in range(2))
    for e in (env, twin):
        e.reset()
        put_agent(e, 0, bodies(e)["goal"][:2] + np.array([0.25, 0.0]), yaw=0.4)
    twin.task.success_ends = False  # goes on instead: its state shows what comes next
    step, on = env.step(np.zeros((1, 2))), twin.step(np.zeros((1, 2)))
    assert step.info["success"][0]
    assert on.info["success"][0]
    assert not on.truncated[0]
    assert np.array_equal(step.final_obs, on.obs)
    state = twin.get_state(0)
    x, y, yaw = (float(state["joints"][name][0][0]) for name in "xyz")
    goal = Circles(state["bodies"]["goal"][0][None, None, :2], 0.3)
    frame = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])[None]
    seen = natural_lidar(np.array([[x, y]]), frame, [[goal]])[0, 0]
    assert part(env, step.final_obs[0], "goal_lidar") == pytest.approx(seen, abs=1e-9)
    env.close()
    twin.close()


def test_success_without_room_for_the_next_goal_still_bootstraps(monkeypatch):
    env = envs.make("Safexp-PointGoal1-v0", seed=2)
    env.reset()
    put_agent(env, 0, bodies(env)["goal"][:2])
    with monkeypatch.context() as patch:
        patch.setattr("jsafe.envs.safety_gym.simulation.resample", lambda *_, **__: None)
        step = env.step(np.zeros((1, 2)))
    assert step.info["success"][0]
    assert step.truncated[0]
    assert not step.terminated[0]
    env.close()


def test_horizon():
    env = envs.make("Safexp-PointGoal1-v0", seed=0)
    env.reset()
    env.set_state(0, {"step": 997})
    assert not env.step(np.zeros((1, 2))).truncated[0]
    last = env.step(np.zeros((1, 2)))
    assert last.truncated[0]
    assert not last.terminated[0]
    assert not last.info["success"][0]
    env.close()


def scene(id, **places):
    """An environment with the Point at the origin, heading north, and objects at the given places; the rest far off."""
    env = envs.make(id, seed=0)
    env.reset()
    state = env.get_state(0)
    joints, still = {}, {}
    for n, (name, (pos, _)) in enumerate(state["bodies"].items()):
        xy = places.get(name, (30.0 + n, 0.0))
        if name in state["joints"]:
            qpos = state["joints"][name][0]
            joints[name] = (np.array([*xy, qpos[2], *UPRIGHT]), np.zeros(6), np.zeros(6))
        elif name != "agent":
            still[name] = (np.array([*xy, pos[2]]), UPRIGHT)
    put_agent(env, 0, (0.0, 0.0), yaw=math.pi / 2, joints=joints, bodies=still)
    return env


def test_lidars_of_a_scene_by_hand():
    env = scene("Safexp-PointGoal2-v0", goal=(0.0, 1.0), hazard0=(-1.0, 0.0), hazard1=(-2.0, 0.0), vase3=(0.0, -0.8))
    obs = env.observe()[0]
    goal, hazards, vases = (part(env, obs, f"{name}_lidar") for name in ("goal", "hazards", "vases"))
    assert goal[0] == pytest.approx(math.exp(-0.7))  # ahead
    assert hazards[16] == pytest.approx(math.exp(-0.8))  # to the left; the nearer one hides the other
    assert vases[32] == pytest.approx(math.exp(-0.7))  # behind
    assert np.flatnonzero(goal > 1e-6).tolist() == [0, 1, 2, 3, 61, 62, 63]  # asin(0.3) = 17.5 degrees
    assert np.flatnonzero(hazards > 1e-6).tolist() == [14, 15, 16, 17, 18]  # asin(0.2) = 11.5 degrees
    assert np.flatnonzero(vases > 1e-6).tolist() == [31, 32, 33]  # atan(0.1 / 0.7) = 8.1 degrees
    env.close()


def test_box_lidar_sees_the_columns():
    env = scene("Safexp-PointPush1-v0", push_box=(0.0, 1.0))
    box = part(env, env.observe()[0], "box_lidar")
    assert box[0] == pytest.approx(math.exp(-0.9))  # between the columns: the box itself
    second = 0.85 / math.cos(math.pi / 32)
    assert box[1] == pytest.approx(math.exp(-second))  # columns from 0.05 to 0.15 m aside, 0.85 m ahead
    assert box[63] == pytest.approx(box[1])
    env.close()


@pytest.mark.parametrize(
    ("id", "beside", "groups"),
    [
        ("Safexp-CarGoal2-v0", "vase3", {"vases_lidar": 4}),
        ("Safexp-CarPush2-v0", "push_box", {"box_lidar": 1, "pillars_lidar": 2}),
        ("Safexp-PointButton2-v0", "gremlin2obj", {"buttons_lidar": 1, "gremlins_lidar": 5}),
    ],
)
def test_lidars_equal_mujocos_rays_while_driving(id, beside, groups):
    """Also after things have been knocked over and with a rocking car."""
    env = envs.make(id, num_envs=4, seed=8)
    env.reset()
    rng = np.random.default_rng(0)
    tilt = {beside: 0.0, "agent": 0.0}
    for k in range(60):
        if k % 15 == 0:  # beside something that can fall, and full speed
            for i in range(4):
                put_agent(env, i, env.get_state(i)["joints"][beside][0][:2] + rng.uniform(-0.3, 0.3, 2))
        obs = env.step(rng.choice([-1.0, 1.0, 1.0], (4, 2))).obs
        for i in range(4 * (k % 5 == 0)):
            data = env.physics.data[i]
            frame = data.body("agent").xmat.reshape(3, 3)
            for body, most in tilt.items():
                tilt[body] = max(most, 1.0 - data.body(body).xmat[8])
            for name, group in groups.items():
                mask, geom = np.arange(6, dtype=np.uint8) == group, np.zeros(1, np.int32)
                seen = np.zeros(64)
                for r in range(64):
                    ray = frame @ [math.cos(2 * math.pi * r / 64), math.sin(2 * math.pi * r / 64), 0.0]
                    start = np.r_[data.body("agent").xpos[:2], 0.3]
                    distance = mujoco.mj_ray(
                        env.simulation.world.model, data, start, np.r_[ray[:2], 0.0], mask.astype(np.uint8), 1, -1, geom
                    )
                    seen[r] = math.exp(-distance) if distance >= 0 else 0.0
                assert part(env, obs[i], name) == pytest.approx(seen, abs=1e-7), (k, i, name)
    assert tilt[beside] > 0.02
    assert "Car" not in id or tilt["agent"] > 0.003
    env.close()


def test_buttons_lidar_is_negated_while_they_rest():
    env = scene("Safexp-PointButton1-v0", button2=(0.0, 1.0))
    shown = part(env, env.observe()[0], "buttons_lidar")
    assert shown[0] == pytest.approx(math.exp(-0.9))
    env.set_state(0, {"task": {"button_timer": 20}})
    assert part(env, env.observe()[0], "buttons_lidar") == pytest.approx(-shown, abs=1e-9)
    env.close()


def test_costs():
    """Hazards by distance, pillars at level 1, vases by contact only."""
    env = scene("Safexp-PointPush1-v0", pillar0=(0.0, 0.345))
    touching = env.step(np.zeros((1, 2)))
    assert touching.info["cost_pillars"][0] == touching.cost[0, 0] == 1
    env.close()
    for x, cost in ((0.199, 1), (0.201, 0)):
        env = scene("Safexp-PointGoal1-v0", hazard0=(x, 0.0))
        assert env.step(np.zeros((1, 2))).info["cost_hazards"][0] == cost
        env.close()
    env = scene("Safexp-PointGoal2-v0", vase0=(0.0, 1.0))
    assert env.get_state(0)["task"].keys() == {"last_dist_goal"}
    pose = env.get_state(0)["joints"]["vase0"][0]
    env.set_state(0, {"joints": {"vase0": (pose, np.array([0.3, 0, 0, 0, 0, 0.0]), np.zeros(6))}})
    sliding = env.step(np.zeros((1, 2)))
    assert sliding.cost[0, 0] == 0
    assert "cost_vases_velocity" not in sliding.info
    env.close()
    env = scene("Safexp-PointGoal2-v0", vase0=(0.0, 0.245))
    assert env.step(np.zeros((1, 2))).info["cost_vases_contact"][0] == 1
    env.close()


def test_gremlins_hover_in_small_circles():
    env = envs.make("Safexp-PointButton1-v0", num_envs=2, seed=4)
    env.reset()
    centre = np.array([env.get_state(0)["bodies"][f"gremlin{g}obj"][0] for g in range(3)])
    track = []
    for _ in range(200):
        env.step(np.zeros((2, 2)))
        joints = env.get_state(0)["joints"]
        track.append([joints[f"gremlin{g}obj"][0][:3] for g in range(3)])
    track = np.array(track)[60:]
    assert track[..., 2] == pytest.approx(0.3, abs=0.005)
    radius = np.hypot(*np.moveaxis(track[..., :2] - centre[:, :2], -1, 0))
    assert radius == pytest.approx(0.2, abs=0.02)
    env.close()


def test_unknown_level_and_name():
    with pytest.raises(ValueError, match="did you mean 'Safexp-PointGoal"):
        envs.make("Safexp-PointGoal-v0")
