"""One episode without its observation: the car, the road under it, what was visited and what was hit."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.racing import spawn, track
from jsafe.envs.device.racing.car import WHEELS, Car, Wheels, drive, wheels
from jsafe.envs.device.racing.contacts import touching
from jsafe.envs.device.racing.pool import CELL, CELLS, FAR, TILES, Pool

OFFSET = track.HALF_WIDTH / 2
"""Distance of a lane's middle from the road's middle, metres: where cars start and obstacles lie."""

_WORDS = TILES // 32
_BEFORE, _AFTER = 5, 4  # tiles that an obstacle bars for others, before and after its own
_SEARCH = 4  # points on each side of the last nearest one among which the next is looked for
_LOST = track.HALF_WIDTH + 3.0


class World(NamedTuple):
    """State of one episode on a road of N tiles with room for M obstacles.

    Attributes:
      car: The car.
      road: int32, index into the pool.
      visited: uint32 `[12]`, bit j % 32 of word j // 32 belongs to tile j.
      left: int32, tiles not visited yet.
      on_road: bool `[4]`, wheels on a tile in the last step.
      on_obstacle: bool `[M]`, obstacles under a wheel in the last step.
      obstacles: float32 `[M, 4, 2]` corners, clockwise; those that there are not lie far away.
      steps: int32, steps so far.
      nearest: int32, the road's point next to the car, followed from step to step, so that it stays on its branch where
        the road crosses itself.
    """

    car: Car
    road: jax.Array
    visited: jax.Array
    left: jax.Array
    on_road: jax.Array
    on_obstacle: jax.Array
    obstacles: jax.Array
    steps: jax.Array
    nearest: jax.Array


class Events(NamedTuple):
    """What happened in a step: tiles visited for the first time (int32), a new obstacle hit, the road left (bool)."""

    new_tiles: jax.Array
    hit: jax.Array
    left_road: jax.Array


def begin(roads: Pool, obstacles: np.ndarray, key: jax.Array) -> World:
    """A new episode: a random road and tile, either direction, either lane.

    Args:
      roads: Jax arrays.
      obstacles: int32 `[T]` number of obstacles on each road; the largest is M.
      key: Of the episode.
    """
    start_key, obstacle_key = jax.random.split(key)
    draw = jax.random.uniform(start_key, (4,), jnp.float32)
    road = (draw[0] * roads.count.shape[0]).astype(jnp.int32)
    tile = (draw[1] * roads.count[road]).astype(jnp.int32)
    x, y, cos, sin = roads.points[road, tile]
    aside = jnp.where(draw[2] < 0.5, OFFSET, -OFFSET)
    turned = jnp.where(draw[3] < 0.5, jnp.pi, 0.0)
    start = (x + aside * cos, y + aside * sin, jnp.arctan2(sin, cos) + turned)
    corners = _obstacles(roads, road, obstacles, obstacle_key)
    return enter(roads, road, tile, corners, *start)


def enter(
    roads: Pool, road: jax.Array, tile: jax.Array, obstacles: jax.Array, x: jax.Array, y: jax.Array, angle: jax.Array
) -> World:
    """The world after the reset's step: what is under the wheels counts as visited and as touched.

    Args:
      roads: Jax arrays.
      road: Index of the road.
      tile: The one that the car starts on.
      obstacles: `[M, 4, 2]`.
      x, y, angle: Where the car is built; see `spawn.place`.
    """
    turned = jnp.full(4, angle, jnp.float32)
    hub_x, hub_y = map(jnp.asarray, WHEELS.astype(np.float32).T)
    built = Wheels(hub_x, hub_y, jnp.cos(turned), jnp.sin(turned))
    ids, on_tile, on_obstacle = _contacts(roads, road, obstacles, built, x, y)
    touched = on_tile.any(0)
    return World(
        car=spawn.place(x, y, angle),
        road=road,
        visited=_bits(ids, touched),
        left=roads.count[road] - touched.sum(dtype=jnp.int32),
        on_road=on_tile.any(1),
        on_obstacle=on_obstacle,
        obstacles=obstacles,
        steps=jnp.int32(0),
        nearest=tile,
    )


def advance(roads: Pool, world: World, action: jax.Array) -> tuple[World, Events]:
    """One step.

    Contacts, and with them visits and events, are those of the poses before the step; friction in the step is that of
    the contacts one step earlier (of the reset in the first one).

    Args:
      roads: Jax arrays.
      world: State.
      action: `[3]` steering (positive is right), gas, brake in [-1, 1]; clipped. The pedals are `(a + 1) / 2`.
    """
    car = world.car
    ids, on_tile, on_obstacle = _contacts(roads, world.road, world.obstacles, wheels(car), car.x, car.y)
    touched, on_road = on_tile.any(0), on_tile.any(1)
    new_tiles = (touched & ~visited(world, ids)).sum(dtype=jnp.int32)
    events = Events(
        new_tiles=new_tiles,
        hit=(on_obstacle & ~world.on_obstacle).any(),
        left_road=world.on_road.any() & ~on_road.any(),
    )
    action = jnp.clip(action.astype(jnp.float32), -1.0, 1.0)
    car = drive(car, -action[0], (action[1] + 1) / 2, (action[2] + 1) / 2, world.on_road)
    world = World(
        car=car,
        road=world.road,
        visited=world.visited | _bits(ids, touched),
        left=world.left - new_tiles,
        on_road=on_road,
        on_obstacle=on_obstacle,
        obstacles=world.obstacles,
        steps=world.steps + 1,
        nearest=_nearest(roads, world, car, ids, touched),
    )
    return world, events


def visited(world: World, ids: jax.Array) -> jax.Array:
    """bool `[K]`: which of the tiles `ids [K]` have been visited."""
    return (world.visited[ids >> 5] >> (ids & 31).astype(jnp.uint32)) & 1 > 0


def _bits(ids: jax.Array, chosen: jax.Array) -> jax.Array:
    """uint32 `[12]` with the bits of the chosen ids `[K]`."""
    bit = jnp.where(chosen, jnp.uint32(1) << (ids & 31).astype(jnp.uint32), jnp.uint32(0))
    word = np.arange(_WORDS, dtype=np.int32)[:, None]
    return jax.lax.reduce_or(jnp.where(ids >> 5 == word, bit, jnp.uint32(0)), (1,))


def _contacts(
    roads: Pool, road: jax.Array, obstacles: jax.Array, poses: Wheels, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the wheels touch; their poses are relative to (x, y), which is the hull's centre of mass or close to it.

    Returns:
      Ids `[K]` of the tiles in reach, which wheel touches which of them (bool `[4, K]`), obstacles under a wheel (bool
      `[M]`).
    """
    half = CELL * CELLS / 2
    column, row = (jnp.clip(((v + half) / CELL).astype(jnp.int32), 0, CELLS - 1) for v in (x, y))
    slot = roads.slot[road, row * CELLS + column].astype(jnp.int32)
    ids = roads.near[road, slot].astype(jnp.int32)
    corners = jnp.concatenate([roads.tiles[road, ids], obstacles])
    touched = touching(poses, corners[..., 0] - x, corners[..., 1] - y)
    return ids, touched[:, : len(ids)], touched[:, len(ids) :].any(0)


def _nearest(roads: Pool, world: World, car: Car, ids: jax.Array, touched: jax.Array) -> jax.Array:
    """The nearest of the points around the last one; far from all of them, a tile under a wheel, if there is one."""
    around = (world.nearest + np.arange(-_SEARCH, _SEARCH + 1, dtype=np.int32)) % roads.count[world.road]
    points = roads.points[world.road, around]
    distance = (points[:, 0] - car.x) ** 2 + (points[:, 1] - car.y) ** 2
    best = jnp.argmin(distance)
    lost = (distance[best] > _LOST**2) & touched.any()
    return jnp.where(lost, jnp.where(touched, ids, 0).max(), around[best])


def _obstacles(roads: Pool, road: jax.Array, numbers: np.ndarray, key: jax.Array) -> jax.Array:
    """Corners `[M, 4, 2]` of random obstacles.

    Tiles are drawn one after the other, uniformly from those not yet barred; each bars five tiles before and four
    after itself. An obstacle lies in the middle of either lane, 3.5 m along the road and `max(|Normal(1, 1)|, 0.1)`
    quarters of the road's width across.
    """
    room = int(numbers.max())
    if not room:
        return jnp.zeros((0, 4, 2), jnp.float32)
    rank_key, side_key, width_key = jax.random.split(key, 3)
    count, number = roads.count[road], jnp.asarray(numbers)[road]
    # The largest of independent random numbers is a uniform draw, whatever has been barred. The tile's id takes the
    # place of their last bits: a maximum of integers is much faster than an argmax.
    ids = jnp.arange(TILES, dtype=jnp.uint32)
    rank = (jax.random.bits(rank_key, (TILES,), jnp.uint32) & ~jnp.uint32(511)) | ids

    def draw(free, k):
        tile = (jnp.where(free, rank, 0).max() & 511).astype(jnp.int32)
        there = free.any() & (k < number)
        ahead = ids.astype(jnp.int32) - tile
        ahead = jnp.where(ahead < 0, ahead + count, ahead)
        return free & (ahead > _AFTER) & (ahead < count - _BEFORE), (tile, there)

    _, (tiles, there) = jax.lax.scan(draw, ids < count, jnp.arange(room, dtype=jnp.int32))
    x, y, cos, sin = roads.points[road, tiles].T
    aside = jnp.where(jax.random.bernoulli(side_key, shape=(room,)), OFFSET, -OFFSET)
    width = jnp.maximum(jnp.abs(1 + jax.random.normal(width_key, (room,), jnp.float32)), 0.1) * track.HALF_WIDTH / 4
    across = aside[:, None] + width[:, None] * np.array([-1.0, 1.0, 1.0, -1.0], np.float32)
    along = 1.75 * np.array([1.0, 1.0, -1.0, -1.0], np.float32)
    corner_x = x[:, None] + across * cos[:, None] - along * sin[:, None]
    corner_y = y[:, None] + across * sin[:, None] + along * cos[:, None]
    return jnp.where(there[:, None, None], jnp.stack([corner_x, corner_y], axis=-1), FAR)
