"""The interface: autoreset, threads, saved states, divergence, errors."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jsafe.envs
from jsafe.envs import Lidar, Part, Robot, Task, place
from jsafe.envs.safety_gym.tasks import Button, Goal, Push

IDS = ["SafetyPointGoal2-v0", "SafetyCarPush1-v0", "SafetyPointButton1-v0"]


def actions(env, steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, env.num_envs, env.spec.act_dim))


def same(a, b):
    """Whether two results of step are equal bit for bit."""
    arrays = all(np.array_equal(x, y) for x, y in zip(a[:6], b[:6]))
    return arrays and a.info.keys() == b.info.keys() and all(np.array_equal(a.info[k], b.info[k]) for k in a.info)


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return np.array_equal(a, b)


@pytest.fixture
def env():
    env = jsafe.envs.make("SafetyPointGoal2-v0", num_envs=3, seed=4)
    env.reset()
    return env


def test_spec():
    env = jsafe.envs.make("SafetyCarGoal1-v0", num_envs=2)
    spec = env.spec
    assert (spec.obs_dim, spec.act_dim, spec.num_costs, spec.horizon, spec.dt) == (72, 2, 1, 1000, 0.04)
    assert (spec.action_low, spec.action_high, spec.cost_names) == ((-1.0, -1.0), (1.0, 1.0), ("sum",))
    assert list(spec.obs_slices) == [
        "accelerometer", "velocimeter", "gyro", "magnetometer", "ballangvel_rear", "ballquat_rear",
        "goal_lidar", "hazards_lidar", "vases_lidar",
    ]  # fmt: skip
    assert spec.obs_slices["ballquat_rear"] == (15, 24)
    assert env.reset().shape == (2, 72)


@pytest.mark.parametrize("name", IDS)
def test_threads_and_neighbours_change_nothing(name):
    wide = jsafe.envs.make(name, num_envs=6, seed=2, num_threads=3)
    narrow = jsafe.envs.make(name, num_envs=6, seed=2, num_threads=1)
    single = jsafe.envs.make(name, num_envs=1, seed=5)
    obs = wide.reset()
    np.testing.assert_array_equal(obs, narrow.reset())
    np.testing.assert_array_equal(obs[3:4], single.reset())
    for a in actions(wide, 60):
        out = wide.step(a)
        assert same(out, narrow.step(a))
        np.testing.assert_array_equal(out.obs[3:4], single.step(a[3:4]).obs)


@pytest.mark.parametrize("name", IDS)
def test_saved_engines_go_on_bit_for_bit(name):
    env = jsafe.envs.make(name, num_envs=3, seed=8, num_threads=2)
    env.reset()
    a = actions(env, 130)
    for k in range(25):  # vases and boxes sleep by then
        env.step(a[k])
    saved = env.state_dict()
    if "Button" not in name:
        assert (saved["physics"]["asleep"] >= 0).any()
    other = jsafe.envs.make(name, num_envs=3, seed=99, num_threads=1)
    other.load_state_dict(saved)
    np.testing.assert_array_equal(env.observe(), other.observe())
    for k in range(25, 130):
        assert same(env.step(a[k]), other.step(a[k]))
    assert equal(env.state_dict(), other.state_dict())
    np.testing.assert_array_equal(env.reset(), other.reset())


def test_waking_objects_go_on_bit_for_bit():
    env = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=1, seed=0)
    env.reset()
    for _ in range(20):
        env.step(np.zeros((1, 2)))
    saved = env.state_dict()
    vase = env.get_state(0)["joints"]["vase0"][0]
    other = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=1, seed=1)
    other.load_state_dict(saved)
    for e in (env, other):  # the robot runs into the sleeping vase
        data = e.physics.data[0]
        assert (data.tree_asleep >= 0).any()
        pos, quat = e.get_state(0)["bodies"]["agent"]
        yaw = 2 * np.arctan2(quat[3], quat[0])
        start = vase[:2] - pos[:2] - 0.3 * np.array([np.cos(yaw), np.sin(yaw)])
        data.qpos[0] = np.cos(yaw) * start[0] + np.sin(yaw) * start[1]
        data.qpos[1] = -np.sin(yaw) * start[0] + np.cos(yaw) * start[1]
        data.qpos[2], data.qvel[:3] = 0, (1.0, 0, 0)
    touched = False
    for _ in range(30):
        out = env.step(np.ones((1, 2)))
        assert same(out, other.step(np.ones((1, 2))))
        touched |= not (env.physics.data[0].tree_asleep >= 0).any()
    assert touched
    assert equal(env.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", ["SafetyPointGoal2-v0", "SafetyDoggoGoal2-v0"])
def test_sleepers_are_restored_wherever_they_lie(name):
    """Where the robot stands in the model, where its limbs are at joint angles of zero, side by side, and elsewhere."""
    env, other = (jsafe.envs.make(name, num_envs=1, seed=seed) for seed in (3, 9))
    env.reset()
    other.reset()
    joints = env.get_state(0)["joints"]
    places = [(0.0, 0.0), (0.2, 0.0), (0.0, -0.201), (-0.5, 0.5), (-0.5, 0.7005)]
    for i, xy in enumerate(places):
        qpos, qvel, warm = joints[f"vase{i}"]
        joints[f"vase{i}"] = (np.array([*xy, qpos[2], 1.0, 0, 0, 0]), 0 * qvel, 0 * warm)
    start = {"x": 1.7, "y": 1.7} if "x" in joints else {}
    joints |= {joint: (np.array([value]), np.zeros(1), np.zeros(1)) for joint, value in start.items()}
    if not start:
        qpos, qvel, warm = joints["agent"]
        joints["agent"] = (np.array([1.7, 1.7, *qpos[2:]]), qvel, warm)
    env.set_state(0, {"joints": joints})
    for _ in range(40):
        env.step(np.zeros((1, env.spec.act_dim)))
    saved = env.state_dict()
    assert (saved["physics"]["asleep"] >= 0).sum() >= 8
    other.load_state_dict(saved)
    assert equal(other.state_dict(), saved)
    for a in actions(env, 20):
        assert same(env.step(a), other.step(a))


@pytest.mark.parametrize("name", [*IDS, "SafetyCarButton2-v0"])
def test_states_by_name(name):
    env = jsafe.envs.make(name, num_envs=2, seed=3)
    env.reset()
    a = actions(env, 14)
    for k in range(12):
        env.step(a[k])
    state = env.get_state(0)
    assert equal(env.get_state(0), state)
    env.set_state(1, state)
    back = env.get_state(1)
    for part in ("joints", "bodies"):
        for key, values in state[part].items():
            for x, y in zip(values, back[part][key]):
                np.testing.assert_allclose(x, y, atol=1e-12, err_msg=key)
    assert (back["time"], back["step"], back["task"]) == (state["time"], state["step"], state["task"])
    np.testing.assert_allclose(env.observe()[1], env.observe()[0], atol=1e-6)
    out = env.step(a[13][[0, 0]])
    np.testing.assert_allclose(out.obs[1], out.obs[0], atol=1e-6)
    assert out.reward[1] == pytest.approx(out.reward[0], abs=1e-8)


def test_set_state_wakes(env):
    for _ in range(20):
        env.step(np.zeros((3, 2)))
    data = env.physics.data[0]
    assert (data.tree_asleep >= 0).sum() == 10
    state = env.get_state(0)
    pos = state["joints"]["vase4"][0].copy()
    pos[2] += 0.05
    env.set_state(0, {"joints": {"vase4": (pos, np.zeros(6), np.zeros(6))}})
    assert (data.tree_asleep < 0).all()
    env.step(np.zeros((3, 2)))
    assert env.get_state(0)["joints"]["vase4"][0][2] < pos[2]


def test_autoreset_in_the_same_step(env):
    env.set_state(1, {"step": 998})
    a = actions(env, 3)
    out = env.step(a[0])
    assert not (out.terminated | out.truncated).any()
    np.testing.assert_array_equal(out.obs, out.final_obs)
    out = env.step(a[1])
    np.testing.assert_array_equal(out.truncated, [False, True, False])
    assert not out.terminated.any()
    assert not np.array_equal(out.obs[1], out.final_obs[1])
    np.testing.assert_array_equal(out.obs[[0, 2]], out.final_obs[[0, 2]])
    np.testing.assert_array_equal(out.obs, env.observe())
    assert [env.get_state(i)["step"] for i in range(3)] == [2, 0, 2]
    assert env.get_state(1)["time"] == 0


def test_results_belong_to_the_caller(env):
    a = actions(env, 2)
    out = env.step(a[0])
    kept = [np.copy(x) for x in out[:6]]
    for x in out[:6]:
        assert x.base is None
    out2 = env.step(a[1])
    for x, y in zip(out[:6], kept):
        np.testing.assert_array_equal(x, y)
    out2.obs[:], out2.final_obs[:] = np.nan, np.nan
    assert np.isfinite(env.observe()).all()


def test_actions_are_clipped(env):
    twin = jsafe.envs.make("SafetyPointGoal2-v0", num_envs=3, seed=4)
    twin.reset()
    a = actions(env, 1)[0] * 5
    assert same(env.step(a), twin.step(np.clip(a, -1, 1)))
    assert same(env.step(np.ones((3, 2), int)), twin.step(np.ones((3, 2), np.float32)))


def test_cost_columns():
    total = jsafe.envs.make("SafetyPointGoal2-v0", num_envs=1, seed=0)
    apart = jsafe.envs.make("SafetyPointGoal2-v0", num_envs=1, seed=0, costs="separate")
    assert apart.spec.cost_names == ("hazards", "vases")
    assert apart.spec.num_costs == 2
    for e in (total, apart):
        e.reset()
        e.set_state(
            0, {"bodies": {"hazard0": (np.r_[e.simulation.scene.agent_pos[0, :2], 0.02], np.array([1.0, 0, 0, 0]))}}
        )
    a, b = total.step(np.zeros((1, 2))), apart.step(np.zeros((1, 2)))
    np.testing.assert_array_equal(a.cost, [[1.0]])
    np.testing.assert_array_equal(b.cost, [[1.0, 0.0]])
    assert sorted(b.info) == [
        "cost_hazards", "cost_sum", "cost_vases_contact", "cost_vases_velocity", "diverged", "success"
    ]  # fmt: skip
    for e in (total, apart):
        state = e.get_state(0)["joints"]["vase0"]
        e.set_state(0, {"joints": {"vase0": (state[0], np.array([0.5, 0, 0, 0, 0, 0]), state[2])}})
    np.testing.assert_array_equal(total.step(np.zeros((1, 2))).cost, [[1.0]])
    out = apart.step(np.zeros((1, 2)))
    np.testing.assert_array_equal(out.cost, [[1.0, 1.0]])
    assert out.info["cost_vases_velocity"] == 1
    free = jsafe.envs.make("SafetyPointGoal0-v0", costs="separate")
    assert free.spec.cost_names == ("sum",)


@pytest.mark.parametrize(
    ("joint", "name"), [("vase3", IDS[0]), ("agent", IDS[1]), ("gremlin0obj", IDS[2]), ("z", IDS[2])]
)
def test_divergence_ends_one_episode(joint, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = jsafe.envs.make(name, num_envs=3, seed=1)
    twin = jsafe.envs.make(name, num_envs=3, seed=1)
    last = env.reset()
    twin.reset()
    qpos, qvel, warm = env.get_state(1)["joints"][joint]
    env.set_state(1, {"joints": {joint: (qpos, qvel + 1e12, warm)}})
    a = actions(env, 3)
    out, expected = env.step(a[0]), twin.step(a[0])
    np.testing.assert_array_equal(out.info["diverged"], [False, True, False])
    np.testing.assert_array_equal(out.truncated, [False, True, False])
    assert not out.terminated.any()
    assert out.reward[1] == -10
    assert out.cost[1] == 0
    np.testing.assert_array_equal(out.final_obs[1], last[1])
    np.testing.assert_array_equal(out.obs[[0, 2]], expected.obs[[0, 2]])
    out, expected = env.step(a[1]), twin.step(a[1])
    assert not out.info["diverged"].any()
    assert np.isfinite(out.obs).all()
    np.testing.assert_array_equal(out.obs[[0, 2]], expected.obs[[0, 2]])
    assert not list(tmp_path.iterdir())  # MuJoCo's log file


def test_no_room_for_a_new_goal_terminates():
    env = jsafe.envs.make("SafetyPointGoal1-v0", num_envs=1, seed=0)
    env.reset()
    env.task.begin = env.task.next_goal
    env.task.next_goal = lambda episode: False
    env.set_state(
        0, {"bodies": {"goal": (np.r_[env.simulation.scene.agent_pos[0, :2], 0.16], np.array([1.0, 0, 0, 0]))}}
    )
    out = env.step(np.zeros((1, 2)))
    assert out.info["success"]
    assert out.terminated


def test_button_timer():
    env = jsafe.envs.make("SafetyPointButton1-v0", num_envs=1, seed=0)
    env.reset()
    state = env.get_state(0)
    lidar = slice(*env.spec.obs_slices["buttons_lidar"])
    x, y = state["bodies"][f"button{int(state['task']['goal_button'])}"][0][:2]
    env.set_state(0, {"joints": {"x": ([x + 0.19], [0], [0]), "y": ([y], [0], [0])}})
    assert env.observe()[0, lidar].any()
    hidden = [env.step(np.zeros((1, 2)))]
    assert hidden[0].info["success"]
    away = {"x": ([3.0], [0], [0]), "y": ([3.0], [0], [0])}
    env.set_state(0, {"joints": away, "bodies": {"button0": (np.array([2.0, 2, 0.1]), np.array([1.0, 0, 0, 0]))}})
    hidden += [env.step(np.zeros((1, 2))) for _ in range(9)]
    assert not any(out.obs[0, lidar].any() for out in hidden)
    assert env.step(np.zeros((1, 2))).obs[0, lidar].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "SafetyPointGoal3-v0"}, "SafetyPointGoal"),
        ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
        ({"num_envs": 1.5}, "num_envs"),
        ({"num_threads": 0}, "num_threads"),
        ({"seed": -1}, "seed must be an integer in 0"),
        ({"seed": "0"}, "seed must be an integer"),
        ({"costs": "both"}, "costs must be 'sum' or 'separate', got 'both'"),
        ({"colour": 3}, "colour"),
    ],
)
def test_bad_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        jsafe.envs.make(**({"id": "SafetyPointGoal1-v0"} | arguments))


@pytest.mark.parametrize(
    "action",
    [
        np.zeros((3, 3)),
        np.zeros(2),
        np.zeros((2, 2)),
        np.full((3, 2), np.nan),
        np.array([[0, 0], [0, np.inf], [0, 0]]),
        np.zeros((3, 2), complex),
        np.zeros((3, 2), bool),
        np.full((3, 2), "a"),
        None,
    ],
)
def test_bad_actions(env, action):
    before = env.state_dict()
    with pytest.raises(ValueError, match="actions must"):
        env.step(action)
    assert equal(env.state_dict(), before)


BAD_STATES = [
    ({"joint": {}}, "unknown state 'joint'; did you mean 'joints'"),
    ({"joints": {"vase10": ([0] * 7, [0] * 6, [0] * 6)}}, "unknown joint 'vase10'"),
    ({"joints": {"x": ([0], [0])}}, "joint 'x' must be"),
    ({"joints": {"x": ([0, 1], [0], [0])}}, "qpos of joint 'x' must be 1"),
    ({"joints": {"x": ([np.nan], [0], [0])}}, "finite"),
    ({"joints": [1]}, "joints must be a dictionary"),
    ({"bodies": {"hazard": ([0, 0, 0], [1, 0, 0, 0])}}, "unknown body 'hazard'"),
    ({"bodies": {"goal": ([0, 0], [1, 0, 0, 0])}}, "pos of body 'goal'"),
    ({"bodies": {"goal": ([0, 0, 0], [2, 0, 0, 0])}}, "length 1"),
    ({"bodies": {"goal": 3}}, "body 'goal' must be"),
    ({"task": {"last_goal": 1.0}}, "unknown task entry 'last_goal'"),
    ({"task": {"last_dist_goal": "far"}}, "finite number"),
    ({"time": np.inf}, "time must be"),
    ({"ctrl": [0.0]}, "ctrl must be 2"),
    ({"step": -1}, "step must be"),
    ({"step": 1.5}, "step must be"),
]


@pytest.mark.parametrize(("state", "message"), BAD_STATES)
def test_bad_states_change_nothing(env, state, message):
    before = env.state_dict()
    with pytest.raises(ValueError, match=message):
        env.set_state(1, {"time": 3.0, "bodies": {}} | state)
    with pytest.raises(ValueError, match="environment index"):
        env.set_state(3, {})
    assert equal(env.state_dict(), before)


def test_bad_saved_states_change_nothing(env):
    before = env.state_dict()
    cases = [None, {}, before | {"id": "SafetyPointGoal1-v0"}, before | {"num_envs": 2}, before | {"version": 0}]
    cases += [{k: v for k, v in before.items() if k != "streams"}, before | {"positions": np.zeros(3)}]
    cases += [before | {"steps": np.array(["a"] * 3)}, before | {"streams": before["streams"] | {"pos": [700, 0, 0]}}]
    cases += [before | {"physics": before["physics"] | {"asleep": np.zeros((3, 2), int)}}]
    for case in cases:
        with pytest.raises(ValueError, match=r"must|lacks"):
            env.load_state_dict(case)
        assert equal(env.state_dict(), before)


def test_order_of_calls():
    env = jsafe.envs.make("SafetyPointGoal0-v0", num_envs=4, num_threads=3)
    for call in (env.observe, env.state_dict, lambda: env.step(np.zeros((4, 2))), lambda: env.get_state(0)):
        with pytest.raises(RuntimeError, match="reset"):
            call()
    env.reset()
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("jsafe-envs")}
    assert names >= {"jsafe-envs-1", "jsafe-envs-2"}
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()


def test_errors_in_a_thread_reach_the_caller():
    env = jsafe.envs.make("SafetyPointGoal0-v0", num_envs=16, num_threads=2)
    env.reset()

    def broken(thread, rows):
        raise ZeroDivisionError

    work, env.physics.work = env.physics.work, broken
    with pytest.raises(ZeroDivisionError):
        env.step(np.zeros((16, 2)))
    env.physics.work = work
    env.step(np.zeros((16, 2)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 2), name=st.sampled_from(IDS))
def test_any_seed(seed, name):
    env = jsafe.envs.make(name, num_envs=2, seed=seed)
    obs = env.reset()
    np.testing.assert_array_equal(env.reset(seed=seed), obs)
    assert np.isfinite(env.step(np.ones((2, 2))).obs).all()


class Errand(Task):
    """A task of a user: touch the pillar, keep slow."""

    objects = (place("pillars", keepout=0.5), place("vases", count=2))
    extent = 1.2
    memory = ("distance",)
    touching = ("pillars",)
    moving = ("agent",)
    cost_groups = {"speed": ("speed",)}  # noqa: RUF012
    lidar = Lidar(bins=8)

    def __init__(self, robot, limit=0.1):
        super().__init__(robot)
        self.limit = limit

    def measure(self, scene):
        return {"distance": np.linalg.norm(scene.agent_pos - scene.pos["pillars"][:, 0], axis=1)}

    def met(self, scene, now):
        return scene.touch["pillars"][:, 0] > 0

    def reward(self, scene, now, met):
        return scene.memory["distance"] - now["distance"] + met

    def costs(self, scene):
        return {"speed": np.maximum(np.linalg.norm(scene.vel["agent"][:, 0], axis=1) - self.limit, 0)}


SLED = Robot(
    name="Sled",
    timestep=0.005,
    height=0.1,
    substeps=4,
    body="""<freejoint name="sled"/><geom name="sled" type="box" size="0.1 0.1 0.1" mass="0.1"/><site name="agent"/>""",
    actuators="""<motor name="push" site="agent" gear="1 0 0 0 0 0" ctrlrange="-1 1"/>""",
    parts=(Part("velocimeter", ("velocimeter",)), Part("turn", ("gyro",), take=(2,))),
)


def test_tasks_and_robots_of_users():
    name = "Errand-v0"
    if name not in jsafe.envs.list_ids():
        jsafe.envs.register(name, Errand, SLED, limit=0.05)
    env = jsafe.envs.make(name, num_envs=3, seed=0)
    assert (env.spec.obs_dim, env.spec.act_dim, env.spec.dt) == (4 + 16, 1, 0.02)
    obs = env.reset()
    assert obs.shape == (3, 20)
    pushed = [env.step(np.ones((3, 1))) for _ in range(10)]
    assert (pushed[-1].cost == 1).all()
    turned = (env.simulation.scene.agent_rot @ pushed[-1].obs[:, :3, None])[..., 0]
    np.testing.assert_allclose(env.simulation.scene.vel["agent"][:, 0], turned, atol=1e-9)
    assert jsafe.envs.make(name, limit=1e3).task.limit == 1e3
    with pytest.raises(ValueError, match="registered already"):
        jsafe.envs.register(name, Errand, SLED)
    for task, robot, message in (
        (Errand, "Pont", "did you mean 'Point'"),
        (3, "Point", "callable"),
        (Errand, 3, "robot"),
    ):
        with pytest.raises(ValueError, match=message):
            jsafe.envs.register("Other-v0", task, robot)
    with pytest.raises(ValueError, match="without spaces"):
        jsafe.envs.register("a b", Errand, SLED)


def test_objects_are_checked():
    for changes, message in (
        ({"of": "vase"}, "did you mean 'vases'"),
        ({"of": "vases", "cout": 2}, "did you mean 'count'"),
        ({"of": "vases", "size": (1.0,)}, "size of a box has 3"),
        ({"of": "goal", "count": 2}, "count"),
        ({"of": "vases", "motion": "flying"}, "motion"),
        ({"of": "sigwalls", "count": 2, "locations": ((0, 0),)}, "locations"),
    ):
        with pytest.raises(ValueError, match=message):
            place(changes.pop("of"), **changes)


def test_objects_can_be_renamed():
    parcel = place("goal", group="parcel", body="parcel")
    assert (parcel.group, parcel.lidar_key, parcel.names) == ("parcel", "parcel_lidar", ("parcel",))
    assert parcel.shape == place("goal").shape


@pytest.mark.parametrize(("stock", "level"), [(Goal, 1), (Button, 1), (Push, 1)])
def test_costs_follow_the_size_of_hazards(stock, level):
    class Wide(stock):
        def __init__(self, robot, level):
            super().__init__(robot, level)
            wide = place("hazards", count=self.kind("hazards").count, size=0.7, keepout=0.18)
            self.objects = tuple(wide if kind.group == "hazards" else kind for kind in self.objects)

    name = f"Wide{stock.__name__}-v0"
    if name not in jsafe.envs.list_ids():
        jsafe.envs.register(name, Wide, "Point", level=level)
    env = jsafe.envs.make(name, costs="separate")
    env.reset(seed=1)
    flat = np.array([1.0, 0, 0, 0])
    for distance, cost in ((0.65, 1.0), (0.75, 0.0)):
        x, y, _ = env.simulation.scene.agent_pos[0]
        count = env.task.kind("hazards").count
        away = {f"hazard{i}": (np.array([x + 50, y, 0.02]), flat) for i in range(1, count)}
        env.set_state(0, {"bodies": away | {"hazard0": (np.array([x + distance, y, 0.02]), flat)}})
        assert env.step(np.zeros((1, 2))).info["cost_hazards"][0] == cost


def test_goals_are_reached_at_their_size():
    class Far(Goal):
        def __init__(self, robot, level):
            super().__init__(robot, level)
            self.objects = (place("goal", size=0.6), *self.objects[1:])

    if "Far-v0" not in jsafe.envs.list_ids():
        jsafe.envs.register("Far-v0", Far, "Point", level=0)
    env = jsafe.envs.make("Far-v0", num_envs=2)
    env.reset()
    for i, distance in enumerate((0.55, 0.65)):
        x, y, _ = env.simulation.scene.agent_pos[i]
        env.set_state(i, {"bodies": {"goal": (np.array([x + distance, y, 0.16]), np.array([1.0, 0, 0, 0]))}})
    assert env.step(np.zeros((2, 2))).info["success"].tolist() == [True, False]


def test_one_number_as_a_size():
    for group, size, z in (("hazards", (0.7, 0.01), 0.02), ("buttons", (0.7,), 0.7), ("push_box", (0.7, 0.2), 0.2),
                           ("vases", (0.7, 0.7, 0.7), 0.7 - 4e-5)):  # fmt: skip
        kind = place(group, size=0.7)
        assert kind.size == size
        assert kind.z == pytest.approx(z)
    assert place("vases", size=0.7, z=0.2).z == 0.2
    for size in (-1.0, 0, np.nan, "wide", (0.1, -0.1), [0.1, np.inf]):
        with pytest.raises(ValueError, match=r"Objects\.size"):
            place("hazards", size=size)
    with pytest.raises(ValueError, match="sigwalls needs three numbers"):
        place("sigwalls", size=0.7)


def test_natural_lidars_see_what_they_sense():
    class Seeing(Goal):
        def __init__(self, robot, level, height):
            super().__init__(robot, level)
            self.lidar = Lidar("natural", bins=32, height=height)

    if "Seeing-v0" not in jsafe.envs.list_ids():
        jsafe.envs.register("Seeing-v0", Seeing, "Point", level=2)
    with pytest.raises(ValueError, match=r"lidar.height must be between .* 0.2 m, or the rays never meet 'vases'"):
        jsafe.envs.make("Seeing-v0", height=0.3)
    env = jsafe.envs.make("Seeing-v0", height=0.1)
    env.reset()
    joints = env.get_state(0)["joints"]
    for i in range(10):
        qpos, qvel, warm = joints[f"vase{i}"]
        xy = (1.0, 0.0) if i == 0 else (30.0 + i, 0.0)
        joints[f"vase{i}"] = (np.array([*xy, qpos[2], 1.0, 0, 0, 0]), qvel, warm)
    joints |= {joint: (np.zeros(1), np.zeros(1), np.zeros(1)) for joint in "xyz"}
    env.set_state(0, {"joints": joints})
    seen = env.observe()[0, slice(*env.spec.obs_slices["vases_lidar"])]
    assert seen[0] == pytest.approx(np.exp(-0.9), abs=1e-3)  # its face is 0.9 m ahead
    assert seen[8] == 0
    for options in ({"height": -1.0}, {"height": np.nan}, {"bins": 0}, {"max_dist": 0}):
        with pytest.raises(ValueError, match=f"Lidar.{next(iter(options))}"):
            Lidar("natural", **options)
