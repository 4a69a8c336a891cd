"""Memories of policies: what is carried from one step to the next."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jsafe.types import Array, Memory


class Frames(NamedTuple):
    """The last observations `frames [N, S, O]`, oldest first, and `fresh [N]` (bool) where an episode starts."""

    frames: Array
    fresh: Array


def frames(width: int, stack: int) -> Memory:
    """The memory of a policy that sees its last `stack` observations of `width` numbers; `push` fills it."""

    def init(num_envs: int) -> Frames:
        return Frames(jnp.zeros((num_envs, stack, width), jnp.float32), jnp.ones(num_envs, bool))

    def reset(memory: Frames, started: Array) -> Frames:
        return memory._replace(fresh=memory.fresh | started)

    return Memory(init, reset)


def push(memory: Frames, obs: Array) -> tuple[Frames, Array]:
    """Adds observations `[N, O]`; the first one of an episode fills all frames.

    Returns:
      The memory, and the frames side by side, `[N, S O]`, oldest first.
    """
    n, stack, width = memory.frames.shape
    moved = jnp.concatenate([memory.frames[:, 1:], obs[:, None]], axis=1)
    filled = jnp.broadcast_to(obs[:, None], moved.shape)
    new = jnp.where(memory.fresh[:, None, None], filled, moved).astype(memory.frames.dtype)
    return Frames(new, jnp.zeros_like(memory.fresh)), new.reshape(n, stack * width)
