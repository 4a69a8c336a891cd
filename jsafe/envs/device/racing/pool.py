"""Roads as arrays of one size, with an index of the tiles that a car at any place can touch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jsafe.envs.device.racing import car, track

TILES = track.MAX_POINTS + 1
"""Rows per road; at least the last one is padding."""
CELL = 8.0
"""Side of a cell of the index, metres."""
CELLS = 64
"""Cells per axis; the index is centred on the origin."""
FAR = 1e5
"""Coordinate of what is not there."""

_HALF = CELL * CELLS / 2
_REACH = float(np.hypot(*np.abs(car.WHEELS - car.HULL_CENTRE).T).max() + np.hypot(*car.WHEEL_HALF)) + 0.1
_WINDOW = 4  # cells per axis that a tile's surroundings can span: it is at most 24 m wide


class Pool(NamedTuple):
    """T roads. A row of padding lies far away.

    Attributes:
      count: int32 `[T]` number of tiles N of each road.
      tiles: float32 `[T, 384, 4, 2]` corners of tile j, clockwise: the left and the right end of the road at point j,
        then the right and the left end at point j - 1.
      points: float32 `[T, 384, 4]` x, y of the road's middle at point j; cosine, sine of its heading (0 is +y).
      slot: uint16 `[T, 64 * 64]` row of `near` for each cell, row by row from (-256, -256).
      near: int16 `[T, S, K]` tiles within reach of a car whose centre of mass is in such a cell; padded by 383.
    """

    count: np.ndarray  # type: ignore[assignment]
    tiles: np.ndarray
    points: np.ndarray
    slot: np.ndarray
    near: np.ndarray


class Road(NamedTuple):
    """One road of N tiles; the fields are those of `Pool`, without padding."""

    tiles: np.ndarray
    points: np.ndarray
    slot: np.ndarray
    near: np.ndarray


_roads: dict[int, list[Road]] = {}


def pool(count: int, seed: int = 0) -> Pool:
    """The first `count` roads of a seed; made once per process, and only what is missing.

    Road i depends on the seed and on i alone, so that a larger pool begins with the smaller one.
    """
    roads = _roads.setdefault(seed, [])
    if len(roads) < count:
        roads += _make(seed, range(len(roads), count))
    return pack(roads[:count])


def pack(roads: list[Road]) -> Pool:
    """Stacks roads, padded."""
    tiles = np.full((len(roads), TILES, 4, 2), FAR, np.float32)
    points = np.full((len(roads), TILES, 4), FAR, np.float32)
    slots, width = np.max([road.near.shape for road in roads], axis=0)
    near = np.full((len(roads), -(-slots // 64) * 64, -(-width // 4) * 4), TILES - 1, np.int16)
    for i, road in enumerate(roads):
        tiles[i, : len(road.tiles)] = road.tiles
        points[i, : len(road.tiles)] = road.points
        near[i, : len(road.near), : road.near.shape[1]] = road.near
    count = np.array([len(road.tiles) for road in roads], np.int32)
    return Pool(count, tiles, points, np.stack([road.slot for road in roads]), near)


def road(points: np.ndarray) -> Road:
    """Tiles and index of the road through `points [N, 4]`, see `track.courses`."""
    heading = points[:, 1]
    middle = np.column_stack([points[:, 2:], np.cos(heading), np.sin(heading)])
    tiles = _tiles(middle)
    tile, cell = _touched(tiles)
    order = np.lexsort((tile, cell))
    cells, starts, row, counts = np.unique(cell[order], return_index=True, return_inverse=True, return_counts=True)
    slot = np.zeros(CELLS * CELLS, np.uint16)
    slot[cells] = 1 + np.arange(len(cells))
    near = np.full((1 + len(cells), counts.max()), TILES - 1, np.int16)  # row 0: nothing in reach
    near[1 + row, np.arange(len(row)) - starts[row]] = tile[order]
    return Road(tiles, middle, slot, near)


def _make(seed: int, which: range) -> list[Road]:
    """Roads of the given numbers: each draws from its own stream until a course closes."""
    streams = {i: np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, i]))) for i in which}
    found: dict[int, np.ndarray] = {}
    while streams:
        drawn = np.stack([track.checkpoints(rng) for rng in streams.values()])
        for i, points in zip(list(streams), track.courses(drawn)):
            if points is not None and np.abs(points[:, 2:]).max() + track.HALF_WIDTH + _REACH < _HALF:
                found[i] = points
                del streams[i]
    return [road(found[i]) for i in which]


def _tiles(points: np.ndarray) -> np.ndarray:
    """Corners `[N, 4, 2]` of the tiles; see `Pool`."""
    across = track.HALF_WIDTH * points[:, 2:]
    left, right = points[:, :2] - across, points[:, :2] + across
    return np.stack([left, right, np.roll(right, 1, axis=0), np.roll(left, 1, axis=0)], axis=1)


def _touched(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (tile, cell) where a car in the cell may touch the tile: no edge of either separates them by more."""
    low, high = tiles.min(1), tiles.max(1)  # [N, 2]
    first = np.floor((low - _REACH + _HALF) / CELL).astype(int)
    step = np.stack(np.meshgrid(np.arange(_WINDOW), np.arange(_WINDOW)), axis=-1).reshape(-1, 2)
    cell = first[:, None] + step  # [N, 16, 2]: column, row
    centre = (cell + 0.5) * CELL - _HALF
    reach = CELL / 2 + _REACH
    apart = (np.maximum(low[:, None] - centre, centre - high[:, None]) > reach).any(-1)
    edge = np.roll(tiles, -1, axis=1) - tiles
    normal = np.stack([-edge[..., 1], edge[..., 0]], axis=-1) / np.linalg.norm(edge, axis=-1, keepdims=True)
    for k in range(4):
        n = normal[:, k, None]
        distance = ((centre - tiles[:, k, None]) * n).sum(-1) - CELL / 2 * np.abs(n).sum(-1)
        apart |= distance > _REACH
    tile, which = np.nonzero(~apart)
    column, row = cell[tile, which].T
    return tile, row * CELLS + column
