"""What the rules share: the weights of a Lagrangian, and whether a rule has begun."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array, ConstraintRule, Weights

Normalize = Literal["sum", "none"]


def mix(multiplier: Array, normalize: Normalize = "sum") -> Weights:
    """Weights of a Lagrangian `R - sum_i lam_i C_i`.

    `sum`: reward `1 / (1 + sum(lam))`, costs `lam / (1 + sum(lam))`, so the weights add up to one and a large
    multiplier does not act as a large step size. `none`: reward 1, costs `lam`.

    Args:
      multiplier: `[M]`, non-negative.
      normalize: `sum` or `none`.
    """
    scale = 1.0 / (1.0 + multiplier.sum()) if normalize == "sum" else jnp.ones(())
    return Weights(scale, scale * multiplier)


def multiplier(weights: Weights) -> Array:
    """`[M]`: cost weights relative to the reward's; the cost weights themselves where the reward has none."""
    return weights.cost / jnp.where(weights.reward > 0, weights.reward, 1.0)


def check_costs(num_costs: int, J_cost: Array, limit: Array) -> None:
    """Measured costs and limits are `[M]`."""
    chex.assert_shape([J_cost, limit], (num_costs,))


def paced(
    rule: ConstraintRule,
    state: Any,
    J_cost: Array,
    limit: Array,
    *,
    iteration: Array,
    steps: int,
    interval: int | None,
    warmup: int,
) -> Any:
    """The state of a rule after the updates that are due by the end of an iteration.

    Args:
      rule: The rule.
      state: Before.
      J_cost, limit: `[M]`.
      iteration: Iterations before this one.
      steps: Environment steps of an iteration.
      interval: Environment steps between updates, at most 2^31; None: one per iteration.
      warmup: Environment steps before the first update.
    """
    interval = interval or steps
    count, begun = crossings(iteration, steps, interval), exceeds(iteration + 1, steps, warmup)
    for i in range(-(-steps // interval)):
        due = (i < count) & begun
        state = jax.tree.map(lambda a, b, due=due: jnp.where(due, a, b), rule.update(state, J_cost, limit), state)
    return state


def exceeds(iterations: Array, steps: int, bound: int) -> Array:
    """`iterations * steps > bound`, without the product: it would not fit into 32 bits."""
    return iterations > min(bound // steps, 2**31 - 1)


def crossings(iteration: Array, steps: int, interval: int) -> Array:
    """Multiples of `interval` (at most 2^31) in `(iteration * steps, (iteration + 1) * steps]`, without those products.

    Of `q, r = divmod(steps, interval)` these are q, and one more where `iteration * r % interval + r` reaches the
    interval. The remainder is summed up over the bits of `iteration`, each of which adds one that is known.
    """
    whole, rest = divmod(steps, interval)
    if not rest:
        return jnp.full_like(iteration, whole)
    parts = jnp.array([(rest << bit) % interval for bit in range(31)], jnp.uint32)

    def add(bit: Array, found: Array) -> Array:
        return (found + jnp.where((iteration >> bit) & 1, parts[bit], 0)) % jnp.uint32(interval)

    passed = jax.lax.fori_loop(0, 31, add, jnp.zeros_like(iteration, jnp.uint32))
    return whole + (passed + jnp.uint32(rest) >= jnp.uint32(interval))


class Switch(NamedTuple):
    """State of a rule without memory: `begun` (bool) once it was updated, and its `numbers`."""

    begun: Array
    numbers: Any

    @classmethod
    def off(cls, numbers: Any) -> Switch:
        """Before the first update."""
        return cls(jnp.zeros((), bool), numbers)
