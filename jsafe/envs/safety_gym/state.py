"""Reading and writing the state of environments: one by names, or the whole engine bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jsafe.envs import checks, models
from jsafe.envs.loading import mujoco
from jsafe.envs.safety_gym.objects import DRIVEN
from jsafe.envs.safety_gym.simulation import Simulation

_VERSION = 1
_UNREAD = ("last_dist_goal",)
"""Task entries that the official tasks carry even where they never read them."""


def get_state(sim: Simulation, i: int) -> dict:
    """State of environment i, in the form that `set_state` takes.

    Returns:
      A dictionary of copies:
      `time` (s), `step` (steps taken in the episode) and `ctrl` (the last action as applied: sensors feel it);
      `joints`: `{name: (qpos, qvel, qacc_warmstart)}` (an anchored robot's x, y and heading in world coordinates);
      `bodies`: `{name: (pos [3], quat [4])}` of static and passive objects, and of the robot and the free objects
      as the episode began (for driven objects, `gremlin0obj`, this is the centre of the circle);
      `task`: what the task remembers.
    """
    world, data = sim.world, sim.physics.data[i]
    joints = models.joint_values(world.model, data)
    bodies = {}
    if sim.robot.anchored:
        pos, quat = data.mocap_pos[world.anchor].copy(), data.mocap_quat[world.anchor].copy()
        _to_world([joints[name] for name in _anchored(world.model)], pos, quat)
        bodies["agent"] = (pos, quat)
    for at, name in enumerate(_objects(sim)):
        bodies[name] = (sim.pos[i, at].copy(), sim.quat[i, at].copy())
    for name, where in _references(sim):
        pose = sim.physics.reference[i, where]
        bodies[name] = (pose[:3].copy(), pose[3:].copy())
    return {
        "time": float(data.time),
        "step": int(sim.steps[i]),
        "ctrl": data.ctrl.copy(),
        "joints": {name: tuple(values) for name, values in joints.items()},
        "bodies": bodies,
        "task": {name: float(values[i]) for name, values in sim.memory.items()},
    }


def set_state(sim: Simulation, i: int, state: dict) -> None:
    """Puts environment i into a state; whatever the dictionary leaves out keeps its value.

    Free objects are placed by their joints, static and passive ones by `bodies`. Sleeping objects wake up. The random
    stream stays where it is. The robot's and the free objects' `bodies` matter for the last bits only.

    Args:
      sim: The environments.
      i: Index.
      state: As returned by `get_state`. `bodies` may also name parts of the robot and mocap bodies: these are ignored.

    Raises:
      ValueError: If a name is unknown or a value has the wrong shape or is not finite; then nothing has changed.
    """
    world, physics = sim.world, sim.physics
    known = get_state(sim, i)
    checks.names_of("state", state, known)
    # 1. check everything, into a complete new state
    joints, bodies = known["joints"], known["bodies"]
    time = checks.number("time", state.get("time", known["time"]))
    step = checks.integer("step", state.get("step", known["step"]), 0)
    ctrl = checks.vector("ctrl", state.get("ctrl", known["ctrl"]), world.model.nu)
    joints = checks.joints(checks.mapping("joints", state), joints)
    given = checks.mapping("bodies", state)
    ignored = {"", "agent", *(world.model.body(b).name for b in range(world.model.nbody))}
    checks.names_of("body", given, set(bodies) | ignored)
    for name, pose in given.items():
        if not isinstance(pose, (tuple, list)) or len(pose) != 2:
            raise ValueError(f"body {name!r} must be (pos, quat), got {pose!r}")
        pos, quat = (
            checks.vector(f"pos of body {name!r}", pose[0], 3),
            checks.vector(f"quat of body {name!r}", pose[1], 4),
        )
        if abs(np.dot(quat, quat) - 1) > 1e-6:
            raise ValueError(f"quat of body {name!r} must have length 1, got {quat.tolist()}")
        if name in bodies:
            bodies[name] = (pos, quat)
    given = checks.mapping("task", state)
    checks.names_of("task entry", given, {*known["task"], *_UNREAD})
    values = {name: checks.number(f"task entry {name!r}", value) for name, value in given.items()}
    memory = {name: values.get(name, value) for name, value in known["task"].items()}
    # 2. write it
    data = physics.clear(i)
    if sim.robot.anchored:
        pos, quat = bodies["agent"]
        names = _anchored(world.model)
        local = [[value.copy() for value in joints[name]] for name in names]
        _to_local(local, pos, quat)
        joints |= dict(zip(names, map(tuple, local)))
        data.mocap_pos[world.anchor], data.mocap_quat[world.anchor] = pos, quat
    models.write_joints(world.model, data, joints)
    data.time, data.ctrl[:] = time, ctrl
    for at, name in enumerate(_objects(sim)):
        sim.pos[i, at], sim.quat[i, at] = bodies[name]
    own = np.abs(sim.pos[i, :, :2] - sim.fixed) < 1e-8  # the layout's shift, in a recording
    sim.pos[i, :, :2] = np.where(own, sim.fixed, sim.pos[i, :, :2])
    for name, where in _references(sim):
        physics.reference[i, where] = np.concatenate(bodies[name])
    physics.centre[i] = sim.pos[i, sim.driven, :2]
    sim.place_mocaps(i)
    sim.steps[i] = step
    for name, value in memory.items():
        sim.memory[name][i] = value
    physics.start(i)
    physics.read([i])
    sim.restore()


def state_dict(sim: Simulation) -> dict:
    """Everything that decides the future of all environments."""
    streams = [sim.stream(i).state() for i in range(sim.num_envs)]
    return {
        "version": _VERSION,
        "id": sim.id,
        "num_envs": sim.num_envs,
        "physics": sim.physics.state(),
        "positions": sim.pos.copy(),
        "headings": sim.quat.copy(),
        "steps": sim.steps.copy(),
        "memory": {name: values.copy() for name, values in sim.memory.items()},
        "last_obs": sim.last_obs.copy(),
        "streams": {
            "key": np.stack([stream["key"] for stream in streams]),
            "pos": np.array([stream["pos"] for stream in streams]),
        },
    }


def load_state_dict(sim: Simulation, saved: dict) -> None:
    """Restores what `state_dict` returned.

    Raises:
      ValueError: If it was made by another task, number of environments or version, or an array does not fit.
    """
    checks.header(saved, version=_VERSION, id=sim.id, num_envs=sim.num_envs)
    checks.fits("state", saved, _shapes(sim))
    stream = {name: np.asarray(value) for name, value in saved["streams"].items()}
    if not ((stream["pos"] >= 0) & (stream["pos"] <= 624)).all():
        raise ValueError(f"streams.pos must be in 0 ... 624, got {stream['pos'].tolist()}")
    for i in range(sim.num_envs):
        sim.streams[i].set_state({"key": stream["key"][i], "pos": stream["pos"][i]})
    sim.settle_streams()
    sim.pos[:], sim.quat[:] = saved["positions"], saved["headings"]
    sim.steps[:], sim.last_obs[:] = saved["steps"], saved["last_obs"]
    for name, values in sim.memory.items():
        values[:] = saved["memory"][name]
    sim.physics.load_state(saved["physics"])
    sim.restore()


def _shapes(sim: Simulation) -> dict:
    n = sim.num_envs
    return {
        "physics": checks.shapes(sim.physics.state()),
        "positions": sim.pos.shape,
        "headings": sim.quat.shape,
        "steps": (n,),
        "memory": dict.fromkeys(sim.memory, (n,)),
        "last_obs": sim.last_obs.shape,
        "streams": {"key": (n, 624), "pos": (n,)},
    }


def _anchored(model: mujoco.MjModel) -> list[str]:
    """Names of an anchored robot's slides along x and y and its hinge about z: its first three joints."""
    first = int(model.body("agent").jntadr[0])
    return [model.joint(first + j).name for j in range(3)]


def _objects(sim: Simulation) -> Iterator[str]:
    """Body name of every object in scene order."""
    for kind in sim.world.groups:
        for name in kind.names:
            yield f"{name}obj" if kind.motion == DRIVEN else name


def _references(sim: Simulation) -> Iterator[tuple[str, slice]]:
    """(body name, qpos slice) of every free joint: its reference pose."""
    model = sim.world.model
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
