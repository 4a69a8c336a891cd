"""Reading and writing the state of velocity environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from jsafe.envs import checks
from jsafe.envs.safety_gym.state import _fits, _mapping, _number, _only, _vector

if TYPE_CHECKING:
    from jsafe.envs.velocity.env import VelocityEnv

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_VERSION = 1


def set_state(env: VelocityEnv, i: int, state: dict) -> None:
    """Puts environment i into a state by names; ValueError, and no change, if it does not fit."""
    known = env.get_state(i)
    _only("state", state, known)
    joints, given = known["joints"], _mapping("joints", state)
    time = _number("time", state.get("time", known["time"]))
    step = checks.integer("step", state.get("step", known["step"]), 0)
    _only("joint", given, joints)
    for name, values in given.items():
        if not isinstance(values, (tuple, list)) or len(values) != 3:
            raise ValueError(f"joint {name!r} must be (qpos, qvel, qacc_warmstart), got {values!r}")
        parts = zip(("qpos", "qvel", "qacc_warmstart"), values, [len(value) for value in joints[name]])
        joints[name] = tuple(_vector(f"{part} of joint {name!r}", value, size) for part, value, size in parts)
    model = env.model
    _only("body", _mapping("bodies", state), {model.body(b).name for b in range(model.nbody)} | {""})
    task = _mapping("task", state)
    _only("task entry", task, known["task"])
    places = {name: _number(f"task entry {name!r}", value) for name, value in task.items()}
    data = env.data[i]
    mujoco.mj_resetData(model, data)
    for name, qpos, qvel in env.joints():
        data.qpos[qpos], data.qvel[qvel], data.qacc_warmstart[qvel] = joints[name]
    data.time = time
    mujoco.mj_forward(model, data)
    env._steps[i] = step
    env.read(i)
    for name, value in places.items():
        env._place[i, "xy".index(name[0])] = value
    env._last_obs[i] = env._observation([i])[0]


def state_dict(env: VelocityEnv) -> dict:
    """Everything that decides the future of all environments."""
    state = np.empty((env.num_envs, mujoco.mj_stateSize(env.model, _STATE)))
    for row, data in zip(state, env.data):
        mujoco.mj_getState(env.model, data, row, _STATE)
    return {
        "version": _VERSION,
        "id": env.spec.id,
        "num_envs": env.num_envs,
        "state": state,
        "place": env._place.copy(),
        "steps": env._steps.copy(),
        "last_obs": env._last_obs.copy(),
        "last_cost": env._last_cost.copy(),
        "streams": np.stack([_words(stream) for stream in env.streams]),
    }


def load_state_dict(env: VelocityEnv, saved: dict) -> None:
    """Restores what `state_dict` returned; ValueError, and no change, if it does not fit."""
    if not isinstance(saved, dict):
        raise ValueError(f"the state must be a dictionary, got {type(saved).__name__}")
    for name, value in (("version", _VERSION), ("id", env.spec.id), ("num_envs", env.num_envs)):
        if isinstance(saved.get(name), np.ndarray) or saved.get(name) != value:
            raise ValueError(f"{name} of the saved state must be {value!r}, got {saved.get(name)!r}")
    shapes = {name: value.shape for name, value in state_dict(env).items() if isinstance(value, np.ndarray)}
    _fits("state", saved, shapes)
    for name in shapes:
        array = np.asarray(saved[name])
        if not np.isfinite(array).all():
            raise ValueError(f"state.{name} must be finite")
        if name in ("steps", "streams") and (array.dtype.kind not in "iu" or (array < 0).any()):
            raise ValueError(f"state.{name} must be integers of at least 0")
    for i, data in enumerate(env.data):
        mujoco.mj_resetData(env.model, data)
        mujoco.mj_setState(env.model, data, np.asarray(saved["state"][i], float), _STATE)
        mujoco.mj_forward(env.model, data)
        env.read(i)
        _continue(env.streams[i], np.asarray(saved["streams"][i], np.uint64))
    env._place[:], env._steps[:] = saved["place"], saved["steps"]
    env._last_obs[:], env._last_cost[:] = saved["last_obs"], saved["last_cost"]


def _words(stream: np.random.Generator) -> np.ndarray:
    """State of a PCG64 generator as six words."""
    state = stream.bit_generator.state
    big = [state["state"]["state"], state["state"]["inc"]]
    halves = [half for number in big for half in (number >> 64, number & (2**64 - 1))]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def _continue(stream: np.random.Generator, words: np.ndarray) -> None:
    a, b, c, d, has, spare = (int(word) for word in words)
    stream.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (a << 64) + b, "inc": (c << 64) + d},
        "has_uint32": has,
        "uinteger": spare,
    }
