"""Which wheels touch which tiles and obstacles: separating axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jsafe.envs.device.racing.car import WHEEL_HALF, Wheels

SKIN = 0.02
"""Shapes this close still touch, metres: the two polygon radii of Box2D."""


def touching(wheels: Wheels, x: jax.Array, y: jax.Array) -> jax.Array:
    """Whether each wheel touches each quadrilateral.

    Two convex shapes touch unless the normal of an edge of either separates them by more than the skin.

    Args:
      wheels: Poses of W wheels; coordinates relative to a point nearby keep float32's digits.
      x, y: `[K, 4]` corners of K convex quadrilaterals, clockwise.

    Returns:
      bool `[W, K]`.

    Source: Box2D's `b2TestOverlap` is a distance of at most 0.02, which differs only where two corners face each other.
    """
    half_x, half_y = WHEEL_HALF
    cos, sin = wheels.cos[:, None], wheels.sin[:, None]
    corner_x = [x[None, :, k] - wheels.x[:, None] for k in range(4)]
    corner_y = [y[None, :, k] - wheels.y[:, None] for k in range(4)]
    apart = jnp.zeros((wheels.x.shape[0], x.shape[0]), bool)
    across = [a * cos + b * sin for a, b in zip(corner_x, corner_y)]
    along = [b * cos - a * sin for a, b in zip(corner_x, corner_y)]
    for projected, half in ((across, half_x), (along, half_y)):
        lowest = jnp.minimum(jnp.minimum(*projected[:2]), jnp.minimum(*projected[2:]))
        highest = jnp.maximum(jnp.maximum(*projected[:2]), jnp.maximum(*projected[2:]))
        apart |= (lowest > half + SKIN) | (-highest > half + SKIN)
    for k in range(4):
        edge_x, edge_y = x[:, (k + 1) % 4] - x[:, k], y[:, (k + 1) % 4] - y[:, k]
        length = jnp.sqrt(edge_x * edge_x + edge_y * edge_y)
        # Outward normal (-edge_y, edge_x); the wheel's nearest corner along it.
        distance = edge_y * corner_x[k] - edge_x * corner_y[k]
        extent = half_x * jnp.abs(edge_x * sin - edge_y * cos) + half_y * jnp.abs(edge_x * cos + edge_y * sin)
        apart |= distance - extent > SKIN * length
    return ~apart
