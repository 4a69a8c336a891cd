"""What the driver is told: a picture and the car's vector, or numbers alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.racing import picture, track
from jsafe.envs.device.racing.car import Car, origin
from jsafe.envs.device.racing.pool import Pool
from jsafe.envs.device.racing.world import World, visited

CAR = 11
"""Width of the car's vector."""
AHEAD = np.array([-2, -1, 0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17, 20, 23], np.int32)
"""Points of the road that the flat observation shows, counted from the nearest one in the direction of travel."""
OBSTACLES = 4
"""Obstacles that it shows: the nearest to a point `_LOOK` metres ahead of the car."""

_LOOK = 10.0
_LENGTH, _SPEED, _SPIN, _WHEEL_SPIN, _ANGLE = 30.0, 30.0, 5.0, 60.0, 0.4  # scales of typical driving
_BOUND = 10.0


def car_vector(car: Car, left: jax.Array) -> jax.Array:
    """`[11]`: spins and steering angles of the four wheels, the hull's speed and spin, the share of tiles left."""
    speed = jnp.sqrt(car.vx * car.vx + car.vy * car.vy)
    return jnp.concatenate([car.omega, car.joint, jnp.stack([speed, car.spin, left])])


def pixels(roads: Pool, world: World, size: int) -> dict[str, jax.Array]:
    """`picture`: uint8 `[size, size, 1]`, grey; `car`: float32 `[11]`, see `car_vector`."""
    grey = jnp.asarray(picture.palette(grey=True))[surfaces(roads, world, size, size)]
    return {"picture": grey[..., None], "car": car_vector(world.car, _left(roads, world))}


def surfaces(roads: Pool, world: World, height: int, width: int) -> jax.Array:
    """uint8 `[height, width]`: the picture as indices of `picture.COLOURS`."""
    car = world.car
    tiles = roads.tiles[world.road]
    return picture.draw(
        *origin(car), car.angle, car.joint, car.phase, tiles, world.obstacles, height=height, width=width
    )


def flat_slices(obstacles: bool) -> dict[str, tuple[int, int]]:
    """(start, stop) of each part of the flat observation."""
    widths = {"car": CAR, "motion": 2, "wheels_on_road": 4, "road": 3}
    widths |= {"points": 2 * len(AHEAD), "unvisited": len(AHEAD)}
    if obstacles:
        widths["obstacles"] = 4 * OBSTACLES
    stops = np.cumsum(list(widths.values())).tolist()
    return {name: (stop - width, stop) for (name, width), stop in zip(widths.items(), stops)}


def flat(roads: Pool, world: World) -> jax.Array:
    """The flat observation, `[D]`, every entry about 1 or smaller in ordinary driving; see `flat_slices` for the parts.

    - `car`: `car_vector`, scaled.
    - `motion`: sideways velocity (to the right), gas.
    - `wheels_on_road`: 1 for a wheel that touched a tile in the last step.
    - `road`: how far the car is to the right of the road's middle, in halves of its width; cosine and sine of the
      road's heading relative to the car's. The road's direction is the one of the two that the car faces.
    - `points`: the points `AHEAD` on the road, each to the right of the car and before it.
    - `unvisited`: 1 for each of their tiles that has not been visited.
    - `obstacles` (where there are any): for each of four, whether it is there (1 or 0), its middle to the right and
      before, and half its extent across the road.
    """
    car = world.car
    cos, sin = jnp.cos(car.angle), jnp.sin(car.angle)

    def ahead_of(x, y):
        """World coordinates relative to the car, to its right and before it."""
        x, y = x - car.x, y - car.y
        return cos * x + sin * y, cos * y - sin * x

    count = roads.count[world.road]
    here = roads.points[world.road, world.nearest]
    facing = jnp.where(cos * here[2] + sin * here[3] < 0, -1, 1)
    ids = (world.nearest + facing * AHEAD) % count
    points = roads.points[world.road, ids]
    right, before = ahead_of(points[:, 0], points[:, 1])
    road_cos, road_sin = facing * here[2], facing * here[3]
    aside = (car.x - here[0]) * road_cos + (car.y - here[1]) * road_sin
    scale = np.array([1 / _WHEEL_SPIN] * 4 + [1 / _ANGLE] * 4 + [1 / _SPEED, 1 / _SPIN, 1], np.float32)
    parts = [
        car_vector(car, _left(roads, world)) * scale,
        jnp.stack([(cos * car.vx + sin * car.vy) / _SPEED, car.gas]),
        world.on_road.astype(jnp.float32),
        jnp.stack([
            aside / track.HALF_WIDTH, cos * road_cos + sin * road_sin, cos * road_sin - sin * road_cos,
        ]),
        jnp.stack([right, before], axis=1).reshape(-1) / _LENGTH,
        (~visited(world, ids)).astype(jnp.float32),
    ]  # fmt: skip
    if world.obstacles.shape[0]:
        parts.append(_obstacles(world, ahead_of))
    return jnp.clip(jnp.concatenate(parts), -_BOUND, _BOUND)


def _obstacles(world: World, ahead_of) -> jax.Array:
    middle = world.obstacles.mean(1)
    right, before = ahead_of(middle[:, 0], middle[:, 1])
    distance = right**2 + (before - _LOOK) ** 2
    edge = world.obstacles[:, 1] - world.obstacles[:, 0]
    extent = jnp.sqrt((edge**2).sum(-1)) / 2
    features = jnp.stack([right / _LENGTH, before / _LENGTH, extent / track.HALF_WIDTH], axis=1)
    shown = []
    for _ in range(OBSTACLES):
        k = jnp.argmin(distance)
        there = distance[k] < (2 * _LENGTH) ** 2
        shown.append(jnp.where(there, jnp.concatenate([jnp.ones(1, jnp.float32), features[k]]), 0.0))
        distance = distance.at[k].set(jnp.inf)
    return jnp.concatenate(shown)


def _left(roads: Pool, world: World) -> jax.Array:
    return world.left.astype(jnp.float32) / roads.count[world.road].astype(jnp.float32)
