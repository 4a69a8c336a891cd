"""The push box seen from above: a square with smaller squares on its corners, pushed by the robot, held by the floor.

The floor brakes it by `min(RATE |v|, DRAG)`, v its velocity and spin together (`|v|^2 = vx^2 + vy^2 + (GYRATION w)^2`
for a box of half width 0.2 m): fitted to MuJoCo's box, which hops on its twenty soft contacts and so slides further
than a coefficient of friction of 1 lets expect. It does not tip over, and its height stays what it is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.point.body import Body, H
from jsafe.envs.device.point.contacts import ARROW, DISK, REACH, Contacts, Moved, turned_back

DRAG = 11.0
"""Deceleration by the floor, m/s^2."""
RATE = 100.0
"""Of small speeds, 1/s."""
GYRATION = 1.25
"""Radius at which the floor's friction acts, in half widths."""


class PushBox:
    """Shape and mass of a push box.

    Args:
      half: Half its width without the columns, metres.
      height: Half its height.
      density: kg/m^3.
    """

    def __init__(self, half: float, height: float, density: float):
        block, column = 8 * half * half * height * density, 2 * half * half * height * density
        self.mass = block + 4 * column
        self.inertia = block * (2 * half) ** 2 / 6 + 4 * column * (half**2 / 6 + 2 * half**2)
        self.half = half
        ends = np.array([(1, 1), (-1, 1), (1, -1), (-1, -1)])
        self._centres = np.concatenate([np.zeros((1, 2)), half * ends])
        self._halves = np.array([half, *[half / 2] * 4])
        corners = [half * ends + half / 2 * np.array(way) * ends for way in ((1, 1), (1, -1), (-1, 1))]
        self._corners = np.concatenate(corners)
        self.reach = 1.5 * half * 2**0.5

    def respond(self, force: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        """Accelerations of forces along x and y, and of a torque."""
        return force[0] * (1 / self.mass), force[1] * (1 / self.mass), force[2] * (1 / self.inertia)

    def floor(self, box: Body) -> tuple[Any, Any, Any]:
        """What the floor does to it: forces along x and y, and a torque."""
        turn = GYRATION * self.half * box.w
        speed = jnp.sqrt(box.vx * box.vx + box.vy * box.vy + turn * turn)
        rate = jnp.minimum(RATE, DRAG / jnp.maximum(speed, 1e-9))
        return -self.mass * rate * box.vx, -self.mass * rate * box.vy, -self.inertia * rate * box.w

    def moved(self, box: Body, c: Any, s: Any) -> Moved:
        """The box as `press` takes it, in a frame turned by the angle with cosine c and sine s."""
        x, y, turn = self.floor(box)
        return Moved((*turned_back(c, s, x, y), turn), (*turned_back(c, s, box.vx, box.vy), box.w), self.respond)

    def substep(self, box: Body, c: Any, s: Any, push: tuple[Any, Any, Any]) -> Body:
        """The next `H` seconds under the floor and the contacts' forces, these in that frame."""
        fx, fy, turn = self.floor(box)
        fx, fy = fx + c * push[0] - s * push[1], fy + s * push[0] + c * push[1]
        ax, ay, aw = self.respond((fx, fy, turn + push[2]))
        vx, vy, w = box.vx + H * ax, box.vy + H * ay, box.w + H * aw
        return Body(box.x + H * vx, box.y + H * vy, box.yaw + H * w, vx, vy, w)

    def meet(self, body: Body, c: Any, s: Any, box: Body, obstacles: Any = None, radii: Any = None) -> Contacts:
        """Where the robot, body 0, and the box, body 1, can touch, and where the box is deepest in an obstacle.

        The disk, the arrow's two ends, and what corner of the box is deepest in the arrow.

        Args:
          body: The robot.
          c, s: Cosine and sine of its heading.
          box: The box.
          obstacles, radii: Disks that do not move, `[K, 2]` and `[K]`.
        """
        # Everything in the box's frame first; the barriers keep it from being worked out many times.
        kc, ks = jnp.cos(box.yaw), jnp.sin(box.yaw)
        bx, by = turned_back(kc, ks, body.x - box.x, body.y - box.y)
        hc, hs = turned_back(kc, ks, c, s)  # where the robot heads
        ahead = REACH + ARROW
        xs, ys = [bx], [by]
        for side in (-ARROW, ARROW):
            xs.append(bx + hc * ahead - hs * side)
            ys.append(by + hs * ahead + hc * side)
        x, y, radius = jnp.stack(xs), jnp.stack(ys), jnp.asarray(np.array([DISK, 0.0, 0.0]), bx.dtype)
        if obstacles is not None:
            ox, oy = turned_back(kc, ks, obstacles[:, 0] - box.x, obstacles[:, 1] - box.y)
            x, y, radius = jnp.concatenate([x, ox]), jnp.concatenate([y, oy]), jnp.concatenate([radius, radii])
        x, y, bx, by, hc, hs = jax.lax.optimization_barrier((x, y, bx, by, hc, hs))
        depth, nx, ny, px, py = jax.lax.optimization_barrier(self._disks(x, y, radius))
        if obstacles is not None:  # of these the deepest, whose normal points the other way
            one = depth[3:].argmax() == np.arange(len(radii))
            last = [jnp.where(one, v[3:], 0).sum(keepdims=True) for v in (depth, -nx, -ny, px, py)]
            depth, nx, ny, px, py = (jnp.concatenate([v[:3], w]) for v, w in zip((depth, nx, ny, px, py), last))
        normal, second = turned_back(hc, hs, nx, ny), turned_back(hc, hs, px, py)
        # The box itself is the first body where it leans on an obstacle.
        own = np.array([1.0, 1.0, 1.0, 0.0])[: len(depth)].astype(np.float32)
        first = turned_back(hc, hs, px - own * bx, py - own * by)
        found = Contacts(depth, normal, first, second, ((0, 1),) * 3 + ((1, None),) * (obstacles is not None))
        # A corner of the box in the arrow, in the robot's frame.
        ux, uy = turned_back(hc, hs, self._corners[:, 0] - bx, self._corners[:, 1] - by)
        inside = ARROW - jnp.maximum(jnp.abs(ux - REACH), jnp.abs(uy))
        one = inside.argmax() == np.arange(len(self._corners))
        px, py = (jnp.where(one, v, 0).sum(keepdims=True) for v in (ux, uy))
        front = px - REACH > jnp.abs(py)
        out = jnp.where(front, 1.0, 0.0).astype(px.dtype), jnp.where(front, 0.0, jnp.sign(py)).astype(px.dtype)
        mx, my = turned_back(hc, hs, -bx, -by)  # the box's middle in the robot's frame
        return found.join(Contacts(inside.max(keepdims=True), out, (px, py), (px - mx, py - my), ((0, 1),)))

    def _disks(self, x: Any, y: Any, radius: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Depth, normal into the box and place of the contacts of disks with the square that each is deepest in.

        Args:
          x, y: Their centres in the box's frame `[D]`.
          radius: Theirs `[D]`.
        """
        cx, cy, half = (jnp.asarray(v, x.dtype) for v in (*self._centres.T, self._halves))
        u, v = x[:, None] - cx, y[:, None] - cy
        eu, ev = u - jnp.clip(u, -half, half), v - jnp.clip(v, -half, half)
        apart = jnp.sqrt(eu * eu + ev * ev)
        within, along = apart == 0, jnp.abs(u) > jnp.abs(v)
        depth = radius[:, None] + jnp.where(within, half - jnp.maximum(jnp.abs(u), jnp.abs(v)), -apart)
        one = depth.argmax(axis=1)[:, None] == np.arange(len(self._halves))
        eu, ev, u, v, cx, cy, apart = (
            jnp.where(one, each, 0).sum(axis=1) for each in (eu, ev, u, v, cx + 0 * u, cy + 0 * v, apart)
        )
        # A centre in the square is pushed out by the nearest side.
        within, along, safe = apart == 0, jnp.abs(u) > jnp.abs(v), jnp.maximum(apart, 1e-9)
        nx = jnp.where(within, jnp.where(along, -jnp.sign(u), 0.0), -eu / safe)
        ny = jnp.where(within, jnp.where(along, 0.0, -jnp.sign(v)), -ev / safe)
        return depth.max(axis=1), nx, ny, cx + u - eu, cy + v - ev
