"""Reading and writing the state of environments: one by names, or the whole engine bit for bit."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from jsafe.envs.safety_gym.objects import DRIVEN

if TYPE_CHECKING:
    from jsafe.envs.safety_gym.engine import VectorEnv

_VERSION = 1
_UNREAD = ("last_dist_goal",)
"""Task entries that the official tasks carry even where they never read them."""
_POSITIONS, _DOFS = (7, 4, 1, 1), (6, 3, 1, 1)  # free, ball, slide, hinge


def get_state(env: VectorEnv, i: int) -> dict:
    """State of environment i, in the form that `set_state` takes.

    Returns:
      A dictionary of copies:
      `time` (s), `step` (steps taken in the episode) and `ctrl` (the last action as applied: sensors feel it);
      `joints`: `{name: (qpos, qvel, qacc_warmstart)}` (an anchored robot's x, y and heading in world coordinates);
      `bodies`: `{name: (pos [3], quat [4])}` of static and passive objects, and of the robot and the free objects
      as the episode began (for driven objects, `gremlin0obj`, this is the centre of the circle);
      `task`: what the task remembers.
    """
    world, data = env._world, env._physics.data[i]
    joints = {}
    for name, qpos, qvel in _joints(world.model):
        joints[name] = [data.qpos[qpos].copy(), data.qvel[qvel].copy(), data.qacc_warmstart[qvel].copy()]
    bodies = {}
    if env.robot.anchored:
        pos, quat = data.mocap_pos[world.anchor].copy(), data.mocap_quat[world.anchor].copy()
        _to_world([joints[name] for name in _anchored(world.model)], pos, quat)
        bodies["agent"] = (pos, quat)
    for at, name in enumerate(_objects(env)):
        bodies[name] = (env._pos[i, at].copy(), env._quat[i, at].copy())
    for name, where in _references(env):
        pose = env._physics.reference[i, where]
        bodies[name] = (pose[:3].copy(), pose[3:].copy())
    return {
        "time": float(data.time),
        "step": int(env._steps[i]),
        "ctrl": data.ctrl.copy(),
        "joints": {name: tuple(values) for name, values in joints.items()},
        "bodies": bodies,
        "task": {name: float(values[i]) for name, values in env._memory.items()},
    }


def set_state(env: VectorEnv, i: int, state: dict) -> None:
    """Puts environment i into a state; whatever the dictionary leaves out keeps its value.

    Free objects are placed by their joints, static and passive ones by `bodies`. Sleeping objects wake up. The random
    stream stays where it is. The robot's and the free objects' `bodies` matter for the last bits only.

    Args:
      env: The environments.
      i: Index.
      state: As returned by `get_state`. `bodies` may also name parts of the robot and mocap bodies: these are ignored.

    Raises:
      ValueError: If a name is unknown or a value has the wrong shape or is not finite; then nothing has changed.
    """
    world, physics = env._world, env._physics
    known = get_state(env, i)
    _only("state", state, known)
    # 1. check everything, into a complete new state
    joints, bodies = known["joints"], known["bodies"]
    new = {"time": _number("time", state.get("time", known["time"])), "step": state.get("step", known["step"])}
    if isinstance(new["step"], bool) or not isinstance(new["step"], (int, np.integer)) or new["step"] < 0:
        raise ValueError(f"step must be an integer of at least 0, got {new['step']!r}")
    ctrl = _vector("ctrl", state.get("ctrl", known["ctrl"]), world.model.nu)
    given = _mapping("joints", state)
    _only("joint", given, joints)
    for name, values in given.items():
        sizes = [len(value) for value in joints[name]]
        if not isinstance(values, (tuple, list)) or len(values) != 3:
            raise ValueError(f"joint {name!r} must be (qpos, qvel, qacc_warmstart), got {values!r}")
        parts = zip(("qpos", "qvel", "qacc_warmstart"), values, sizes)
        joints[name] = tuple(_vector(f"{part} of joint {name!r}", value, size) for part, value, size in parts)
    given = _mapping("bodies", state)
    ignored = {"", "agent", *(world.model.body(b).name for b in range(world.model.nbody))}
    _only("body", given, set(bodies) | ignored)
    for name, pose in given.items():
        if not isinstance(pose, (tuple, list)) or len(pose) != 2:
            raise ValueError(f"body {name!r} must be (pos, quat), got {pose!r}")
        pos, quat = _vector(f"pos of body {name!r}", pose[0], 3), _vector(f"quat of body {name!r}", pose[1], 4)
        if abs(np.dot(quat, quat) - 1) > 1e-6:
            raise ValueError(f"quat of body {name!r} must have length 1, got {quat.tolist()}")
        if name in bodies:
            bodies[name] = (pos, quat)
    given = _mapping("task", state)
    _only("task entry", given, {*known["task"], *_UNREAD})
    values = {name: _number(f"task entry {name!r}", value) for name, value in given.items()}
    memory = {name: values.get(name, value) for name, value in known["task"].items()}
    # 2. write it
    data = physics.clear(i)
    if env.robot.anchored:
        pos, quat = bodies["agent"]
        names = _anchored(world.model)
        local = [[value.copy() for value in joints[name]] for name in names]
        _to_local(local, pos, quat)
        joints |= dict(zip(names, map(tuple, local)))
        data.mocap_pos[world.anchor], data.mocap_quat[world.anchor] = pos, quat
    for name, qpos, qvel in _joints(world.model):
        data.qpos[qpos], data.qvel[qvel], data.qacc_warmstart[qvel] = joints[name]
    data.time, data.ctrl[:] = new["time"], ctrl
    for at, name in enumerate(_objects(env)):
        env._pos[i, at], env._quat[i, at] = bodies[name]
    for name, where in _references(env):
        physics.reference[i, where] = np.concatenate(bodies[name])
    physics.centre[i] = env._pos[i, env._driven, :2]
    env.place_mocaps(i)
    env._steps[i] = new["step"]
    for name, value in memory.items():
        env._memory[name][i] = value
    physics.start(i)
    physics.read([i])
    env.restore_scene()


def state_dict(env: VectorEnv) -> dict:
    """Everything that decides the future of all environments."""
    streams = [env._stream(i).state() for i in range(env.num_envs)]
    return {
        "version": _VERSION,
        "id": env.spec.id,
        "num_envs": env.num_envs,
        "physics": env._physics.state(),
        "positions": env._pos.copy(),
        "headings": env._quat.copy(),
        "steps": env._steps.copy(),
        "memory": {name: values.copy() for name, values in env._memory.items()},
        "last_obs": env._last_obs.copy(),
        "streams": {
            "key": np.stack([stream["key"] for stream in streams]),
            "pos": np.array([stream["pos"] for stream in streams]),
        },
    }


def load_state_dict(env: VectorEnv, saved: dict) -> None:
    """Restores what `state_dict` returned.

    Raises:
      ValueError: If it was made by another task, number of environments or version, or an array does not fit.
    """
    if not isinstance(saved, dict):
        raise ValueError(f"the state must be a dictionary, got {type(saved).__name__}")
    for name, value in (("version", _VERSION), ("id", env.spec.id), ("num_envs", env.num_envs)):
        if saved.get(name) != value:
            raise ValueError(f"{name} of the saved state must be {value!r}, got {saved.get(name)!r}")
    _fits("state", saved, _shapes(env))
    stream = {name: np.asarray(value) for name, value in saved["streams"].items()}
    if not ((stream["pos"] >= 0) & (stream["pos"] <= 624)).all():
        raise ValueError(f"streams.pos must be in 0 ... 624, got {stream['pos'].tolist()}")
    for i in range(env.num_envs):
        env._streams[i].set_state({"key": stream["key"][i], "pos": stream["pos"][i]})
    env._drawn[:] = env._ticks
    env._pos[:], env._quat[:] = saved["positions"], saved["headings"]
    env._steps[:], env._last_obs[:] = saved["steps"], saved["last_obs"]
    for name, values in env._memory.items():
        values[:] = saved["memory"][name]
    env._physics.load_state(saved["physics"])
    env.restore_scene()
    env._started = True


def _shapes(env: VectorEnv) -> dict:
    def shapes(value):
        return {k: shapes(v) for k, v in value.items()} if isinstance(value, dict) else value.shape

    n = env.num_envs
    return {
        "physics": shapes(env._physics.state()),
        "positions": env._pos.shape,
        "headings": env._quat.shape,
        "steps": (n,),
        "memory": dict.fromkeys(env._memory, (n,)),
        "last_obs": env._last_obs.shape,
        "streams": {"key": (n, 624), "pos": (n,)},
    }


def _fits(path: str, value, shape) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be a dictionary, got {type(value).__name__}")
        for name, inner in shape.items():
            if name not in value:
                raise ValueError(f"{path} lacks {name!r}")
            _fits(f"{path}.{name}", value[name], inner)
        return
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{path} must be numbers of shape {shape}, got rows of different lengths") from None
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise ValueError(f"{path} must be numbers of shape {shape}, got {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{path} must be finite")


def _joints(model: mujoco.MjModel):
    """(name, qpos slice, dof slice) of every joint."""
    for j in range(model.njnt):
        q, v, kind = int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j]), int(model.jnt_type[j])
        yield model.joint(j).name, slice(q, q + _POSITIONS[kind]), slice(v, v + _DOFS[kind])


def _anchored(model: mujoco.MjModel) -> list[str]:
    """Names of an anchored robot's slides along x and y and its hinge about z: its first three joints."""
    first = int(model.body("agent").jntadr[0])
    return [model.joint(first + j).name for j in range(3)]


def _objects(env: VectorEnv):
    """Body name of every object in scene order."""
    for kind in env._world.groups:
        for name in kind.names:
            yield f"{name}obj" if kind.motion == DRIVEN else name


def _references(env: VectorEnv):
    """(body name, qpos slice) of every free joint: its reference pose."""
    model = env._world.model
    for j in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
        start = int(model.jnt_qposadr[j])
        yield model.body(int(model.jnt_bodyid[j])).name, slice(start, start + 7)


def _plane(quat: np.ndarray) -> tuple[float, np.ndarray]:
    """Yaw of a frame turned about the vertical, and its rotation in the plane."""
    yaw = 2 * np.arctan2(quat[3], quat[0])
    cos, sin = np.cos(yaw), np.sin(yaw)
    return yaw, np.array([[cos, -sin], [sin, cos]])


def _to_world(joints: list, pos: np.ndarray, quat: np.ndarray) -> None:
    """(qpos, qvel, warm start) of slides x, y and hinge z from the frame (pos, quat) to the world, in place."""
    (x, y, z), (yaw, rot) = joints, _plane(quat)
    for k in range(3):
        x[k], y[k] = (rot @ np.concatenate([x[k], y[k]]) + (pos[:2] if k == 0 else 0.0)).reshape(2, 1)
    z[0] = z[0] + yaw


def _to_local(joints: list, pos: np.ndarray, quat: np.ndarray) -> None:
    """The inverse of `_to_world`, in place.

    Of the numbers next to the inverse, the nearest one is taken that gives back the same bits: pushing a light box
    multiplies a difference in the last bit by 1e12 in one step.
    """
    (x, y, z), (yaw, rot) = joints, _plane(quat)
    exact = np.asarray(rot, np.longdouble)
    for k in range(3):
        shift = pos[:2] if k == 0 else 0.0
        world = np.concatenate([x[k], y[k]])
        ideal = exact.T @ (world - np.asarray(shift, np.longdouble)) / (exact[0, 0] ** 2 + exact[1, 0] ** 2)
        around = [_neighbours(float(value)) for value in ideal]
        pairs = [np.array([a, b]) for a in around[0] for b in around[1]]
        same = [pair for pair in pairs if np.array_equal(rot @ pair + shift, world)]
        x[k], y[k] = min(same or pairs, key=lambda pair: np.abs(pair - ideal).sum()).reshape(2, 1)
    z[0] = z[0] - yaw


def _neighbours(value: float, count: int = 2) -> list[float]:
    values = [value]
    for end in (-np.inf, np.inf):
        near = value
        for _ in range(count):
            near = float(np.nextafter(near, end))
            values.append(near)
    return values


def _only(what: str, given, known) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"the {what} must be a dictionary, got {type(given).__name__}")
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown {what} {name!r}{hint} (known: {', '.join(sorted(map(str, known)))})")


def _mapping(name: str, state: dict) -> dict:
    value = state.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dictionary, got {type(value).__name__}")
    return value


def _number(what: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def _vector(what: str, value, size: int) -> np.ndarray:
    try:
        array = np.array(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be {size} numbers, got {value!r}") from None
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ValueError(f"{what} must be {size} finite numbers, got {value!r}")
    return array
