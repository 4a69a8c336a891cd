"""From rollouts `[T, N, ...]` to the rows that a policy step trains on, and back.

Without a memory the rows are in the order of time; with one they are environment by environment, so that segments of
steps lie side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.components.policies import PolicyNetwork
from jsafe.types import Array, Batch, Obs, Params


class Recalled(NamedTuple):
    """The policy that acted, on the rows of a batch.

    `old` is its distribution; the rest is `()` without a memory: `started`, `memory` and `remembered` as in
    `PolicyBatch`, `then [B, H]` what it remembers after `next_obs`.
    """

    old: Any
    started: Any = ()
    memory: Any = ()
    remembered: Any = ()
    then: Any = ()


def flatten(policy: PolicyNetwork, tree: Any) -> Any:
    """`[T, N, ...]` to rows `[B, ...]`."""
    if policy.unroll is not None:
        tree = jax.tree.map(lambda x: x.swapaxes(0, 1), tree)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def unflatten(policy: PolicyNetwork, rows: Array, length: int) -> Array:
    """The inverse of `flatten` for rollouts of T = `length` steps."""
    if policy.unroll is None:
        return rows.reshape(length, -1, *rows.shape[1:])
    return rows.reshape(-1, length, *rows.shape[1:]).swapaxes(0, 1)


def recall(policy: PolicyNetwork, params: Params, batch: Batch, obs: Obs, next_obs: Obs) -> Recalled:
    """What the policy thought and remembered while it acted.

    Args:
      policy: The policy.
      params: Its parameters while it acted.
      batch: Fresh rollouts; its memory is the one before row 0.
      obs: Of the batch, `[T, N, ...]`, as the policy sees them.
      next_obs: Likewise.
    """
    rows = flatten(policy, obs)
    if policy.unroll is None:
        return Recalled(policy.apply(params, (), rows)[0])
    ended = batch.steps.terminated | batch.steps.truncated
    started = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
    sequences = jax.tree.map(lambda x: x.swapaxes(0, 1), (obs, started))
    old, memories = policy.unroll(params, batch.memory, *sequences)
    _, after_next = policy.apply(params, memories, flatten(policy, next_obs))

    def before_segments(first, after):
        """`[B / L, ...]`: the memory that was there, then that after each segment but an environment's last."""
        ends = after.reshape(first.shape[0], -1, policy.segment, *first.shape[1:])[:, :-1, -1]
        return jnp.concatenate([first[:, None], ends], axis=1).reshape(-1, *first.shape[1:])

    memory = jax.tree.map(before_segments, batch.memory, memories)
    return Recalled(old, flatten(policy, started), memory, numbers(memories), numbers(after_next))


def numbers(memory: Any) -> Array:
    """A memory `[B, ...]` side by side, `[B, H]`."""
    leaves = jax.tree.leaves(memory)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1).astype(jnp.float32) for leaf in leaves], axis=1)


def check_obs(obs: Obs, space: spaces.Space) -> None:
    """Raises ValueError if observations `[T, N, ...]` are not of a space."""
    if isinstance(space, spaces.Tree):
        for name, inner in space.items:
            check_obs(obs[name], inner)
    elif obs.shape[2:] != space.shape:
        raise ValueError(f"observations must be [T, N, {', '.join(map(str, space.shape))}], got {obs.shape}")


def check_segments(policy: PolicyNetwork, length: int) -> None:
    """Raises ValueError if rollouts cannot be cut into segments."""
    if length % policy.segment:
        raise ValueError(
            f"policy.segment must divide the length of the rollouts, steps_per_epoch / num_envs = {length}, "
            f"got {policy.segment}"
        )
