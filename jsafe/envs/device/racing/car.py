"""The car: a hull that carries four wheels, and the friction under them."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DT = 1 / 50
"""Seconds per step."""
WHEELS = np.array([(-1.1, 1.6), (1.1, 1.6), (-1.1, -1.64), (1.1, -1.64)])
"""Wheel hubs in the hull's frame, metres: front left, front right, rear left, rear right."""
WHEEL_HALF = (0.28, 0.54)
"""Half width and half length of a wheel, which is also its radius."""
HULL = tuple(
    0.02 * np.array(polygon, float)
    for polygon in (
        ((-60, 130), (60, 130), (60, 110), (-60, 110)),
        ((-15, 120), (15, 120), (20, 20), (-20, 20)),
        ((25, 20), (50, -10), (50, -40), (20, -90), (-20, -90), (-50, -40), (-50, -10), (-25, 20)),
        ((-50, -120), (50, -120), (50, -90), (-50, -90)),
    )
)
"""The hull's four polygons in its frame, metres; one unit of mass per square metre, overlaps counted twice."""

_FRONT = np.array([1, 1, 0, 0], np.float32)
_WHEEL_DENSITY = 0.1
_POWER, _WHEEL_MOMENT = 40_000.0, 1.6
_FRICTION_LIMIT, _GRASS = 400.0, 0.6
_SLIP_GAIN = 82.0
_BRAKE, _LOCK = 15.0, 0.9
_STEER_GAIN, _STEER_RATE, _STOP, _STOP_SLOP = 50.0, 3.0, 0.4, 2 * math.pi / 180
_TOP_SPEED = 2 / DT  # Box2D moves no body by more than 2 units in a step


def _polygon(points: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Area, centroid and second moment about the origin of a polygon (shoelace formulae)."""
    a, b = points, np.roll(points, -1, axis=0)
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    area = cross.sum() / 2
    centroid = ((a + b) * cross[:, None]).sum(0) / (6 * area)
    moment = (cross * ((a * a).sum(1) + (a * b).sum(1) + (b * b).sum(1))).sum() / 12
    return abs(area), centroid, abs(moment)


_parts = [_polygon(points) for points in HULL]
HULL_MASS = float(sum(area for area, _, _ in _parts))
HULL_CENTRE = sum((area * centroid for area, centroid, _ in _parts), np.zeros(2)) / HULL_MASS
"""Centre of mass in the hull's frame."""
HULL_INERTIA = float(sum(moment for _, _, moment in _parts) - HULL_MASS * (HULL_CENTRE**2).sum())
"""About the centre of mass."""
WHEEL_MASS = _WHEEL_DENSITY * 4 * WHEEL_HALF[0] * WHEEL_HALF[1]
WHEEL_INERTIA = WHEEL_MASS * (WHEEL_HALF[0] ** 2 + WHEEL_HALF[1] ** 2) / 3
_ARMS = WHEELS - HULL_CENTRE
_MASS = HULL_MASS + 4 * WHEEL_MASS
# Inertia of the whole about its own centre of mass, less what the wheels' offset centre takes.
_INERTIA = float(
    HULL_INERTIA + 4 * WHEEL_INERTIA + WHEEL_MASS * (_ARMS**2).sum()
    - WHEEL_MASS**2 * (_ARMS.sum(0) ** 2).sum() / _MASS
)  # fmt: skip


class Car(NamedTuple):
    """State of one car; metres, radians, seconds. Wheels in the order of `WHEELS`.

    Attributes:
      x, y: The hull's centre of mass.
      angle: Of the hull; 0 faces +y.
      vx, vy, spin: Velocity of the centre of mass, and the hull's angular velocity.
      joint, joint_rate: `[4]` steering angle and its rate.
      wheel_vx, wheel_vy: `[4]` velocity of each wheel's body after the last step.
      omega, phase: `[4]` wheel spin and wheel angle.
      gas: Pedal in [0, 1].
    """

    x: jax.Array
    y: jax.Array
    angle: jax.Array
    vx: jax.Array
    vy: jax.Array
    spin: jax.Array
    joint: jax.Array
    joint_rate: jax.Array
    wheel_vx: jax.Array
    wheel_vy: jax.Array
    omega: jax.Array
    phase: jax.Array
    gas: jax.Array


class Wheels(NamedTuple):
    """Poses of the wheels `[4]`: centre relative to some point, cosine and sine of the angle."""

    x: jax.Array
    y: jax.Array
    cos: jax.Array
    sin: jax.Array


def wheels(car: Car) -> Wheels:
    """Where the wheels are, relative to the hull's centre of mass: on their hubs, turned by the steering angle."""
    angle = car.angle + car.joint
    return Wheels(*_arms(car.angle), jnp.cos(angle), jnp.sin(angle))


def origin(car: Car) -> tuple[jax.Array, jax.Array]:
    """The origin of the hull's frame (not its centre of mass), in the world."""
    c, s = jnp.cos(car.angle), jnp.sin(car.angle)
    x, y = HULL_CENTRE.tolist()
    return car.x - (c * x - s * y), car.y - (s * x + c * y)


def drive(car: Car, steer: jax.Array, gas: jax.Array, brake: jax.Array, on_road: jax.Array) -> Car:
    """One step of 1/50 s.

    Steering is kinematic, because a wheel weighs next to nothing against its motor: it turns at
    `sign(e) min(50 |e|, 3)`, `e` the goal less the angle, but not outwards once it stood at a stop. Friction is
    proportional to the slip of the contact patch up to a limit, 400 on the road and 240 beside it. With the forces
    `F_i` on the wheels and arms `r_i` from the hull's centre of mass, hull and wheels then move on as one body:

        M v' + m S^perp w' = m_h v + sum_i (m u_i + h F_i) = P,    S = sum_i r_i
        I w' + m S x v'    = I_h w + sum_i (I_w (w + s_i - s_i') + r_i x (m u_i + h F_i))

    where `u_i` and `s_i` are velocity and steering rate of a wheel, both from the last step.

    Args:
      car: State.
      steer: Goal of the front wheels' angle, radians in [-1, 1]; positive turns left.
      gas, brake: Pedals in [0, 1]. The gas rises by at most 0.1 per step; a brake of 0.9 or more locks the wheels.
      on_road: bool `[4]`, which wheels stand on a tile.

    Returns:
      The state after the step.

    Source: gym's `car_dynamics.py` (CarRacing) on Box2D. Left out: Box2D's correction of positions, which at high
    spin turns the hull by up to 2e-4 rad a step.
    """
    gas = jnp.minimum(gas, car.gas + 0.1)

    error = steer * _FRONT - car.joint
    rate = jnp.sign(error) * jnp.minimum(_STEER_GAIN * jnp.abs(error), _STEER_RATE)
    stopped = jnp.abs(car.joint) >= _STOP
    rate = jnp.where(stopped & (rate * car.joint > 0), 0.0, rate)
    joint = car.joint + DT * rate
    reach = _STOP + _STOP_SLOP
    joint = jnp.where(stopped, jnp.clip(joint, -reach, reach), joint)

    radius = WHEEL_HALF[1]
    angle = car.angle + car.joint
    c, s = jnp.cos(angle), jnp.sin(angle)
    forward = c * car.wheel_vy - s * car.wheel_vx
    sideways = c * car.wheel_vx + s * car.wheel_vy
    power = DT * _POWER / _WHEEL_MOMENT * gas * (1 - _FRONT)
    omega = car.omega + power / (jnp.abs(car.omega) + 5.0)
    braked = jnp.sign(omega) * jnp.maximum(jnp.abs(omega) - _BRAKE * brake, 0.0)
    omega = jnp.where(brake >= _LOCK, 0.0, braked)
    phase = car.phase + DT * omega
    along, across = _SLIP_GAIN * (omega * radius - forward), -_SLIP_GAIN * sideways
    limit = jnp.where(on_road, _FRICTION_LIMIT, _GRASS * _FRICTION_LIMIT)
    size = jnp.sqrt(along * along + across * across)
    scale = jnp.where(size > limit, limit / jnp.maximum(size, limit), 1.0)
    along, across = along * scale, across * scale
    omega = omega - DT * radius / _WHEEL_MOMENT * along

    arm_x, arm_y = _arms(car.angle)
    push_x = WHEEL_MASS * car.wheel_vx + DT * (across * c - along * s)
    push_y = WHEEL_MASS * car.wheel_vy + DT * (across * s + along * c)
    linear_x = HULL_MASS * car.vx + push_x.sum()
    linear_y = HULL_MASS * car.vy + push_y.sum()
    angular = (
        HULL_INERTIA * car.spin
        + WHEEL_INERTIA * (4 * car.spin + (car.joint_rate - rate).sum())
        + (arm_x * push_y - arm_y * push_x).sum()
    )
    offset_x, offset_y = WHEEL_MASS * arm_x.sum(), WHEEL_MASS * arm_y.sum()
    spin = (angular - (offset_x * linear_y - offset_y * linear_x) / _MASS) / _INERTIA
    vx = (linear_x + offset_y * spin) / _MASS
    vy = (linear_y - offset_x * spin) / _MASS
    wheel_vx, wheel_vy = _capped(vx - spin * arm_y, vy + spin * arm_x)
    vx, vy = _capped(vx, vy)
    return Car(
        x=car.x + DT * vx,
        y=car.y + DT * vy,
        angle=car.angle + DT * spin,
        vx=vx,
        vy=vy,
        spin=spin,
        joint=joint,
        joint_rate=rate,
        wheel_vx=wheel_vx,
        wheel_vy=wheel_vy,
        omega=omega,
        phase=phase,
        gas=gas,
    )


def _arms(angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """From the hull's centre of mass to the wheel hubs `[4]`, in the world's directions."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    x, y = _ARMS.astype(np.float32).T
    return c * x - s * y, s * x + c * y


def _capped(vx: jax.Array, vy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Velocities, no faster than Box2D lets a body move."""
    speed = jnp.sqrt(vx * vx + vy * vy)
    scale = jnp.where(speed > _TOP_SPEED, _TOP_SPEED / jnp.maximum(speed, _TOP_SPEED), 1.0)
    return vx * scale, vy * scale
