"""Where a car stands at the start of an episode, and what its first step of physics does to it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.racing.car import (
    HULL_CENTRE,
    HULL_INERTIA,
    HULL_MASS,
    WHEEL_MASS,
    WHEELS,
    Car,
)

_SWEEPS, _SLOP = 60, 0.005
_ENTRIES = 1440


def settle(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pulls the wheels onto their hubs, from where gym's car is built.

    The wheels are built at the hull's origin plus the hubs' offsets, unturned whatever the hull's angle. The reset's
    step of physics moves nothing, but its correction of positions pulls hull and wheels together: joint by joint, each
    by the impulse that closes its own gap, until no gap exceeds 0.005.

    Args:
      angle: `[B]` of the hull.

    Returns:
      The hull's centre of mass `[B, 2]` relative to the point at which it was built, and by how much it turned `[B]`.

    Source: Box2D's `b2RevoluteJoint::SolvePositionConstraints`, joints from last to first.
    """
    arms = WHEELS - HULL_CENTRE
    turned = angle.copy()
    centre = _rotated(turned, HULL_CENTRE)
    wheels = np.repeat(WHEELS[None], len(angle), axis=0)
    moving = np.ones(len(angle), bool)
    for _ in range(_SWEEPS):
        closed = np.ones(len(angle), bool)
        for i in reversed(range(4)):
            arm = _rotated(turned, arms[i])
            gap = wheels[:, i] - centre - arm
            closed &= np.hypot(*gap.T) <= _SLOP
            masses, lever = 1 / HULL_MASS + 1 / WHEEL_MASS, np.stack([-arm[:, 1], arm[:, 0]], axis=1)
            matrix = masses * np.eye(2) + lever[:, :, None] * lever[:, None, :] / HULL_INERTIA
            impulse = moving[:, None] * np.linalg.solve(matrix, gap[..., None])[..., 0]
            centre += impulse / HULL_MASS
            turned += (lever * impulse).sum(1) / HULL_INERTIA
            wheels[:, i] -= impulse / WHEEL_MASS
        moving &= ~closed
        if not moving.any():
            break
    return centre, turned - angle


def place(x: jax.Array, y: jax.Array, angle: jax.Array) -> Car:
    """A car at rest after the reset's step of physics.

    Args:
      x, y, angle: Where the origin of the hull's frame was built, metres, and the hull's angle.
    """
    table = jnp.asarray(_table())
    position = (angle % (2 * jnp.pi)) * (_ENTRIES / (2 * jnp.pi))
    row = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, _ENTRIES - 1)
    part = position - row
    offset_x, offset_y, turn = (1 - part) * table[row] + part * table[row + 1]
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros(4, jnp.float32)
    return Car(
        x=x + offset_x,
        y=y + offset_y,
        angle=angle + turn,
        vx=zero,
        vy=zero,
        spin=zero,
        joint=none - turn,  # the wheels keep their angle
        joint_rate=none,
        wheel_vx=none,
        wheel_vy=none,
        omega=none,
        phase=none,
        gas=zero,
    )


@functools.cache
def _table() -> np.ndarray:
    """`settle` at regular angles `[entries + 1, 3]`: centre of mass, turn."""
    centre, turn = settle(2 * np.pi * np.arange(_ENTRIES + 1) / _ENTRIES)
    return np.column_stack([centre, turn]).astype(np.float32)


def _rotated(angle: np.ndarray, vector: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]], axis=1)
