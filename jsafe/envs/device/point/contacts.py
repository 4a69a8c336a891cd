"""Who touches whom, seen from above: the robot is a disk with a square arrow, objects are disks and squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.point.body import Body, respond

DISK, ARROW, REACH = 0.1, 0.05, 0.1
"""Radius of the robot's disk, half width of its arrow, distance of the arrow's centre, metres."""

_TIME, _WIDTH, _LEAST, _MOST = 0.02, 0.001, 0.9, 0.95  # MuJoCo's default solref and solimp
_STIFF, _DAMP = 1 / (_MOST * _TIME) ** 2, 2 / (_MOST * _TIME)
_SOFT = 0.0105
"""Regularisation of the normal force relative to the inertia it meets: that of ten edges of a friction pyramid."""


class Touch(NamedTuple):
    """How deep the robot's disk and arrow are in each of K objects.

    Attributes:
      depth: `[2, K]`, metres; negative where apart.
      normal: `[2, K, 2]`, unit vectors from the robot into the object.
      point: `[2, K, 2]`, where they meet.
    """

    depth: Any
    normal: Any
    point: Any

    @property
    def any(self) -> Any:
        """Which objects are touched, bool `[K]`."""
        return (self.depth > 0).any(axis=0)


def disks(body: Body, centre: Any, radius: float) -> Touch:
    """Contacts with disks `[K, 2]` of one radius."""
    c, s = jnp.cos(body.yaw), jnp.sin(body.yaw)
    dx, dy = centre[:, 0] - body.x, centre[:, 1] - body.y
    distance = jnp.sqrt(dx * dx + dy * dy)
    nx, ny = _unit(dx, dy, distance)
    first = (DISK + radius - distance, nx, ny, body.x + DISK * nx, body.y + DISK * ny)
    # The arrow: the point of the square that is nearest to the disk's centre, in the robot's frame.
    ahead, aside = c * dx + s * dy, c * dy - s * dx
    px, py = jnp.clip(ahead, REACH - ARROW, REACH + ARROW), jnp.clip(aside, -ARROW, ARROW)
    ex, ey = ahead - px, aside - py
    apart = jnp.sqrt(ex * ex + ey * ey)
    ux, uy = _unit(ex, ey, apart)
    # A centre inside the arrow is pushed away from the arrow's.
    mx, my = _unit(ahead - REACH, aside, jnp.sqrt((ahead - REACH) ** 2 + aside * aside))
    ux, uy = jnp.where(apart > 0, ux, mx), jnp.where(apart > 0, uy, my)
    second = (
        radius - apart,
        c * ux - s * uy,
        s * ux + c * uy,
        body.x + c * px - s * py,
        body.y + s * px + c * py,
    )
    return _touch(first, second)


def squares(body: Body, centre: Any, yaw: Any, half: float) -> Touch:
    """Contacts with squares `[K, 2]`, turned by `yaw [K]`, of one half width."""
    c, s, kc, ks = jnp.cos(body.yaw), jnp.sin(body.yaw), jnp.cos(yaw), jnp.sin(yaw)

    def inside(x, y):
        """A point of the world in the frames of the squares."""
        dx, dy = x - centre[:, 0], y - centre[:, 1]
        return kc * dx + ks * dy, kc * dy - ks * dx

    # The disk's centre and the nearest point of the square; from within, the nearest side.
    u, v = inside(body.x, body.y)
    pu, pv = jnp.clip(u, -half, half), jnp.clip(v, -half, half)
    eu, ev = pu - u, pv - v
    apart = jnp.sqrt(eu * eu + ev * ev)
    within = (jnp.abs(u) < half) & (jnp.abs(v) < half)
    along = jnp.abs(u) > jnp.abs(v)
    iu, iv = jnp.where(along, -jnp.sign(u), 0.0), jnp.where(along, 0.0, -jnp.sign(v))
    gu, gv = _unit(eu, ev, apart)
    nu, nv = jnp.where(within, iu, gu), jnp.where(within, iv, gv)
    depth = jnp.where(within, DISK + half - jnp.maximum(jnp.abs(u), jnp.abs(v)), DISK - apart)
    first = (
        depth,
        kc * nu - ks * nv,
        ks * nu + kc * nv,
        centre[:, 0] + kc * pu - ks * pv,
        centre[:, 1] + ks * pu + kc * pv,
    )
    # The arrow: separating axes of two squares.
    ax, ay = body.x + REACH * c, body.y + REACH * s
    dx, dy = centre[:, 0] - ax, centre[:, 1] - ay
    cross = jnp.abs(c * kc + s * ks) + jnp.abs(c * ks - s * kc)
    best, bx, by = jnp.full(dx.shape, jnp.inf, dx.dtype), jnp.zeros_like(dx), jnp.zeros_like(dx)
    one = jnp.ones_like(dx)
    for x, y, reach in (
        (c * one, s * one, ARROW + half * cross),
        (-s * one, c * one, ARROW + half * cross),
        (kc, ks, half + ARROW * cross),
        (-ks, kc, half + ARROW * cross),
    ):
        along_axis = x * dx + y * dy
        overlap = reach - jnp.abs(along_axis)
        sign = jnp.where(along_axis < 0, -1.0, 1.0)
        nearer = overlap < best
        best = jnp.where(nearer, overlap, best)
        bx, by = jnp.where(nearer, sign * x, bx), jnp.where(nearer, sign * y, by)
    second = (best, bx, by, ax + ARROW * bx, ay + ARROW * by)
    return _touch(first, second)


def resist(body: Body, c: Any, s: Any, ahead: Any, aside: Any, turn: Any, touch: Touch) -> tuple[Any, Any, Any]:
    """What objects that do not move do to the robot: forces ahead and aside, and a torque, in its frame.

    MuJoCo's soft constraint for the deepest contact of the disk and that of the arrow, one after the other, twice;
    friction (coefficient 1) acts along the plane. What its pyramid of friction does besides (rolling, torsion, the
    difference between an edge and the cone) is left out.

    Args:
      body: The robot.
      c, s: Cosine and sine of its heading.
      ahead, aside, turn: All other forces.
      touch: Its contacts.
    """
    which = touch.depth.argmax(axis=1)
    rows = jnp.arange(2)
    depth = touch.depth[rows, which]
    normal, point = touch.normal[rows, which], touch.point[rows, which]
    # In the robot's frame.
    nx, ny = c * normal[:, 0] + s * normal[:, 1], c * normal[:, 1] - s * normal[:, 0]
    rx, ry = point[:, 0] - body.x, point[:, 1] - body.y
    px, py = c * rx + s * ry, c * ry - s * rx
    vx, vy = c * body.vx + s * body.vy, c * body.vy - s * body.vx
    share = jnp.clip(depth / _WIDTH, 0.0, 1.0)
    bent = jnp.where(share < 0.5, 2 * share**2, 1 - 2 * (1 - share) ** 2)
    impedance = _LEAST + (_MOST - _LEAST) * bent
    zero = jnp.zeros_like(body.x)
    total = (zero, zero, zero)
    pressed = [zero, zero]
    rubbed = [zero, zero]
    for _ in range(2):
        for i in range(2):
            for along in (False, True):
                # Unit direction that the robot is pushed in, and its lever.
                ux, uy = (ny[i], -nx[i]) if along else (-nx[i], -ny[i])
                lever = px[i] * uy - py[i] * ux
                acc = respond((ahead + total[0], aside + total[1], turn + total[2]), damped=False)
                # The acceleration of the contact's point, its centripetal part left to the reference.
                now = ux * acc[0] + uy * acc[1] + lever * acc[2]
                speed = ux * vx + uy * vy + lever * body.w
                one = respond((ux, uy, lever), damped=False)
                inertia = ux * one[0] + uy * one[1] + lever * one[2]
                inertia = jnp.where(inertia > 0, inertia, jnp.inf)
                wanted = -_DAMP * speed + (0.0 if along else _STIFF * impedance[i] * depth[i])
                if along:
                    before, bound = rubbed[i], pressed[i]
                    force = jnp.clip(before + (wanted - now) / (inertia * (1 + _SOFT)), -bound, bound)
                    rubbed[i] = force
                else:
                    before = pressed[i]
                    force = jnp.maximum(before + (wanted - now) / (inertia * (1 + _SOFT)), 0.0)
                    force = jnp.where(depth[i] > 0, force, 0.0)
                    pressed[i] = force
                change = force - before
                total = (total[0] + change * ux, total[1] + change * uy, total[2] + change * lever)
    return total


class Contacts(NamedTuple):
    """C places where two bodies meet, in the robot's frame.

    Attributes:
      depth: Metres `[C]`; negative where they are apart.
      normal: Unit vector from the first body into the second, `(x, y)` of `[C]`.
      first: The place as seen from the first body's origin, `(x, y)` of `[C]`.
      second: From the second body's; whatever it is where that does not move.
      of: Index of the first body and of the second (None: that does not move) of each.
    """

    depth: Any
    normal: tuple[Any, Any]
    first: tuple[Any, Any]
    second: tuple[Any, Any]
    of: tuple[tuple[int, int | None], ...]

    def join(self, other: Contacts) -> Contacts:
        """Both."""

        def both(a, b):
            return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)

        depth, normal = both(self.depth, other.depth), both(self.normal, other.normal)
        return Contacts(
            depth, normal, both(self.first, other.first), both(self.second, other.second), self.of + other.of
        )


class Moved(NamedTuple):
    """A body that contacts push, in the robot's frame.

    Attributes:
      force: All other forces: along x and y, and torque.
      velocity: Along x and y, and spin.
      respond: `(force) -> acceleration`, three numbers each.
    """

    force: tuple[Any, Any, Any]
    velocity: tuple[Any, Any, Any]
    respond: Callable[[tuple[Any, Any, Any]], tuple[Any, Any, Any]]


def deepest(body: Body, c: Any, s: Any, touch: Touch) -> Contacts:
    """The deepest contact of the robot's disk and that of its arrow, with things that do not move."""
    one = (touch.depth.argmax(axis=1)[:, None] == np.arange(touch.depth.shape[1]))[..., None]
    depth = touch.depth.max(axis=1)
    normal, point = (jnp.where(one, x, 0).sum(axis=1) for x in (touch.normal, touch.point))
    place = turned_back(c, s, point[:, 0] - body.x, point[:, 1] - body.y)
    return Contacts(depth, turned_back(c, s, normal[:, 0], normal[:, 1]), place, place, ((0, None),) * 2)


def solid(body: Body, c: Any, s: Any, force: tuple[Any, Any, Any]) -> Moved:
    """The robot as `press` takes it."""
    vx, vy = turned_back(c, s, body.vx, body.vy)
    return Moved(force, (vx, vy, body.w), lambda force: respond(force, damped=False))


def press(bodies: Sequence[Moved], contacts: Contacts, start: Any = None) -> tuple[list[tuple[Any, Any, Any]], Any]:
    """`resist` for several bodies: forces along x and y of the robot's frame, and torque.

    Args:
      bodies: What is pushed.
      contacts: Where.
      start: Forces `[2 C]` to start from, those of the substep before: a light body between heavy ones takes many
        turns.

    Returns:
      The bodies' forces, and those of the contacts `[2 C]`: along the normal and along the plane of each.
    """
    count, size = len(contacts.of), len(bodies)
    # The barriers keep the compiler from working out where bodies meet anew for everything that follows from it.
    depth, (nx, ny), here, there = jax.lax.optimization_barrier(tuple(contacts[:4]))
    ux, uy = jnp.stack([-nx, ny], axis=1), jnp.stack([-ny, -nx], axis=1)  # where the first body is pushed
    first, second = (place[0][:, None] * uy - place[1][:, None] * ux for place in (here, there))  # levers
    into, outof = np.zeros((2, count, size))
    for i, (one, other) in enumerate(contacts.of):
        into[i, one] = 1
        if other is not None:
            outof[i, other] = 1
    pushes: list[Any] = []
    responses: list[Any] = []
    for k, body in enumerate(bodies):
        way = jnp.asarray((into - outof)[:, None, k], depth.dtype)
        lever = (
            jnp.asarray(into[:, None, k], depth.dtype) * first - jnp.asarray(outof[:, None, k], depth.dtype) * second
        )
        push = [each.reshape(-1) for each in (way * ux, way * uy, lever)]
        pushes += push
        responses += body.respond((push[0], push[1], push[2]))
    # [2 C, 3 B]: what a unit of each force does to the bodies, as forces and as accelerations.
    push, response = jax.lax.optimization_barrier((jnp.stack(pushes, axis=1), jnp.stack(responses, axis=1)))
    velocity = jnp.stack([x for body in bodies for x in body.velocity])
    acceleration = jnp.stack([x for body in bodies for x in body.respond(body.force)])
    share = jnp.clip(depth / _WIDTH, 0.0, 1.0)
    bent = jnp.where(share < 0.5, 2 * share**2, 1 - 2 * (1 - share) ** 2)
    spring = _STIFF * (_LEAST + (_MOST - _LEAST) * bent) * depth
    # What the constraint asks for beyond what the other forces do; the centripetal part is left to the reference.
    lack = (
        jnp.stack([spring, 0 * spring], axis=1).reshape(-1)
        - _DAMP * (push * velocity).sum(axis=1)
        - (push * acceleration).sum(axis=1)
    )
    inertia = (push * response).sum(axis=1)
    meet = (jnp.stack([depth, depth], axis=1).reshape(-1) > 0) & (inertia > 0)
    gain = jnp.where(meet, 1 / jnp.where(meet, inertia * (1 + _SOFT), 1.0), 0.0)
    coupling = (push[:, None] * response).sum(axis=2)
    lack, gain, coupling = jax.lax.optimization_barrier((lack, gain, coupling))

    def turn(k, forces):
        i = k % (2 * count)
        here = forces[i] + (lack[i] - (coupling[i] * forces).sum()) * gain[i]
        bound = forces[jnp.maximum(i - 1, 0)]
        here = jnp.where(i % 2 == 1, jnp.clip(here, -bound, bound), jnp.maximum(here, 0.0))
        return forces.at[i].set(here)

    forces = jnp.zeros_like(lack) if start is None else jnp.where(gain > 0, start, 0.0)
    forces = jax.lax.fori_loop(0, 4 * count, turn, forces)
    total = (forces[:, None] * push).sum(axis=0)
    return [(total[3 * k], total[3 * k + 1], total[3 * k + 2]) for k in range(size)], forces


def turned_back(c: Any, s: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A vector of the world in a frame that is turned by the angle with cosine c and sine s."""
    return c * x + s * y, c * y - s * x


def _unit(x: Any, y: Any, length: Any) -> tuple[Any, Any]:
    safe = jnp.maximum(length, 1e-9)
    return x / safe, y / safe


def _touch(*each: tuple[Any, Any, Any, Any, Any]) -> Touch:
    depth, nx, ny, px, py = (jnp.stack(list(values)) for values in zip(*each))
    return Touch(depth, jnp.stack([nx, ny], axis=-1), jnp.stack([px, py], axis=-1))
