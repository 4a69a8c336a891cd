"""The view from above: polygons as spans of pixel rows, and the palette that fills them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device.racing.car import HULL, WHEEL_HALF, WHEELS
from jsafe.envs.device.racing.pool import FAR

_Array = jax.Array | np.ndarray

GRASS, LIGHT, ROAD, OBSTACLE, WHEEL, PATCH, BODY, OUTSIDE = range(8)
COLOURS = np.array([
    (0.4, 0.8, 0.4), (0.4, 0.9, 0.4), (0.4, 0.4, 0.4), (0.86, 0.08, 0.23), (0.0, 0.0, 0.0), (0.3, 0.3, 0.3),
    (0.8, 0.0, 0.0), (0.0, 0.0, 0.0),
])  # fmt: skip
"""Red, green, blue in [0, 1] of each surface, in the order of the names above."""

_WIDTH, _HEIGHT, _ZOOM, _BEHIND = 1050.0, 700.0, 16.2, 175.0  # the window, its pixels per metre, pixels below the car
VISIBLE = 96
"""Room for tiles in a picture; at most 68 are within sight of any place (512 roads, every 8 m)."""
VISIBLE_OBSTACLES = 24
"""The same for obstacles, of which each bars nine other tiles."""
_CENTRE = (_HEIGHT / 2 - _BEHIND) / _ZOOM  # from the car to the middle of the picture, metres
_SIGHT = float(np.hypot(_WIDTH, _HEIGHT)) / 2 / _ZOOM + 8.0  # half a diagonal, and half a tile's
_CHECK, _BORDER = 1000 / 60, 1000 / 3
_PATCH_ARC = 1.2


def palette(grey: bool) -> np.ndarray:
    """uint8 `[8]` (0.299 R + 0.587 G + 0.114 B) or `[8, 3]`: the colours, rounded."""
    colours = COLOURS @ np.array([0.299, 0.587, 0.114]) if grey else COLOURS
    return np.round(255 * colours).astype(np.uint8)


def draw(
    x: jax.Array,
    y: jax.Array,
    angle: jax.Array,
    joint: jax.Array,
    phase: jax.Array,
    tiles: jax.Array,
    obstacles: jax.Array,
    height: int = 96,
    width: int = 96,
) -> jax.Array:
    """Which surface each pixel shows, sampled at its centre.

    The camera looks down at 64.8 m x 43.2 m; the hull stands in the middle, a quarter above the lower edge, and faces
    up. Pixel (r, c) shows the world at `(x, y) + R(angle) (across, ahead)` with

        across = (1050 (c + 1/2) / width - 525) / 16.2,    ahead = (700 (height - r - 1/2) / height - 175) / 16.2.

    Args:
      x, y, angle: The origin of the hull's frame (not its centre of mass) and the hull's angle.
      joint, phase: `[4]` steering angle and rotation of the wheels.
      tiles: `[P, 4, 2]` corners of the road's tiles in the world; those far away draw nothing.
      obstacles: `[M, 4, 2]` the same of obstacles.
      height, width: Of the picture, pixels.

    Returns:
      uint8 `[height, width]`, indices of `COLOURS`.
    """
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def shown(corners, room):
        middle = corners.mean(1) - jnp.stack([x - sin * _CENTRE, y + cos * _CENTRE])
        near = jnp.nonzero((middle * middle).sum(-1) < _SIGHT**2, size=room, fill_value=len(corners))[0]
        corners = corners.at[near].get(mode="fill", fill_value=FAR) - jnp.stack([x, y])
        across, ahead = corners[..., 0], corners[..., 1]
        return _spans(cos * across + sin * ahead, cos * ahead - sin * across, height, width)

    hull = [points.astype(np.float32).T[:, None] for points in HULL]
    body = [_spans(across, ahead, height, width) for across, ahead in hull]
    layers = [
        (ROAD, shown(tiles, VISIBLE)),
        (WHEEL, _spans(*_on_wheels(joint, *_boxes()), height, width)),
        (PATCH, _spans(*_on_wheels(joint, *_patches(phase)), height, width)),
        (BODY, body[0] | body[1] | body[2] | body[3]),
    ]
    if obstacles.shape[0]:
        layers.insert(1, (OBSTACLE, shown(obstacles, VISIBLE_OBSTACLES)))
    surface = _ground(x, y, cos, sin, height, width)
    shift = jnp.arange(width, dtype=jnp.uint32) % 32
    for colour, bits in layers:
        covered = (jnp.repeat(bits, 32, axis=1)[:, :width] >> shift) & 1
        surface = jnp.where(covered > 0, jnp.uint8(colour), surface)
    return surface


def _ground(x: jax.Array, y: jax.Array, cos: jax.Array, sin: jax.Array, height: int, width: int) -> jax.Array:
    """Grass, its light squares, and what lies outside of the world."""
    across = ((_WIDTH * (np.arange(width) + 0.5) / width - _WIDTH / 2) / _ZOOM).astype(np.float32)
    ahead = ((_HEIGHT * (height - np.arange(height) - 0.5) / height - _BEHIND) / _ZOOM).astype(np.float32)[:, None]
    world_x = (x - sin * ahead) + cos * across
    world_y = (y + cos * ahead) + sin * across
    odd = (jnp.floor(world_x / _CHECK).astype(jnp.int32) | jnp.floor(world_y / _CHECK).astype(jnp.int32)) & 1
    outside = jnp.maximum(jnp.abs(world_x), jnp.abs(world_y)) > _BORDER
    surface = jnp.where(odd > 0, jnp.uint8(GRASS), jnp.uint8(LIGHT))
    return jnp.where(outside, jnp.uint8(OUTSIDE), surface)


def _spans(across: _Array, ahead: _Array, height: int, width: int) -> jax.Array:
    """Pixels inside of any of K convex polygons.

    A row cuts a convex polygon in one interval, which becomes bits of words of 32 columns; the polygons' words are
    combined by "or".

    Args:
      across, ahead: `[K, C]` corners in the hull's frame, metres.

    Returns:
      uint32 `[height, ceil(width / 32)]`.
    """
    column = (_ZOOM * across + _WIDTH / 2) * (width / _WIDTH) - 0.5
    row = height - 0.5 - (_ZOOM * ahead + _BEHIND) * (height / _HEIGHT)
    lines = np.arange(height, dtype=np.float32)[:, None]
    low = jnp.full((height, across.shape[0]), jnp.inf, jnp.float32)
    high = -low
    for k in range(across.shape[1]):
        u, v = column[:, k], row[:, k]
        next_u, next_v = column[:, k - 1], row[:, k - 1]
        slope = (next_u - u) / jnp.where(next_v == v, 1.0, next_v - v)
        cut = (v <= lines) != (next_v <= lines)
        at = u + (lines - v) * slope
        low = jnp.minimum(low, jnp.where(cut, at, jnp.inf))
        high = jnp.maximum(high, jnp.where(cut, at, -jnp.inf))
    first = jnp.clip(jnp.ceil(low), 0, width).astype(jnp.int32)
    stop = jnp.clip(jnp.floor(high) + 1, 0, width).astype(jnp.int32)
    words = []
    for start in range(0, width, 32):
        inside = _low_bits(stop - start) & ~_low_bits(first - start)
        words.append(jax.lax.reduce_or(inside, (1,)))
    return jnp.stack(words, axis=1)


def _low_bits(count: jax.Array) -> jax.Array:
    """Words with the lowest `count` bits set; none below 1, all from 32 on."""
    count = jnp.clip(count, 0, 32).astype(jnp.uint32)
    return jnp.where(count < 32, (jnp.uint32(1) << jnp.minimum(count, 31)) - 1, jnp.uint32(0xFFFFFFFF))


def _boxes() -> tuple[np.ndarray, np.ndarray]:
    half_x, half_y = WHEEL_HALF
    across, along = [-half_x, half_x, half_x, -half_x], [half_y, half_y, -half_y, -half_y]
    return np.tile(np.array(across, np.float32), (4, 1)), np.tile(np.array(along, np.float32), (4, 1))


def _patches(phase: jax.Array) -> tuple[np.ndarray, jax.Array]:
    """The mark on each wheel that shows its rotation; without extent while it is on the lower side."""
    radius = WHEEL_HALF[1]
    ends = []
    below = jnp.ones_like(phase, bool)
    for angle in (phase, phase + _PATCH_ARC):
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        ends.append(radius * jnp.where(sine > 0, jnp.sign(cosine), cosine))
        below &= sine > 0
    first, second = jnp.where(below, 0.0, ends[0]), jnp.where(below, 0.0, ends[1])
    return _boxes()[0], jnp.stack([first, first, second, second], axis=1)


def _on_wheels(joint: jax.Array, across: _Array, along: _Array) -> tuple[_Array, _Array]:
    """Corners `[4, C]` in the wheels' frames, in the hull's frame."""
    c, s = jnp.cos(joint)[:, None], jnp.sin(joint)[:, None]
    hub_x, hub_y = np.split(WHEELS.astype(np.float32), 2, axis=1)
    return hub_x + c * across - s * along, hub_y + s * across + c * along
