"""Reading and writing the state of velocity environments."""

from __future__ import annotations

import numpy as np

from jsafe.envs import checks, models
from jsafe.envs.loading import mujoco
from jsafe.envs.velocity.simulation import Simulation

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_VERSION = 1


def get_state(sim: Simulation, i: int) -> dict:
    """State of environment i by names: `time`, `step`, `joints`, `bodies` (none) and `task`."""
    data = sim.data[i]
    joints = {name: tuple(values) for name, values in models.joint_values(sim.model, data).items()}
    task = {f"{axis}_position": float(sim.place[i, k]) for k, axis in enumerate("xy"[: sim.runner.planar])}
    return {"time": float(data.time), "step": int(sim.steps[i]), "joints": joints, "bodies": {}, "task": task}


def set_state(sim: Simulation, i: int, state: dict) -> None:
    """Puts environment i into a state by names; ValueError, and no change, if it does not fit."""
    known, model = get_state(sim, i), sim.model
    checks.names_of("state", state, known)
    time = checks.number("time", state.get("time", known["time"]))
    step = checks.integer("step", state.get("step", known["step"]), 0)
    joints = checks.joints(checks.mapping("joints", state), known["joints"])
    bodies = {model.body(b).name for b in range(model.nbody)} | {""}
    checks.names_of("body", checks.mapping("bodies", state), bodies)
    task = checks.mapping("task", state)
    checks.names_of("task entry", task, known["task"])
    places = {name: checks.number(f"task entry {name!r}", value) for name, value in task.items()}
    data = sim.data[i]
    mujoco.mj_resetData(model, data)
    models.write_joints(model, data, joints)
    data.time = time
    mujoco.mj_forward(model, data)
    sim.steps[i] = step
    sim.read(i)
    for name, value in places.items():
        sim.place[i, "xy".index(name[0])] = value
    sim.last_obs[i] = sim.observe([i])[0]


def state_dict(sim: Simulation) -> dict:
    """Everything that decides the future of all environments."""
    state = np.empty((sim.num_envs, mujoco.mj_stateSize(sim.model, _STATE)))
    for row, data in zip(state, sim.data):
        mujoco.mj_getState(sim.model, data, row, _STATE)
    return {
        "version": _VERSION,
        "id": sim.id,
        "num_envs": sim.num_envs,
        "state": state,
        "place": sim.place.copy(),
        "steps": sim.steps.copy(),
        "last_obs": sim.last_obs.copy(),
        "last_cost": sim.last_cost.copy(),
        "streams": np.stack([words(stream) for stream in sim.streams]),
    }


def load_state_dict(sim: Simulation, saved: dict) -> None:
    """Restores what `state_dict` returned; ValueError, and no change, if it does not fit."""
    checks.header(saved, version=_VERSION, id=sim.id, num_envs=sim.num_envs)
    shapes = {name: value.shape for name, value in state_dict(sim).items() if isinstance(value, np.ndarray)}
    checks.fits("state", saved, shapes)
    for name in ("steps", "streams"):
        array = np.asarray(saved[name])
        if array.dtype.kind not in "iu" or (array < 0).any():
            raise ValueError(f"state.{name} must be integers of at least 0")
    for i, data in enumerate(sim.data):
        mujoco.mj_resetData(sim.model, data)
        mujoco.mj_setState(sim.model, data, np.asarray(saved["state"][i], float), _STATE)
        mujoco.mj_forward(sim.model, data)
        sim.read(i)
        resume(sim.streams[i], np.asarray(saved["streams"][i], np.uint64))
    sim.place[:], sim.steps[:] = saved["place"], saved["steps"]
    sim.last_obs[:], sim.last_cost[:] = saved["last_obs"], saved["last_cost"]


def words(stream: np.random.Generator) -> np.ndarray:
    """State of a PCG64 generator as six words."""
    state = stream.bit_generator.state
    big = [state["state"]["state"], state["state"]["inc"]]
    halves = [half for number in big for half in (number >> 64, number & (2**64 - 1))]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def resume(stream: np.random.Generator, saved: np.ndarray) -> None:
    """Lets a PCG64 generator go on from its six words."""
    a, b, c, d, has, spare = (int(word) for word in saved)
    stream.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (a << 64) + b, "inc": (c << 64) + d},
        "has_uint32": has,
        "uinteger": spare,
    }
