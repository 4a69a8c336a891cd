"""Vision tasks: that pictures show what stands where, and that they travel. Skipped where no GL library starts."""

import jax
import numpy as np
import pytest

import jsafe
from jsafe import envs
from jsafe.data import make_collector
from jsafe.envs.api import RenderError
from jsafe.envs.safety_gym.drawing import gl
from jsafe.envs.safety_gym.drawing.frustum import Frustum
from jsafe.nets.encoders import Auto
from jsafe.spaces import Box

needs_gl = pytest.mark.skipif(not gl.available(), reason="no GL library")
GOAL1 = "SafetyPointGoal1Vision-v0"
CAMERAS = {
    "Point": ((0, 0, 0.15), (0, -1, 0), (0.4, 0, 1), 90),
    "Car": ((0, 0.1, 0.2), (-1, 0, 0), (0, -0.4, 1), 45),
    "Doggo": ((0.0625, 0, 0.1), (0, -0.5, 0), (0.2, 0, 0.5), 100),
}
"""Of the official robots: place, directions of a picture's x and y axes, field of view in degrees."""
AHEAD = {"Point": 0.0, "Car": -np.pi / 2, "Doggo": 0.0}
"""Where the front is, radians from the x axis."""


@pytest.fixture
def made():
    """Makes environments that are closed after the test."""
    every = []

    def make(id, **options):
        every.append(envs.make(id, **({"num_threads": 1} | options)))
        return every[-1]

    yield make
    for env in every:
        env.close()


def turned(yaw):
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])


def columns(robot, goal, height, yaw, size):
    """First and last column in which a cylinder appears, from the official camera and nothing of ours."""
    place, x, y, fovy = CAMERAS[robot]
    x = np.array(x) / np.linalg.norm(x)
    y = np.array(y) - np.dot(y, x) * x
    axes = np.stack([x, y / np.linalg.norm(y), np.cross(x, y / np.linalg.norm(y))])  # z looks backwards
    angle = np.linspace(0, 2 * np.pi, 200)
    rim = np.stack([goal[0] + 0.3 * np.cos(angle), goal[1] + 0.3 * np.sin(angle)], axis=1)
    rim = np.concatenate([np.column_stack([rim, np.full(200, z)]) for z in (0.01, 0.31)])
    local = ((rim - (0, 0, height)) @ turned(yaw) - place) @ axes.T
    across = local[:, 0] / -local[:, 2] / np.tan(np.radians(fovy / 2))
    return (across.min() + 1) / 2 * size, (across.max() + 1) / 2 * size


def green(picture):
    """How much greener than red and blue each pixel is."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    return np.maximum(g - np.maximum(r, b), 0)


def stand(env, robot, yaw, goal):
    """The robot in the origin, turned; the goal somewhere in its frame."""
    height = env.robot.height if hasattr(env, "robot") else env.simulation.robot.height
    quat = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
    joints = env.get_state(0)["joints"]
    pose = np.array([0.0, 0.0, height])
    if robot == "Point":
        joints = {name: (np.zeros(1), np.zeros(1), np.zeros(1)) for name in ("x", "y", "z")}
        joints["z"][0][:] = yaw
    else:
        joints = {"agent": (np.concatenate([pose, quat]), np.zeros(6), np.zeros(6))}
    state = {"joints": joints, "bodies": {"goal": (np.array([*goal, 0.16]), np.array([1.0, 0, 0, 0]))}}
    env.set_state(0, state)
    return height


@needs_gl
@pytest.mark.parametrize("robot", CAMERAS)
def test_the_goal_appears_where_the_official_camera_projects_it(made, robot):
    size = 96
    env = made(f"Safety{robot}Goal0Vision-v0", size=size, cameras=["vision", "vision_back"])
    env.reset(seed=0)
    for yaw in (0.0, 0.7, 2.5):
        for beside in (-0.25, 0.0, 0.2):
            goal = 1.3 * np.array([np.cos(yaw + AHEAD[robot] + beside), np.sin(yaw + AHEAD[robot] + beside)])
            height = stand(env, robot, yaw, goal)
            picture = env.observe()["vision"][0]
            front, back = picture[:, :size], picture[:, size:]
            seen = np.nonzero((green(front) > 8).sum(axis=0) > 1)[0]
            first, last = columns(robot, goal, height, yaw, size)
            assert abs(seen.min() - max(first, 0)) < 1.6, (yaw, beside)
            assert abs(seen.max() + 1 - min(last, size)) < 1.6, (yaw, beside)
            assert (green(back) > 8).sum() == 0
    goal = -1.3 * np.array([np.cos(yaw + AHEAD[robot]), np.sin(yaw + AHEAD[robot])])
    stand(env, robot, yaw, goal)
    behind = env.observe()["vision"][0]
    assert (green(behind[:, :size]) > 8).sum() == 0
    assert (green(behind[:, size:]) > 8).sum() > 50


@needs_gl
def test_observations_are_official_dictionaries(made):
    flat = made("SafetyCarGoal1-v0", num_envs=2, seed=4)
    env = made("SafetyCarGoal1Vision-v0", num_envs=2, seed=4, size=24)
    obs, plain = env.reset(), flat.reset()
    assert {name for name, _ in env.spec.obs.items} == {*flat.spec.obs_slices, "vision"} == set(obs)
    assert env.spec.obs["vision"] == Box((24, 24, 3), 0, 255, "uint8")
    assert obs["ballquat_rear"].shape == (2, 3, 3)
    for name, (start, stop) in flat.spec.obs_slices.items():
        np.testing.assert_array_equal(obs[name].reshape(2, -1), plain[:, start:stop])
    assert obs["vision"].shape == (2, 24, 24, 3)
    assert (obs["vision"][0] != obs["vision"][1]).any()
    other = envs.as_gymnasium("SafetyCarGoal1Vision-v0", size=16)
    assert other.observation_space.contains(other.reset(seed=1)[0])
    other.close()
    blind = made(GOAL1, size=24, lidars=False)
    assert set(blind.reset()) == {"accelerometer", "velocimeter", "gyro", "magnetometer", "vision"}
    assert made(GOAL1).spec.obs["vision"].shape == (256, 256, 3)
    assert env.spec.horizon == 1000


@needs_gl
def test_steps_are_those_without_pictures_on_any_threads_and_after_a_resume(made):
    def run(num_envs, resumed=False, **options):
        options |= {"detail": "low"}
        env = made("SafetyPointGoal2Vision-v0", num_envs=num_envs, seed=5, size=24, **options)
        env.reset()
        rng, out = np.random.default_rng(0), []
        for t in range(4):
            if resumed and t == 2:
                saved = env.state_dict()
                env = made("SafetyPointGoal2Vision-v0", num_envs=num_envs, seed=8, size=24, **options)
                env.load_state_dict(saved)
            out.append(env.step(rng.uniform(-1, 1, (4, 2))[:num_envs]))
        return out

    plain = made("SafetyPointGoal2-v0", num_envs=4, seed=5)
    plain.reset()
    rng = np.random.default_rng(0)
    for one, other, again in zip(run(4), run(2, num_threads=3), run(4, resumed=True, num_threads=2)):
        out = plain.step(rng.uniform(-1, 1, (4, 2)))
        np.testing.assert_array_equal(one.reward, out.reward)
        np.testing.assert_array_equal(one.obs["goal_lidar"], out.obs[:, slice(*plain.spec.obs_slices["goal_lidar"])])
        for name, value in one.obs.items():
            np.testing.assert_array_equal(value[:2], other.obs[name])
            np.testing.assert_array_equal(value, again.obs[name])
            np.testing.assert_array_equal(one.final_obs[name], again.final_obs[name])


@needs_gl
@pytest.mark.parametrize("repeat", [1, 3])
def test_the_last_picture_of_an_episode_is_of_its_last_state(made, repeat):
    ending, going = (
        made(GOAL1, num_envs=2, seed=1, size=24, action_repeat=repeat, detail="low", num_threads=threads)
        for threads in (1, 2)
    )
    for env in (ending, going):
        env.reset()
    state = ending.get_state(1)
    ending.set_state(1, {**state, "step": 1000 - repeat})
    going.set_state(1, state)  # both are awake
    actions = np.array([[0.3, 0.1], [1.0, 1.0]])
    end, go = ending.step(actions), going.step(actions)
    assert end.truncated.tolist() == [False, True]
    np.testing.assert_array_equal(end.final_obs["vision"], go.obs["vision"])
    np.testing.assert_array_equal(end.obs["vision"][0], go.obs["vision"][0])
    changed = np.abs(end.obs["vision"][1].astype(int) - go.obs["vision"][1]).max(axis=-1) > 10
    assert changed.mean() > 0.1
    held = ending.step(actions, mask=np.array([True, False])) if repeat == 1 else None
    if held is not None:
        np.testing.assert_array_equal(held.obs["vision"][1], end.obs["vision"][1])


@needs_gl
def test_what_is_left_out_leaves_no_trace(made, monkeypatch):
    env = made("SafetyCarButton2-v0")
    env.reset(seed=3)
    views = [("vision", 40, 30), ("vision_back", 30, 40), ("track", 40, 40), ("fixedfar", 40, 40)]
    counts = {"asked": 0, "seen": 0}
    sees = Frustum.sees

    def everything(self, points, radius=0.0):
        seen = sees(self, points, radius)
        counts["asked"] += np.size(seen)
        counts["seen"] += np.sum(seen)
        return np.ones_like(seen)

    culled = [env.render(0, *view) for view in views]
    monkeypatch.setattr(Frustum, "sees", everything)
    for before, view in zip(culled, views):
        np.testing.assert_array_equal(before, env.render(0, *view))
    assert counts["seen"] < 0.8 * counts["asked"]


@needs_gl
def test_a_collector_goes_on_with_the_pictures_that_it_had(made):
    def collector():
        env = made(GOAL1, num_envs=2, size=24, detail="low", lidars=False)
        encoder = Auto(channels=(2,), kernels=(8,), strides=(8,), width=4)
        learner = jsafe.make(
            "ppo_lag",
            jsafe.types.env_spec(env),
            encoder=encoder,
            hidden=(4,),
            num_envs=2,
            steps_per_epoch=8,
            minibatch=4,
        )
        return make_collector(env, learner, seed=3), learner

    first, learner = collector()
    policy = learner.policy(jax.jit(learner.init)(jax.random.key(0)))
    before = first.collect(policy, jax.random.key(1)).steps
    assert before.obs["vision"].dtype == np.uint8
    second, _ = collector()
    second.load_state_dict(first.state_dict())
    one, two = (each.collect(policy, jax.random.key(2)).steps for each in (first, second))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.obs["vision"][0], before.next_obs["vision"][-1])


@needs_gl
def test_what_fades_can_be_seen_to_fade(made):
    env = made("SafetyPointFadingHard0Vision-v0", size=48)
    env.reset(seed=0)
    seen = []
    for age in (0.0, 25.0, 50.0, 75.0):
        env.set_state(0, {"task": {"faded_goal": age}})
        stand(env, "Point", 0.0, (1.0, 0.0))
        seen.append(env.observe()["vision"][0].astype(float))
    left = np.array([np.abs(picture - seen[-1]).sum() for picture in seen])
    assert left[0] > 10000
    np.testing.assert_allclose(left / left[0], [1, 2 / 3, 1 / 3, 0], atol=0.03)


def test_fading_is_goal_with_colours_that_are_counted():
    pairs = [(envs.make(f"Safety{name}-v0", seed=2), name) for name in ("PointGoal2", "PointFadingHard2")]
    (plain, _), (fading, _) = pairs
    np.testing.assert_array_equal(plain.reset(), fading.reset())
    for t in range(12):
        a, b = (env.step(np.array([[0.5, 0.2]])) for env in (plain, fading))
        np.testing.assert_array_equal(a.obs, b.obs)
        assert (a.reward, a.cost) == (b.reward, b.cost)
        share = {group: fading.task.opacity(fading.simulation.scene, group)[0] for group in fading.task.fading}
        assert share == dict.fromkeys(("goal", "hazards", "vases"), pytest.approx(1 - (t + 1) / 75))
    x, y, _ = fading.simulation.scene.agent_pos[0]
    fading.set_state(0, {"bodies": {"hazard0": (np.array([x, y, 0.02]), np.array([1.0, 0, 0, 0]))}})
    assert fading.step(np.zeros((1, 2))).info["cost_hazards"] == 1
    scene, opacity = fading.simulation.scene, fading.task.opacity
    assert opacity(scene, "hazards")[0] == 1
    assert opacity(scene, "vases")[0] == opacity(scene, "goal")[0] == pytest.approx(1 - 13 / 75)
    fading.set_state(0, {"bodies": {"goal": (np.array([x, y, 0.16]), np.array([1.0, 0, 0, 0]))}})
    assert fading.step(np.zeros((1, 2))).info["success"][0]
    assert opacity(scene, "goal")[0] == 1
    assert opacity(scene, "vases")[0] == pytest.approx(1 - 14 / 75)


@needs_gl
def test_wrong_arguments_are_named(made):
    with pytest.raises(ValueError, match=r"size must be an integer in 1 \.\.\. 4096, got 0"):
        made(GOAL1, size=0)
    with pytest.raises(ValueError, match="unknown camera 'visoin'; did you mean 'vision'"):
        made(GOAL1, cameras=["visoin"])
    with pytest.raises(ValueError, match="unknown detail 'high'"):
        made(GOAL1, detail="high")
    with pytest.raises(ValueError, match="lidars must be True or False, got 1"):
        made(GOAL1, lidars=1)
    with pytest.raises(ValueError, match="num_processes must be None on SafetyPointGoal1Vision-v0"):
        made(GOAL1, num_processes=2)
    with pytest.raises(ValueError, match="is for backend='host' only"):
        made(GOAL1, backend="device")
    env = made(GOAL1, size=16)
    env.reset()
    saved = env.state_dict()
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(1, 16, 16, 3\), got float64"):
        env.load_state_dict(saved | {"vision": saved["vision"].astype(float)})


def test_without_a_gl_library_the_task_is_refused_where_it_is_made(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(RenderError, match="MUJOCO_GL=off switches drawing off"):
        envs.make(GOAL1)
    assert "camera" in envs.summary(GOAL1)
