"""What both engines ask of MuJoCo's models: joints by name, warnings, counters of what broke down."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from jsafe.envs.loading import mujoco

_LOG = logging.getLogger(__name__)
_POSITIONS, _DOFS = (7, 4, 1, 1), (6, 3, 1, 1)  # free, ball, slide, hinge
BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)
"""MuJoCo's counters of bad positions, velocities, accelerations and controls."""


def _on_warning(message: str) -> None:
    """Divergence is counted by the engine; anything else is worth a line."""
    level = logging.DEBUG if "huge value" in message else logging.WARNING
    _LOG.log(level, "MuJoCo: %s", message)


def log_warnings() -> None:
    """Sends MuJoCo's warnings to the log; by default it writes a file into the working directory."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_on_warning)


def joints(model: mujoco.MjModel) -> Iterator[tuple[str, slice, slice]]:
    """(name, qpos slice, dof slice) of every joint."""
    for j in range(model.njnt):
        q, v, kind = int(model.jnt_qposadr[j]), int(model.jnt_dofadr[j]), int(model.jnt_type[j])
        yield model.joint(j).name, slice(q, q + _POSITIONS[kind]), slice(v, v + _DOFS[kind])


def joint_values(model: mujoco.MjModel, data: mujoco.MjData) -> dict[str, list[np.ndarray]]:
    """`{name: [qpos, qvel, qacc_warmstart]}`, copied."""
    return {
        name: [data.qpos[q].copy(), data.qvel[v].copy(), data.qacc_warmstart[v].copy()] for name, q, v in joints(model)
    }


def write_joints(model: mujoco.MjModel, data: mujoco.MjData, values: dict) -> None:
    """The inverse of `joint_values`."""
    for name, q, v in joints(model):
        data.qpos[q], data.qvel[v], data.qacc_warmstart[v] = values[name]
