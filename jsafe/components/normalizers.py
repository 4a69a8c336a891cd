"""Running observation, reward and cost scales, and the window of finished episodes that constraints are measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.ops.stats import RunningStats, psum, running_init, running_std, running_update
from jsafe.types import Array, EpisodeStats, Measured, Obs

ObsStats = RunningStats | dict[str, Any] | tuple[()]
"""Of each flat leaf of floats in an observation; `()` of the others: pictures and choices have a scale."""


def obs_stats_init(space: spaces.Space) -> ObsStats:
    """Nothing seen yet of a space."""
    return spaces.tree_map(
        lambda leaf: running_init(leaf.width) if isinstance(leaf, spaces.Box) and leaf.flat else (), space
    )


def obs_stats_update(stats: ObsStats, obs: Obs, axis_name: str | None = None) -> ObsStats:
    """With the observations `[..., O + extra]` of a batch; the columns beyond the statistics are left out.

    Collectives: those of `running_update`.
    """

    def leaf(old, x):
        return running_update(old, x[..., : old.mean.shape[0]], axis_name) if isinstance(old, RunningStats) else old

    return _over(leaf, stats, obs)


def _over(function: Callable[[Any, Any], Any], tree: Any, other: Any) -> Any:
    """A function of the leaves of two trees that are dicts of dicts."""
    if isinstance(tree, dict):
        return {name: _over(function, inner, other[name]) for name, inner in tree.items()}
    return function(tree, other)


def normalize_obs(stats: ObsStats, obs: Obs, *, clip: float = 5.0) -> Obs:
    """`clip((obs - mean) / std, -clip, clip)` of the leading columns; columns beyond the statistics pass unchanged.

    Args:
      stats: Of the O environment columns of each flat leaf of floats; leaves without statistics pass unchanged.
      obs: `[..., O + extra]`; the extra columns are a transform's budget, which has a scale of its own.
      clip: Largest magnitude.
    """
    return _over(lambda known, x: _scaled(known, x, clip) if isinstance(known, RunningStats) else x, stats, obs)


def _scaled(stats: RunningStats, obs: Array, clip: float) -> Array:
    width = stats.mean.shape[0]
    scaled = jnp.clip((obs[..., :width] - stats.mean) / running_std(stats), -clip, clip)
    return jnp.concatenate([scaled, obs[..., width:]], axis=-1)


def normalize_signals(stats: RunningStats, signals: Array, *, reward: bool, cost: bool, subtract_mean: bool) -> Array:
    """`normalize_signal` of the first column (the reward), of the others (costs), of both or of neither."""
    scaled = normalize_signal(stats, signals, subtract_mean=subtract_mean) if reward or cost else signals
    parts = (scaled if reward else signals)[..., :1], (scaled if cost else signals)[..., 1:]
    return jnp.concatenate(parts, axis=-1)


def normalize_signal(stats: RunningStats, x: Array, *, subtract_mean: bool, clip: float = 5.0) -> Array:
    """Rewards or costs `[..., K]` divided by their running standard deviation, clipped.

    Args:
      stats: Of the K signals.
      x: `[..., K]`.
      subtract_mean: Also subtract the running mean (OmniSafe; it changes the problem where episodes can terminate).
      clip: Largest magnitude.
    """
    centre = stats.mean if subtract_mean else 0.0
    return jnp.clip((x - centre) / running_std(stats), -clip, clip)


class EpisodeWindow(NamedTuple):
    """Sums of the last W batches, newest first: `cost [W, M]`, `length [W]`, `count [W]`."""

    cost: Array
    length: Array
    count: Array  # type: ignore[assignment]


def window_init(batches: int, num_costs: int) -> EpisodeWindow:
    """An empty window of W = `batches` batches."""
    zeros = [jnp.zeros((batches,), jnp.float32) for _ in range(2)]
    return EpisodeWindow(jnp.zeros((batches, num_costs), jnp.float32), *zeros)


def window_push(window: EpisodeWindow, episodes: EpisodeStats) -> EpisodeWindow:
    """Adds a batch's sums (already global over devices) and drops the oldest."""
    chex.assert_shape(episodes.cost, window.cost.shape[1:])
    new = EpisodeWindow(episodes.cost, episodes.length, episodes.count)
    return EpisodeWindow(*(jnp.concatenate([x[None].astype(w.dtype), w[:-1]]) for x, w in zip(new, window)))


def window_means(window: EpisodeWindow, episodes: int, fallback_cost: Array, horizon: int) -> tuple[Array, Array]:
    """Mean cost `[M]` and mean length of (at least) the last `episodes` finished episodes.

    Whole batches count, from the newest until `episodes` are reached: with equally many episodes per batch that is
    exactly the usual moving average. Before any episode has finished the estimates are `fallback_cost * horizon` and
    `horizon`.

    Args:
      window: Recent batches.
      episodes: Number wanted.
      fallback_cost: `[M]`, cost per step of the current batch.
      horizon: Longest episode.
    """
    newer = jnp.concatenate([jnp.zeros(1), jnp.cumsum(window.count)[:-1]])
    use = (newer < episodes).astype(jnp.float32)
    count = use @ window.count
    some = count > 0
    divisor = jnp.maximum(count, 1.0)
    cost = jnp.where(some, use @ window.cost / divisor, fallback_cost * horizon)
    return cost, jnp.where(some, use @ window.length / divisor, float(horizon))


class Costs(NamedTuple):
    """What an iteration measured, global over devices: `J_episodic [M]`, `per_step [M]`, an episode's mean `length`."""

    J_episodic: Array
    per_step: Array
    length: Array


def measure_ended(
    window: EpisodeWindow, measured: Measured, episodes: int, horizon: int, axis_name: str | None
) -> tuple[EpisodeWindow, Costs]:
    """Like `measure`, for batches of few steps: those without a finished episode take no place in the window."""
    fresh, new = psum((measured.rows, measured.episodes), axis_name)
    per_step = fresh.total / jnp.maximum(fresh.count, 1)
    pushed = window_push(window, new)
    window = jax.tree.map(lambda a, b: jnp.where(new.count > 0, a, b), pushed, window)
    J_episodic, length = window_means(window, episodes, per_step, horizon)
    return window, Costs(J_episodic, per_step, length)


def measure(
    window: EpisodeWindow, measured: Measured, episodes: int, horizon: int, axis_name: str | None
) -> tuple[EpisodeWindow, Costs]:
    """Pushes a batch's sums into the window, and reads it.

    Args:
      window: Recent batches.
      measured: Of this device.
      episodes: Number of finished episodes that are averaged, see `window_means`.
      horizon: Longest episode.
      axis_name: Mapped axis.

    Collectives: `psum` of all sums and counts.
    """
    rows, finished = psum(measured, axis_name)
    window = window_push(window, finished)
    per_step = rows.total / rows.count
    J_episodic, length = window_means(window, episodes, per_step, horizon)
    return window, Costs(J_episodic, per_step, length)
