"""What a model sees of an observation, and what it predicts of the next one: all of it, or how the robot moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jsafe.types import Array, EnvSpec

LARGEST = 100.0
"""Magnitude at which predicted observations are cut."""

ROTATION, PLACE = "robot_m", "robot"
"""Parts of an observation with coordinates: the first row of the robot's rotation matrix, and its xy in the world."""
COMPASS = "magnetometer"
"""A direction of the world in the robot's frame: it turns with the robot."""
STILL = ("goal", "circle", "hazards", "buttons", "vases", "pillars", "sigwalls")
"""Groups whose objects stand still, as long as nobody pushes a vase."""
MOVING = ("gremlins", "push_box")
"""Groups whose objects move by themselves or are pushed."""


class Motion(NamedTuple):
    """How an observation is taken apart for a model, and put together again.

    Attributes:
      inputs: `(start, stop)` of the columns that the model sees, I in all; None: all.
      width: Numbers D that it predicts; None: as many as an observation has.
      change: `(obs [..., O], next_obs [..., O]) -> [..., D]`, what is to be predicted.
      follow: `(obs [..., O], change [..., D]) -> next_obs [..., O]`, the inverse.
    """

    inputs: tuple[tuple[int, int], ...] | None
    width: int | None
    change: Callable[[Array, Array], Array]
    follow: Callable[[Array, Array], Array]

    def seen(self, obs: Array) -> Array:
        """What the model sees, `[..., I]`."""
        if self.inputs is None:
            return obs
        return jnp.concatenate([obs[..., slice(*columns)] for columns in self.inputs], axis=-1)

    def widths(self, obs_dim: int) -> tuple[int, int]:
        """I and D, for observations of so many numbers."""
        seen = obs_dim if self.inputs is None else sum(stop - start for start, stop in self.inputs)
        return seen, obs_dim if self.width is None else self.width


def follow(obs: Array, change: Array) -> Array:
    """`obs + change` within +-`LARGEST`; 0 where that is no number."""
    return jnp.clip(jnp.nan_to_num(obs + change, nan=0.0, posinf=LARGEST, neginf=-LARGEST), -LARGEST, LARGEST)


PLAIN = Motion(None, None, lambda obs, next_obs: next_obs - obs, follow)
"""All columns are seen, and the change of each is predicted."""


def among_still_things(layout: Mapping[str, tuple[int, int]]) -> Motion:
    """Coordinates among things that stand still: they follow from how the robot moves.

    With the robot's rotation `R` and place `p`, a thing at q is seen at `c = R^T (q - p)`. Predicted are the change of
    the sensors, the robot's displacement `d = R^T (p' - p)` and turn (`cos, sin` of it, less those of none) in its own
    frame, and for what moves by itself its displacement `e` in that frame. Then, with `T = R^T R'`,

        p' = p + R d,   R' = R T,   c' = T^T (c + e - d),   e = 0 for what stands still

    and the compass turns by `T^T`. The model sees the sensors and what moves: it cannot tell places or directions of
    the world apart, nor does it have to learn anew what each hazard looks like after a turn.

    Args:
      layout: Where each part of an observation lies; it has `robot` and `robot_m`.
    """
    parts = {name: columns for name, columns in layout.items() if columns[1] > columns[0]}
    if COMPASS in parts:  # its third number is along the axis of the turn
        start, stop = parts.pop(COMPASS)
        parts |= {COMPASS: (start, start + 2), "upright": (start + 2, stop)}
    order = sorted(parts, key=parts.__getitem__)
    seen_in_frame = (COMPASS, *STILL, *MOVING)
    sensors = [name for name in order if name not in (*seen_in_frame, ROTATION, PLACE)]
    moving = [name for name in order if name in MOVING]

    def widths(names):
        return [parts[name][1] - parts[name][0] for name in names]

    count, free = sum(widths(sensors)), sum(widths(moving))

    def part(obs: Array, name: str) -> Array:
        return obs[..., slice(*parts[name])]

    def pairs(obs: Array, name: str) -> Array:
        return part(obs, name).reshape(*obs.shape[:-1], -1, 2)

    def flat(at: Array) -> Array:
        return at.reshape(*at.shape[:-2], -1)

    def heading(obs: Array) -> Array:
        """`cos, sin` of the robot's angle, `[..., 2]`."""
        return _unit(part(obs, ROTATION) * jnp.array([1.0, -1.0]))

    def change(obs: Array, next_obs: Array) -> Array:
        before = heading(obs)
        turn = _turned(heading(next_obs), before, -1)
        step = _turned(part(next_obs, PLACE) - part(obs, PLACE), before, -1)
        told = [part(next_obs, name) - part(obs, name) for name in sensors] + [step, turn - NO_TURN]
        for name in moving:
            seen = _turned(pairs(next_obs, name), turn[..., None, :])
            told.append(flat(seen + step[..., None, :] - pairs(obs, name)))
        return jnp.concatenate(told, axis=-1)

    def following(obs: Array, change: Array) -> Array:
        change = jnp.nan_to_num(change, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        *own, step, turn, moved = jnp.split(change, np.cumsum([*widths(sensors), 2, 2]), axis=-1)
        own_change = dict(zip(sensors, own))
        moved_by = dict(zip(moving, jnp.split(moved, np.cumsum(widths(moving))[:-1], axis=-1) if moving else ()))
        turn, before = _unit(turn + NO_TURN), heading(obs)

        def after(name: str) -> Array:
            if name in own_change:
                return part(obs, name) + own_change[name]
            if name == PLACE:
                return part(obs, name) + _turned(step, before)
            if name == ROTATION:
                return _turned(turn, before) * jnp.array([1.0, -1.0])
            at = pairs(obs, name)
            if name in moved_by:
                at = at + moved_by[name].reshape(*change.shape[:-1], -1, 2)
            if name != COMPASS:
                at = at - step[..., None, :]
            return flat(_turned(at, turn[..., None, :], -1))

        shape = jnp.broadcast_shapes(obs.shape[:-1], change.shape[:-1])
        found = [after(name) for name in order]
        new = jnp.concatenate([jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in found], axis=-1)
        return jnp.clip(new, -LARGEST, LARGEST)

    inputs = tuple(parts[name] for name in order if name in sensors or name in moving)
    return Motion(inputs, count + 4 + free, change, following)


NO_TURN = np.array([1.0, 0.0], np.float32)
"""Cosine and sine."""


def _unit(angle: Array) -> Array:
    return angle / jnp.maximum(jnp.linalg.norm(angle, axis=-1, keepdims=True), 1e-6)


def _turned(vector: Array, angle: Array, sign: int = 1) -> Array:
    """Vectors `[..., 2]` turned by an angle given as `cos, sin`, or back by it."""
    (x, y), (cos, sin) = (tuple(jnp.moveaxis(z, -1, 0)) for z in (vector, angle))
    return jnp.stack([cos * x - sign * sin * y, sign * sin * x + cos * y], axis=-1)


def columns_of(spec: EnvSpec) -> dict[str, tuple[int, int]]:
    """Where each named part of an observation lies: its first column, and the one behind its last."""
    return {name: (start, stop) for name, start, stop in spec.layout}


def known_motion(spec: EnvSpec, sees_all: bool) -> Motion:
    """`among_still_things`, where an observation tells where the robot is; else `PLAIN`.

    Args:
      spec: What the environment is like.
      sees_all: Whether the model has to see everything, for a reward or costs that it has to learn.
    """
    layout = columns_of(spec)
    if not layout.keys() >= {ROTATION, PLACE}:
        return PLAIN
    motion = among_still_things(layout)
    return motion._replace(inputs=None) if sees_all else motion
