"""Memories of policies: what is carried from one step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.types import Array, Memory, Obs


class Frames(NamedTuple):
    """The last observations `frames [N, S, ...]`, oldest first, and `fresh [N]` (bool) where an episode starts."""

    frames: Any
    fresh: Array


def frames(space: spaces.Space, stack: int) -> Memory:
    """The memory of a policy that sees its last `stack` observations of a space; `push` fills it."""

    def init(num_envs: int) -> Frames:
        empty = jax.tree.map(jnp.asarray, spaces.zeros(space, (num_envs, stack)))
        floats = jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, empty)
        return Frames(floats, jnp.ones(num_envs, bool))

    def reset(memory: Frames, started: Array) -> Frames:
        return memory._replace(fresh=memory.fresh | started)

    return Memory(init, reset)


class Window(NamedTuple):
    """The last L rows of an episode, leaves `[N, L, ...]`, newest last; `filled [N]` of them are there."""

    rows: Any
    filled: Array


def window(shapes: Mapping[str, tuple[int, ...]], length: int) -> Memory:
    """The memory of a policy that looks back on what it saw and did; `append` adds a row.

    Args:
      shapes: Of the columns of a row, by name; float32.
      length: L, rows that are kept.
    """

    def init(num_envs: int) -> Window:
        rows = {name: jnp.zeros((num_envs, length, *shape)) for name, shape in shapes.items()}
        return Window(rows, jnp.zeros(num_envs, jnp.int32))

    def reset(memory: Window, started: Array) -> Window:
        return memory._replace(filled=jnp.where(started, 0, memory.filled))

    return Memory(init, reset)


def append(memory: Window, row: Mapping[str, Array]) -> tuple[Window, Array]:
    """Adds a row, columns `[N, ...]`; the oldest one goes.

    Returns:
      The memory, and which of its rows are of this episode, `[N, L]`.
    """
    rows = {name: jnp.concatenate([old[:, 1:], row[name][:, None]], axis=1) for name, old in memory.rows.items()}
    length = next(iter(rows.values())).shape[1]
    filled = jnp.minimum(memory.filled + 1, length)
    return Window(rows, filled), jnp.arange(length) >= length - filled[:, None]


def push(memory: Frames, obs: Obs) -> tuple[Frames, Obs]:
    """Adds observations `[N, ..., C]`; the first one of an episode fills all frames.

    Returns:
      The memory, and the frames side by side, `[N, ..., S C]`, oldest first.
    """

    def pushed(old, new):
        moved = jnp.concatenate([old[:, 1:], new[:, None]], axis=1)
        filled = jnp.broadcast_to(new[:, None], moved.shape)
        fresh = memory.fresh.reshape(-1, *(1,) * (moved.ndim - 1))
        return jnp.where(fresh, filled, moved).astype(old.dtype)

    def joined(x):
        x = jnp.moveaxis(x, 1, -2)
        return x.reshape(*x.shape[:-2], -1)

    new = jax.tree.map(pushed, memory.frames, obs)
    return Frames(new, jnp.zeros_like(memory.fresh)), jax.tree.map(joined, new)
