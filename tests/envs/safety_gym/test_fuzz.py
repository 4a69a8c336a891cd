"""A thousand malformed inputs: each is a ValueError that says what is wrong, and changes nothing."""

import copy

import numpy as np
import pytest

import jsafe.envs
from jsafe.envs import Robot, Task
from jsafe.envs.safety_gym.robots import ROBOTS

COUNT = 200
IDS = ("SafetyPointButton1-v0", "SafetyAntPush1-v0", "SafetyHopperVelocity-v1")


class Opaque:
    """Nothing that anybody expects."""


def junk(rng):
    """Something that is no number, no array of numbers, no string of use."""
    things = [None, "nonsense", b"bytes", object(), Opaque(), {"a": 1}, {1, 2}, [[1.0], [2.0, 3.0]], 1j, float("nan"),
              float("inf"), [], np.array(["x"]), np.array([None]), lambda: 0]  # fmt: skip
    return things[rng.integers(len(things))]


def same(a, b):
    """Whether two nested states are equal bit for bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return np.array_equal(np.asarray(a), np.asarray(b))


def clear(call, *args, **kwargs):
    """The message of the ValueError that a call raises; anything else fails the test."""
    with pytest.raises(ValueError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert len(message) > 8
    assert "Traceback" not in message
    return message


@pytest.fixture(params=IDS)
def env(request):
    """A few environments that have made some steps."""
    env = jsafe.envs.make(request.param, num_envs=2, num_threads=1)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(3):
        env.step(rng.uniform(-1, 1, (2, env.spec.act_dim)))
    yield env
    env.close()


def _bad_actions(rng, n, a):
    good = rng.uniform(-1, 1, (n, a))
    shapes = [(n,), (a,), (n, a + 1), (n + 1, a), (n, a, 1), (0, a), ()]
    kind = rng.integers(6)
    if kind == 0:
        return rng.uniform(-1, 1, shapes[rng.integers(len(shapes))])
    if kind == 1:
        good[rng.integers(n), rng.integers(a)] = rng.choice([np.nan, np.inf, -np.inf])
        return good
    if kind == 2:
        return good.astype(rng.choice(["S8", "U8", "complex64", "bool", "object"]))
    if kind == 3:
        return [*good.tolist()[:-1], [*good.tolist()[-1], 0.0]]
    if kind == 4:
        return [["x"] * a] * n
    return junk(rng)


def test_step(env):
    rng = np.random.default_rng(1)
    before = env.state_dict()
    for _ in range(COUNT // len(IDS)):
        clear(env.step, _bad_actions(rng, 2, env.spec.act_dim))
        assert same(env.state_dict(), before)
    env.step(np.zeros((2, env.spec.act_dim)))


def _bad_state(rng, good):
    """A state with one thing wrong."""
    state = copy.deepcopy(good)
    kind = rng.integers(7)
    if kind == 0:
        return junk(rng)
    if kind == 1:
        state[str(rng.choice(["joint", "Bodies", "tme", ""]))] = 1.0
    elif kind == 2:
        key = str(rng.choice(["time", "step"]))
        wrong = {"step": [-1, "x", None, True, np.nan, [0]], "time": [None, "x", np.nan, np.inf, [0.0], True]}
        state[key] = wrong[key][rng.integers(6)]
    elif kind == 3:
        name = str(rng.choice(list(state["joints"])))
        values = [np.array(v) for v in state["joints"][name]]
        how, part = rng.integers(4), rng.integers(3)
        if how == 0:
            values[part] = np.append(values[part], 0.0)
        elif how == 1:
            values[part] = values[part] + np.nan
        elif how == 2:
            values[part] = junk(rng)
        else:
            values = values[:2]
        state["joints"][name] = tuple(values)
    elif kind == 4:
        group = str(rng.choice(["joints", "bodies", "task"]))
        state[group] = {**state[group], "no such name": 0.0}
    elif kind == 5:
        group = str(rng.choice(["joints", "bodies", "task"]))
        state[group] = ["x", [1, 2], 3.0, np.zeros(3), None][rng.integers(5)]
    else:
        key = list(state["task"])[rng.integers(len(state["task"]))]
        state["task"][key] = junk(rng)
    return state


def test_set_state(env):
    rng = np.random.default_rng(2)
    good, before = env.get_state(1), env.state_dict()
    for _ in range(COUNT // len(IDS)):
        clear(env.set_state, 1, _bad_state(rng, good))
        assert same(env.state_dict(), before)
    for i in (-1, 2, 0.5, "0", None, True):
        clear(env.set_state, i, good)
        clear(env.get_state, i)
    assert same(env.state_dict(), before)
    env.set_state(1, good)


def test_bodies_in_set_state():
    env = jsafe.envs.make("SafetyPointGoal1-v0")
    env.reset()
    good, before = env.get_state(0), env.state_dict()
    up, zero = np.array([1.0, 0, 0, 0]), np.zeros(3)
    for pose in (None, 3, "ab", (zero,), (np.zeros(2), up), (zero, np.zeros(4)), (zero, 2 * up), (zero + np.nan, up)):
        for name in ("goal", "hazard3", "vase0", "agent"):
            clear(env.set_state, 0, good | {"bodies": {name: pose}})
            assert same(env.state_dict(), before)


def _leaves(state, path=()):
    for key, value in state.items():
        if isinstance(value, dict):
            yield (*path, key)
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _bad_save(rng, good):
    """A saved engine with one thing wrong."""
    saved = copy.deepcopy(good)
    if rng.integers(12) == 0:
        return junk(rng)
    paths = list(_leaves(saved))
    *path, key = paths[rng.integers(len(paths))]
    inner = saved
    for step in path:
        inner = inner[step]
    kind, value = rng.integers(4), inner[key]
    if kind == 0:
        del inner[key]
    elif kind == 1 and isinstance(value, np.ndarray):
        wrong = [value[:-1], value[..., None], value.astype(str), value.astype(object), value + 1j]
        inner[key] = wrong[rng.integers(5)]
    elif kind == 2 and isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
        inner[key] = value.copy()
        inner[key].flat[rng.integers(value.size)] = rng.choice([np.nan, np.inf])
    else:
        inner[key] = ["x", None, Opaque(), [1, [2, 3]], {"z": 1}][rng.integers(5)]
    return saved


def test_load_state_dict(env):
    rng = np.random.default_rng(3)
    good = env.state_dict()
    for _ in range(COUNT // len(IDS)):
        clear(env.load_state_dict, _bad_save(rng, good))
        assert same(env.state_dict(), good)
    env.load_state_dict(good)
    assert same(env.state_dict(), good)


def _bad_make(rng):
    good = {"id": IDS[rng.integers(len(IDS))], "num_envs": 1, "seed": 0, "num_threads": 1}
    good |= {"costs": "sum", "sleep": True}
    bad = {
        "id": [None, 3, "", "Safety", "SafetyPointGoal3-v0", "safetypointgoal1-v0", b"SafetyPointGoal1-v0", "a:b:c",
               "mujoco:Ant", ["SafetyPointGoal1-v0"], 1.5, "SafetyPointRun1-v0", ":"],
        "num_envs": [0, -1, 1.5, "2", True, None, np.nan, [1], 2.0],
        "seed": [-1, 2**32, 1.5, "a", None, True, np.nan, [0]],
        "num_threads": [0, -3, 2.5, "two", True, np.inf],
        "costs": ["all", None, 3, "Sum", ["sum"], b"sum"],
        "sleep": ["yes", None, 1, 0.5],
    }  # fmt: skip
    kind = rng.integers(9)
    if kind == 6:
        return good | {"levle": 1}
    if kind == 7:
        return good | {"id": "SafetyPointGoal1-v0", "level": [3, -1, "1", None, 1.0, True][rng.integers(6)]}
    if kind == 8:
        return good | {str(rng.choice(["horizn", "gravity", "robot", "lidar"])): junk(rng)}
    key = list(bad)[kind]
    return good | {key: bad[key][rng.integers(len(bad[key]))]}


def test_make():
    rng = np.random.default_rng(4)
    before = jsafe.envs.list_ids()
    for _ in range(COUNT):
        clear(jsafe.envs.make, **_bad_make(rng))
    assert jsafe.envs.list_ids() == before


def _bad_register(rng):
    good = {"id": f"Fuzz{rng.integers(10**9)}-v0", "task": Task, "robot": "Point"}
    bad = {
        "id": [None, 3, "", "a b", "a:b", "SafetyPointGoal1-v0", "SafetyHopperVelocity-v1", b"x", ["x"], "x\n", "\t"],
        "task": [None, "Goal", 3, [Task], {"a": 1}, Task(ROBOTS["Point"])],
        "robot": [None, "Pint", "", 3, b"Point", ["Point"], Robot, {"name": "Point"}],
    }
    key = list(bad)[rng.integers(3)]
    return good | {key: bad[key][rng.integers(len(bad[key]))]}


def test_register():
    rng = np.random.default_rng(5)
    before = jsafe.envs.list_ids()
    for _ in range(COUNT):
        clear(jsafe.envs.register, **_bad_register(rng))
        assert jsafe.envs.list_ids() == before


ROBOT = {"name": "Ball", "body": '<freejoint/><site name="agent"/><geom size="0.1"/>', "actuators": "", "parts": (),
         "timestep": 0.01, "height": 0.1}  # fmt: skip


@pytest.mark.parametrize("change", [
    {"name": "a ball"}, {"name": 3}, {"timestep": 0}, {"timestep": "x"}, {"timestep": None}, {"height": -1},
    {"height": np.nan}, {"substeps": 0}, {"substeps": 1.5}, {"substeps": None},
])  # fmt: skip
def test_robots(change):
    clear(Robot, **(ROBOT | change))


class Odd(Task):
    """A task with something wrong: the given attributes replace its own."""

    def __init__(self, robot, **changes):
        super().__init__(robot)
        self.objects = (jsafe.envs.place("goal"),)
        for name, value in changes.items():
            setattr(self, name, value)

    def reward(self, scene, now, met):
        return np.zeros(len(scene.agent_pos))


@pytest.mark.parametrize("change", [
    {"objects": "goal"}, {"objects": (1,)}, {"objects": (jsafe.envs.place("goal"), jsafe.envs.place("goal"))},
    {"objects": None}, {"horizon": 0}, {"horizon": "long"}, {"horizon": 1.5}, {"touching": ("vases",)},
    {"moving": ("goal2",)}, {"moving": ("goal",)}, {"memory": "stage"}, {"memory": (1,)}, {"lidar": "pseudo"},
    {"extent": -1.0}, {"extent": "wide"}, {"agent_keepout": -0.1}, {"agent_box": (0, 0)}, {"cost_groups": ("a",)},
    {"reward_clip": -1}, {"tries": 0}, {"layouts": 0}, {"margin": -1}, {"floor": 0}, {"touching": ("goal",)},
])  # fmt: skip
def test_tasks(change, request):
    id = f"Odd{abs(hash(request.node.name))}-v0"
    jsafe.envs.register(id, Odd, "Point")
    clear(jsafe.envs.make, id, **change)


@pytest.mark.parametrize("change", [
    {"body": "<geom"}, {"body": '<geom size="0.1"/>'}, {"body": '<freejoint/><geom size="0.1"/>'},
    {"actuators": '<motor joint="x"/>'}, {"sensors": "<nothing/>"}, {"parts": (jsafe.envs.Part("a", ("b",)),)},
    {"integrator": "Leapfrog"}, {"defaults": "<geom size='x'/>"},
])  # fmt: skip
def test_robots_in_tasks(change, request):
    id = f"Odd{abs(hash(request.node.name))}-v0"
    jsafe.envs.register(id, Odd, Robot(**(ROBOT | change)))
    clear(jsafe.envs.make, id)
