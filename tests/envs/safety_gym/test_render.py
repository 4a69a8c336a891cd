"""Pictures: what is on them, and that taking them changes nothing. Skipped where no GL library starts."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from jsafe import envs
from jsafe.envs.safety_gym.drawing import gl, overlays, painter
from jsafe.envs.velocity.speedometer import speedometer
from jsafe.report import video

needs_gl = pytest.mark.skipif(not gl.available(), reason="no GL library")


@pytest.fixture(scope="module")
def env():
    made = envs.make("SafetyPointGoal2-v0", num_envs=2, num_threads=1)
    yield made
    made.close()


@pytest.fixture
def point(env):
    """Two environments; in each the goal stands 0.8 m to the right of the robot as the tracking camera sees it."""
    env.reset(seed=0)
    for i in range(2):
        goal_to(env, i, (-0.8, 0.0))
    return env


def goal_to(env, i, offset):
    x, y, _ = env.simulation.scene.agent_pos[i]
    quat = np.array([1.0, 0.0, 0.0, 0.0])
    env.set_state(i, {"bodies": {"goal": (np.array([x + offset[0], y + offset[1], 0.16]), quat)}})


def green(picture):
    """Which pixels are of the goal's green."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    return (g > r + 60) & (g > b + 60)


@needs_gl
@pytest.mark.parametrize("camera", painter.CAMERAS)
def test_every_camera_gives_a_frame(point, camera):
    frame = point.render(1, camera, width=96, height=64)
    assert frame.shape == (64, 96, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 10


@needs_gl
def test_the_goal_stands_where_it_should(point):
    right = green(point.render(0, width=128, height=128, overlays=False))
    assert right.sum() > 300
    columns = np.nonzero(right)[1]
    assert columns.min() > 64  # the camera looks along -y, so that -x is to the right
    goal_to(point, 0, (0.8, 0.0))
    left = green(point.render(0, width=128, height=128, overlays=False))
    assert np.nonzero(left)[1].max() < 64
    goal_to(point, 0, (0.0, 30.0))
    assert not green(point.render(0, width=128, height=128, overlays=False)).any()


@needs_gl
def test_the_robot_is_in_the_middle(point):
    frame = point.render(0, width=128, height=128, overlays=False).astype(int)
    red = (frame[..., 0] > frame[..., 1] + 80) & (frame[..., 0] > frame[..., 2] + 80)
    rows, columns = np.nonzero(red)
    assert red.sum() > 20
    assert abs(rows.mean() - 64) < 8
    assert abs(columns.mean() - 64) < 8


@needs_gl
def test_overlays_show_the_lidars_and_the_cost(point):
    plain = point.render(0, width=128, height=128, overlays=False)
    halo = point.render(0, width=128, height=128)
    changed = np.abs(plain.astype(int) - halo).max(axis=-1) > 40  # less than that: their reflections on the floor
    assert 50 < changed.sum() < 3000
    assert changed[20:50, 44:84].sum() == changed.sum()  # the rings are above the robot
    x, y, _ = point.simulation.scene.agent_pos[0]
    point.set_state(0, {"bodies": {"hazard0": (np.array([x, y, 0.02]), np.array([1.0, 0.0, 0.0, 0.0]))}})
    out = point.step(np.zeros((2, 2)))
    assert out.cost[0, 0] == 1
    centre = np.s_[44:84, 44:84]
    calm = point.render(0, width=128, height=128, overlays=False)[centre].astype(int)
    alarm = point.render(0, width=128, height=128)[centre].astype(int)
    redder = (alarm[..., 0] - alarm[..., 1]).mean() - (calm[..., 0] - calm[..., 1]).mean()
    assert redder > 20


def test_the_halo_has_a_ring_for_each_lidar():
    made = envs.make("SafetyPointGoal2-v0")
    obs = made.reset(seed=3)[0]
    spheres = overlays.halo(made.simulation, 0)
    assert len(spheres) == 3 * 16
    values = np.concatenate(
        [obs[slice(*made.spec.obs_slices[f"{kind}_lidar"])] for kind in ("goal", "hazards", "vases")]
    )
    np.testing.assert_allclose([sphere.rgba[3] for sphere in spheres], np.minimum(1, values + 0.1))
    heights = np.array([sphere.pos[2] for sphere in spheres]).reshape(3, 16)
    np.testing.assert_allclose(heights, 0.1 + np.array([0.5, 0.56, 0.62])[:, None] + np.zeros(16))
    # The brightest sphere of the goal's ring points to the goal.
    goal, agent = made.simulation.scene.pos["goal"][0, 0, :2], made.simulation.scene.agent_pos[0, :2]
    bright = spheres[int(np.argmax(values[:16]))].pos[:2] - agent
    towards = goal - agent
    assert bright @ towards / np.linalg.norm(bright) / np.linalg.norm(towards) > np.cos(np.pi / 15)
    made.close()


def test_rays_share_spheres():
    made = envs.make("Safexp-PointGoal1-v0")
    obs = made.reset(seed=3)[0]
    spheres = overlays.halo(made.simulation, 0)
    assert len(spheres) == 3 * 16
    start, stop = made.spec.obs_slices["goal_lidar"]
    values = obs[start:stop].reshape(16, 4).max(axis=1)
    np.testing.assert_allclose([sphere.rgba[3] for sphere in spheres[:16]], np.minimum(1, values + 0.1))
    goal, agent = made.simulation.scene.pos["goal"][0, 0, :2], made.simulation.scene.agent_pos[0, :2]
    bright = spheres[int(np.argmax(values))].pos[:2] - agent
    towards = goal - agent
    assert bright @ towards / np.linalg.norm(bright) / np.linalg.norm(towards) > np.cos(np.pi / 8)
    made.close()


def test_the_speedometer_fades_and_turns_red():
    alphas = [speedometer((1, 2, 3), speed, 2.0, 0.0).rgba[3] for speed in (-1.0, 0.0, 1.0, 2.0)]
    np.testing.assert_allclose(alphas, [0.5, 0.5, 0.25, 0.0])
    fast = speedometer((1, 2, 3), 2.1, 2.0, 1.0)
    assert tuple(fast.rgba) == (0.5, 0.0, 0.0, 0.5)
    np.testing.assert_allclose(fast.pos, (1, 2, 3.6))


@needs_gl
@pytest.mark.parametrize("id", ["SafetyCarButton1-v0", "Safexp-PointPush1-v0", "SafetyHopperVelocity-v1"])
def test_pictures_leave_no_trace(id):
    def run(draw):
        made = envs.make(id, num_envs=2, num_threads=1)
        made.reset(seed=1)
        rng, seen = np.random.default_rng(0), []
        for _ in range(8):
            out = made.step(rng.uniform(-1, 1, (2, made.spec.act_dim)))
            if draw:
                assert made.render(1, width=32, height=32).std() > 10
            seen.append(np.concatenate([out.obs.ravel(), out.reward, out.cost.ravel()]))
        states = [value for i in range(2) for joint in made.get_state(i)["joints"].values() for value in joint]
        made.close()
        return np.array(seen), np.concatenate(states)

    for drawn, plain in zip(run(True), run(False)):
        np.testing.assert_array_equal(drawn, plain)


@needs_gl
def test_the_same_state_looks_the_same(point):
    first = point.render(0, width=64, height=64)
    other = envs.make("SafetyCarCircle1-v0")
    other.reset()
    other.render(width=300, height=200)
    np.testing.assert_array_equal(point.render(0, width=64, height=64), first)
    other.close()
    point.render(1, width=640, height=500)
    np.testing.assert_array_equal(point.render(0, width=64, height=64), first)
    assert (point.render(1, width=64, height=64) != first).any()


@needs_gl
def test_another_thread_is_told_that_it_cannot_draw(point):
    first, errors = point.render(0, width=32, height=32), []

    def draw():
        try:
            point.render(0, width=32, height=32)
        except gl.RenderError as error:
            errors.append(str(error))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert errors == ["an environment is drawn by one thread: the one that asked for its first picture"]
    np.testing.assert_array_equal(point.render(0, width=32, height=32), first)


@needs_gl
def test_the_speed_sphere_is_drawn():
    made = envs.make("SafetyHumanoidVelocity-v1")
    made.reset(seed=0)
    with_sphere = made.render(0, width=64, height=64)
    without = made.render(0, width=64, height=64, overlays=False)
    changed = np.abs(with_sphere.astype(int) - without).max(axis=-1) > 20
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 10
    assert rows.max() < 32  # above the torso
    assert abs(columns.mean() - 32) < 6
    made.close()


@needs_gl
def test_captions_are_written(point):
    plain = point.render(0, width=128, height=128)
    titled = point.render(0, width=128, height=128, caption={"step": 12})
    changed = (plain != titled).any(axis=-1)
    assert changed[:40].any()
    assert not changed[64:].any()


@needs_gl
def test_wrong_arguments_are_named(point):
    with pytest.raises(ValueError, match="unknown camera 'trak'; did you mean 'track'"):
        point.render(0, "trak")
    with pytest.raises(ValueError, match=r"width must be an integer in 1 \.\.\. 4096, got 0"):
        point.render(0, width=0)
    with pytest.raises(ValueError, match="height must be an integer"):
        point.render(0, height=2.5)
    with pytest.raises(ValueError, match=r"index must be an integer in 0 \.\.\. 1, got 2"):
        point.render(2)


def test_the_platform_can_be_chosen(monkeypatch):
    for given in ("egl", "osmesa", "glfw"):
        monkeypatch.setenv("MUJOCO_GL", given)
        assert gl.platform() == given
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(gl.RenderError, match="MUJOCO_GL=off switches drawing off"):
        gl.platform()
    monkeypatch.setenv("MUJOCO_GL", "directx")
    with pytest.raises(gl.RenderError, match=r"must be one of .* got 'directx'"):
        gl.platform()


def test_without_an_egl_library_osmesa_is_taken(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gl.ctypes.util, "find_library", lambda name: None)
    assert gl.platform() == "osmesa"


def test_without_any_library_the_package_is_named_and_physics_goes_on(tmp_path):
    # In a process of its own, because PyOpenGL remembers what it has loaded.
    script = """
import ctypes, ctypes.util, sys
import mujoco
find, load = ctypes.util.find_library, ctypes.CDLL
gl = ("EGL", "OSMesa", "GL", "OpenGL")
class Without(load):
    def __init__(self, name, *args, **kwargs):
        if name and any(f"lib{word}." in str(name) or str(name) == word for word in gl):
            raise OSError(f"{name}: cannot open shared object file")
        super().__init__(name, *args, **kwargs)
ctypes.util.find_library = lambda name: None if name in gl else find(name)
ctypes.CDLL = ctypes.cdll._dlltype = Without
from jsafe import envs
env = envs.make("SafetyPointGoal1-v0")
env.reset()
try:
    env.render()
except Exception as error:
    print(type(error).__name__, error)
env.step([[0.0, 0.0]])
print("stepped")
"""
    path = tmp_path / "script.py"
    path.write_text(script)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "RenderError cannot draw with osmesa" in done.stdout
    assert "libosmesa6" in done.stdout
    assert done.stdout.endswith("stepped\n")
    assert "Exception ignored" not in done.stderr


@needs_gl
def test_a_video_is_written(tmp_path):
    import imageio.v2 as imageio

    made = envs.make("SafetyCarGoal1-v0", num_threads=1)
    path = tmp_path / "new" / "out.mp4"
    recording = video.record(
        made, path, lambda env: video.random_policy(env, seed=1), steps=5, width=96, height=64, overlays=False
    )
    assert recording == (path, 6, [])
    frames = imageio.mimread(path, memtest=False)
    assert len(frames) == 6
    assert frames[0].shape == (64, 96, 3)
    made.close()


def test_what_cannot_be_filmed_is_named(tmp_path):
    many = envs.make("SafetyCarGoal1-v0", num_envs=2)
    with pytest.raises(ValueError, match="num_envs must be 1 for a video, got 2"):
        video.record(many, tmp_path / "out.mp4", video.random_policy)
    many.close()
    one = envs.make("SafetyCarGoal1-v0")
    with pytest.raises(ValueError, match=r"output must be a video file .* got .*out\.txt"):
        video.record(one, tmp_path / "out.txt", video.random_policy)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        video.record(one, tmp_path / "out.mp4", video.random_policy, steps=0)
    one.close()
    assert list(tmp_path.iterdir()) == []


class Counted:
    """Episodes of three steps, each with reward 1 and cost 2; the frame's brightness is the number of calls."""

    num_envs = 1

    class spec:
        id, dt, action_low, action_high = "counted", 0.1, (-1.0,), (1.0,)
        obs_dim, act_dim, num_costs, horizon, cost_names = 1, 1, 1, 3, ()

    def __init__(self):
        self.time = 0

    def reset(self, seed=None):
        self.time = 0
        return np.zeros((1, 1))

    def step(self, actions):
        assert actions.shape == (1, 1)
        assert np.abs(actions).max() <= 1
        self.time += 1
        ended = np.array([self.time % 3 == 0])
        return envs.Step(np.zeros((1, 1)), np.ones(1), np.full((1, 1), 2.0), ended, ended & False, np.zeros((1, 1)),
                         {"success": ended})  # fmt: skip

    def render(self, i=0, caption=None):
        self.caption = caption
        return np.full((4, 4, 3), self.time, np.uint8)


def test_filming_counts_and_stops():
    env, frames, captions = Counted(), [], []

    def write(frame):
        frames.append(int(frame[0, 0, 0]))
        captions.append(dict(env.caption))

    video.random_policy(filmed := video.Filmed(env, write, {}), episodes=2)
    assert frames == [0, 1, 2, 3, 4, 5, 6]
    assert [caption["step"] for caption in captions] == [0, 1, 2, 0, 1, 2, 0]
    assert captions[2] == {"step": 2, "return": "2.00", "cost": "4"}
    assert captions[-1] == {"step": 0, "return": "0.00", "cost": "0", "goals": 2}
    assert filmed.episodes == [{"return": 3.0, "costs": {"cost": 6.0}, "length": 3, "success": 1.0}] * 2
