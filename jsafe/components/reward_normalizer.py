"""Normalisation of replayed rewards and costs by exponential moving averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jsafe.ops.stats import pmean
from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec


class RewardNormalizerState(NamedTuple):
    """Moving averages per signal: `mean [K]`, `second` moment `[K]`, and the number of updates."""

    mean: Array
    second: Array
    count: Array  # type: ignore[assignment]


class RewardNormalizer(NamedTuple):
    """`init: () -> state`; `update: (state, signals [..., K]) -> state`; `apply: (state, signals) -> signals`.

    `restore: (state, values [..., k], gamma) -> values` turns discounted sums of normalised signals into sums of raw
    ones, as if nothing were clipped and nothing ended; k may be fewer than K.
    """

    init: Callable[[], Any]
    update: Callable[[Any, Array], Any]
    apply: Callable[[Any, Array], Array]
    restore: Callable[[Any, Array, Array], Array] = lambda state, values, gamma: values


@part("normalizer", "none")
@dataclasses.dataclass(frozen=True)
class NoNormalizer(Options):
    """Leaves rewards and costs as they are."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RewardNormalizer:
        """A `RewardNormalizer` without state."""
        del spec, axis_name
        return RewardNormalizer(lambda: (), lambda state, signals: state, lambda state, signals: signals)


@part("normalizer", "moving")
@dataclasses.dataclass(frozen=True)
class MovingNormalizer(Options):
    """Zero mean and unit variance by averages whose k-th rate is `speed / (speed + k)`, then a clip.

    The first rate is 1; a reward seen at update tau weighs about `(tau / k)^(speed - 1)` at update k. The constraint is
    measured in raw costs all the same.

    Source: Yu et al. (2022), SEditor, released configuration (ALF's adaptive normaliser), applied to replayed rewards
    only. At a violation rate of 5e-4 a raw cost of 1 would become 45 and is clipped to 10.
    """

    reward: bool = True
    """Normalises the reward."""
    cost: bool = True
    """Normalises the costs."""
    speed: float = number(8.0, above=0)
    """Rate constant."""
    clip: float = number(10.0, above=0)
    """Largest absolute normalised value."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> RewardNormalizer:
        """A `RewardNormalizer` of the reward and the M costs, in this order.

        Collectives: `pmean` of the two batch moments.
        """
        size = 1 + spec.num_costs
        scaled = np.array([self.reward] + [self.cost] * spec.num_costs)

        def init():
            return RewardNormalizerState(jnp.zeros(size), jnp.zeros(size), jnp.zeros((), jnp.int32))

        def update(state, signals):
            chex.assert_axis_dimension(signals, -1, size)
            rows = signals.reshape(-1, size)
            moments = pmean(jnp.stack([rows.mean(axis=0), jnp.square(rows).mean(axis=0)]), axis_name)
            rate = self.speed / (self.speed + state.count.astype(rows.dtype))
            mean, second = (old + rate * (new - old) for old, new in zip(state[:2], moments))
            return RewardNormalizerState(mean, second, state.count + 1)

        def apply(state, signals):
            variance = jnp.maximum(state.second - jnp.square(state.mean), 0.0)
            normal = jnp.clip((signals - state.mean) * jax.lax.rsqrt(variance + 1e-10), -self.clip, self.clip)
            return normal if scaled.all() else jnp.where(scaled, normal, signals)

        def restore(state, values, gamma):
            mean, second, which = state.mean, state.second, scaled
            if values.shape[-1] < size:
                mean, second, which = (x[: values.shape[-1]] for x in (mean, second, scaled))
            deviation = jnp.sqrt(jnp.maximum(second - jnp.square(mean), 0.0) + 1e-10)
            return jnp.where(which, values * deviation + mean / (1 - gamma), values)

        return RewardNormalizer(init, update, apply, restore)
