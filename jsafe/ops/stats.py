"""Moments, exact over devices."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jsafe.types import Array


def psum(x, axis_name: str | None):
    """Sum of a tree over a mapped axis; the tree itself without one."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def pmean(x, axis_name: str | None):
    """Mean of a tree over a mapped axis; the tree itself without one."""
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def gathered(x: Array, axis_name: str | None) -> Array:
    """All entries of an array, of all devices, as one flat array."""
    return x.ravel() if axis_name is None else jax.lax.all_gather(x, axis_name).ravel()


def standardize(x: Array, axis_name: str | None = None, *, scale: bool = True, eps: float = 1e-8) -> Array:
    """`(x - mean) / (std + eps)` over the leading axes, separately for each entry of the last one.

    Args:
      x: `[..., K]`.
      axis_name: Mapped axis over which the moments are taken as well.
      scale: Divide by the (population) standard deviation; else only centre.
      eps: Added to the standard deviation.

    Collectives: two `pmean`.
    """
    axes = tuple(range(x.ndim - 1))
    x = x - pmean(x.mean(axes), axis_name)
    if not scale:
        return x
    return x / (jnp.sqrt(pmean(jnp.mean(x * x, axes), axis_name)) + eps)


def explained_variance(prediction: Array, target: Array, axis_name: str | None = None) -> Array:
    """`1 - var(target - prediction) / var(target)` over all entries; 0 where the target is constant."""
    residual = standardize((target - prediction).reshape(-1, 1), axis_name, scale=False)
    centred = standardize(target.reshape(-1, 1), axis_name, scale=False)
    error, spread = pmean((jnp.mean(residual**2), jnp.mean(centred**2)), axis_name)
    return jnp.where(spread > 1e-12, 1 - error / jnp.maximum(spread, 1e-12), 0.0)


class RunningStats(NamedTuple):
    """Count (scalar), mean `[D]` and sum of squared deviations `[D]` of everything seen so far."""

    count: Array  # type: ignore[assignment]
    mean: Array
    m2: Array


def running_init(width: int) -> RunningStats:
    """Nothing seen yet."""
    return RunningStats(jnp.zeros((), jnp.float32), jnp.zeros((width,), jnp.float32), jnp.zeros((width,), jnp.float32))


def running_update(
    stats: RunningStats, x: Array, axis_name: str | None = None, weight: Array | None = None
) -> RunningStats:
    """Merges the rows of `x [..., D]`, of all devices, into the statistics.

    Args:
      stats: Of everything before.
      x: `[..., D]`.
      axis_name: Mapped axis.
      weight: `[...]`, 0 for rows that do not count, else 1; None: all count. With no row that counts, nothing changes.

    Collectives: two `psum` (sums and counts, then squared deviations from the global mean): equal to one device that
    saw all rows, and stable where the mean is large.

    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.
    """
    axes = tuple(range(x.ndim - 1))
    rows = 1.0 if weight is None else weight[..., None]
    here = jnp.float32(math.prod(x.shape[:-1])) if weight is None else weight.sum()
    count, total = psum((here, (rows * x).sum(axes)), axis_name)
    mean = total / jnp.maximum(count, 1.0)
    m2 = psum(jnp.sum(rows * jnp.square(x - mean), axis=axes), axis_name)
    everything = jnp.maximum(stats.count + count, 1.0)
    delta = mean - stats.mean
    return RunningStats(
        stats.count + count,
        stats.mean + delta * (count / everything),
        stats.m2 + m2 + jnp.square(delta) * (stats.count * count / everything),
    )


def running_std(stats: RunningStats, floor: float = 1e-2) -> Array:
    """Sample standard deviation `[D]`, at least `floor`; 1 before two rows were seen."""
    variance = stats.m2 / jnp.maximum(stats.count - 1, 1.0)
    return jnp.where(stats.count > 1, jnp.maximum(jnp.sqrt(variance), floor), 1.0)
