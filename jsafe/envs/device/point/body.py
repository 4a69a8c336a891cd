"""Point's motion in closed form: a sphere with an arrow, two slides and a hinge, under MuJoCo's implicit damping.

With x, y, heading th, velocities vx, vy, w, c = cos th, s = sin th, sphere m_s = 4/3 pi 0.1^3, box m_b = 0.1^3 at
x = 0.1 (density 1), M = m_s + m_b, k = 0.1 m_b, I0 = 0.4 m_s 0.01 + m_b 0.02 / 12 + 0.01 m_b:

    F = 0.3 clip(u0, -.05, .05)          T = 0.3 clip(u1 - 0.3 w, -.05, .05)
    f = (F c + k w^2 c - .01 vx,   F s + k w^2 s - .01 vy,   T - .005 w)
    [[a, 0, -k s], [0, a, k c], [-k s, k c, b]] acc = f

with a = M + .01 h, b = I0 + .005 h in a substep of h = 0.002 (`v += h acc, q += h v`), a = M, b = I0 for the sensors
after the tenth. The equations are solved in the robot's frame, where the matrix is constant.

The servo chatters (its gain h 0.09 / I0 is 6.3, more than 2): a difference of rounding grows fivefold in a substep.
With 64-bit floats a step equals MuJoCo's to 1e-9, with 32 bits the two are equal in distribution only.

Source: derived from the MJCF of safety-gymnasium 1.0.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

H, SUBSTEPS = 0.002, 10
_SPHERE, _BOX = 4 / 3 * np.pi * 0.1**3, 0.1**3
MASS = _SPHERE + _BOX
OFFSET = 0.1 * _BOX
"""Mass times the distance of its centre from the origin, k."""
INERTIA = 0.4 * _SPHERE * 0.01 + _BOX * 0.02 / 12 + 0.01 * _BOX
SLIDE, HINGE = 0.01, 0.005
"""Damping of the joints."""
GRAVITY = 9.81


class Body(NamedTuple):
    """Pose and velocity of the robot in the world: metres, radians, seconds."""

    x: Any
    y: Any
    yaw: Any
    vx: Any
    vy: Any
    w: Any


Push = Callable[[Body, Any, Any, Any, Any, Any], tuple[Any, Any, Any]]
"""`(body, cos, sin, ahead, aside, turn) -> (ahead, aside, turn)`: the forces of contacts in the robot's frame, given
all others."""


def forces(body: Body, cos: Any, sin: Any, action: Any) -> tuple[Any, Any, Any]:
    """Force ahead and aside, and torque, in the robot's frame, without contacts."""
    thrust = 0.3 * jnp.clip(action[0], -0.05, 0.05)
    torque = 0.3 * jnp.clip(action[1] - 0.3 * body.w, -0.05, 0.05)
    ahead, aside = cos * body.vx + sin * body.vy, cos * body.vy - sin * body.vx
    return thrust + OFFSET * body.w * body.w - SLIDE * ahead, -SLIDE * aside, torque - HINGE * body.w


def respond(force: tuple[Any, Any, Any], damped: bool) -> tuple[Any, Any, Any]:
    """Accelerations ahead, aside and about the vertical; `damped`: those that MuJoCo's Euler step integrates."""
    a, b = (MASS + SLIDE * H, INERTIA + HINGE * H) if damped else (MASS, INERTIA)
    determinant = a * b - OFFSET * OFFSET
    ahead, aside, turn = force
    return (
        ahead * (1 / a),
        aside * (b / determinant) - turn * (OFFSET / determinant),
        turn * (a / determinant) - aside * (OFFSET / determinant),
    )


def substep(body: Body, action: Any, push: Push | None = None) -> Body:
    """The next `H` seconds, with the forces of contacts if there are any."""
    cos, sin = jnp.cos(body.yaw), jnp.sin(body.yaw)
    force = forces(body, cos, sin, action)
    if push is not None:
        force = tuple(f + p for f, p in zip(force, push(body, cos, sin, *force)))
    ahead, aside, turn = respond(force, damped=True)
    vx = body.vx + H * (cos * ahead - sin * aside)
    vy = body.vy + H * (sin * ahead + cos * aside)
    w = body.w + H * turn
    return Body(body.x + H * vx, body.y + H * vy, body.yaw + H * w, vx, vy, w)


def sensors(body: Body, action: Any, push: Push | None = None) -> Any:
    """Accelerometer, velocimeter, gyro and magnetometer `[12]`."""
    cos, sin = jnp.cos(body.yaw), jnp.sin(body.yaw)
    force = forces(body, cos, sin, action)
    if push is not None:
        force = tuple(f + p for f, p in zip(force, push(body, cos, sin, *force)))
    ahead, aside, _ = respond(force, damped=False)
    zero = jnp.zeros_like(cos)
    velocity = (cos * body.vx + sin * body.vy, cos * body.vy - sin * body.vx, zero)
    values = (ahead, aside, zero + GRAVITY, *velocity, zero, zero, body.w, -0.5 * sin, -0.5 * cos, zero)
    return jnp.stack(values)


SENSORS = {
    name: slice(3 * i, 3 * i + 3) for i, name in enumerate(("accelerometer", "velocimeter", "gyro", "magnetometer"))
}
"""Where each lies in `sensors`."""
