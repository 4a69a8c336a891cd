"""Segments of recorded episodes, told apart into desired and undesired ones, and a loss that contrasts them."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array


class Labels(NamedTuple):
    """`desired [N]` bool, and `weight [N]`, in [0.3, 1]."""

    desired: Array
    weight: Array


def label_segments(reward: Array, cost: Array, limit: Array, floor: float = 0.7) -> Labels:
    """Labels of N segments by what they earned and cost.

    A segment is safe if every cost is within its limit. Of the safe ones the upper half by reward is desired, with the
    weight `(1 - floor) q + floor`, `q = (R - R_min) / (R_max - R_min)` among the safe ones; the lower half is
    undesired, with `1 - q` in the place of q; unsafe ones are undesired with the weight 1.

    Args:
      reward: `[N]`, sums over segments.
      cost: `[N, M]`.
      limit: `[M]`, of a segment.
      floor: Least weight.

    Source: Gong, Kumar & Varakantham 2025 (TraC, arXiv 2412.15429) and the authors' code.
    """
    chex.assert_rank([reward, cost, limit], [1, 2, 1])
    safe = (cost <= limit).all(axis=-1)
    count = safe.sum()
    low = jnp.where(safe, reward, jnp.inf).min()
    high = jnp.where(safe, reward, -jnp.inf).max()
    share = jnp.where(safe, (reward - low) / jnp.maximum(high - low, 1e-8), 0.0)
    # How many safe segments earned less (or came first with as much): the upper half is desired.
    index = jnp.arange(reward.shape[0])
    before = (reward[None] < reward[:, None]) | ((reward[None] == reward[:, None]) & (index[None] < index[:, None]))
    rank = (before & safe[None]).sum(axis=1)
    desired = safe & (2 * rank >= count)
    weight = jnp.where(desired, share, 1.0 - share)
    return Labels(desired, jnp.where(safe, (1.0 - floor) * weight + floor, 1.0))


def contrastive_loss(z: Array, labels: Labels) -> Array:
    """`-w l [y log sig(z) + (1 - y) log(1 - sig(z))]`, `[N]`.

    `l` is 1 for desired segments, and for the others half the number of desired ones over the number of others. At
    `z = 0`, where the policy is the reference, a row is `log 2` times `w l`.

    Args:
      z: `[N]`, how much likelier a segment is under the policy than under the reference.
      labels: Of the segments.

    Source: Gong, Kumar & Varakantham 2025 (TraC, arXiv 2412.15429) and the authors' code.
    """
    chex.assert_equal_shape([z, labels.desired, labels.weight])
    desired = labels.desired.sum()
    balance = 0.5 * desired / jnp.maximum(z.shape[0] - desired, 1)
    signed = jnp.where(labels.desired, -jax.nn.log_sigmoid(z), -balance * jax.nn.log_sigmoid(-z))
    return labels.weight * signed
