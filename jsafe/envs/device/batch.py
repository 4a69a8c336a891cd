"""Many episodes at once, each followed by the next."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.envs.device.api import DeviceEnv, Step


def vectorise(env: DeviceEnv) -> DeviceEnv:
    """N copies of an environment with the same-step autoreset; N is the number of keys.

    Environment i depends on its own keys and actions alone, so N does not matter to it, nor how the batch is divided
    among devices. New episodes are drawn only where one has ended (`rarely`): a reset costs as much as many steps.

    Args:
      env: One episode.

    Returns:
      `reset(keys [N]) -> (state, obs)` and `step(state, actions [N, A], keys [N]) -> (state, Step)`, all leaves with a
      leading axis N. `obs` is the first observation of the next episode where one ended, `final_obs` the last one of
      the episode. The spec is that of one environment.
    """

    paint = None if env.paint is None else jax.vmap(env.paint, in_axes=(0, None, None))
    return DeviceEnv(env.spec, jax.vmap(env.reset), autoreset(env.reset, env.step), paint)


def autoreset(reset: Callable, step: Callable) -> Callable:
    """The batched step of `vectorise`, of one episode's `reset` and `step`."""

    def batched(state: Any, actions: jax.Array, keys: jax.Array) -> tuple[Any, Step]:
        state, result = jax.vmap(step)(state, actions, keys)
        ended = result.terminated | result.truncated
        state, obs = rarely(ended, lambda key: reset(jax.random.fold_in(key, 1)), (keys,), (state, result.obs))
        return state, result._replace(obs=obs)

    return batched


def rarely(mask: jax.Array, function: Callable, operands: tuple, other: Any) -> Any:
    """`function` of the rows in `mask [N]`, and `other` elsewhere, at the price of the rows that are chosen.

    Chosen rows are gathered and computed some at a time until none is left: a `cond` on `mask.any()` would compute all
    N for one of them, and under `vmap` (of many runs) it would compute all N in every step.

    Args:
      mask: Which rows.
      function: Of one row of the operands; returns what a row of `other` is.
      operands: Trees of arrays `[N, ...]`.
      other: Tree of arrays `[N, ...]`.
    """
    n = mask.shape[0]
    size = math.isqrt(n - 1) + 1

    def some(carry):
        left, out = carry
        (rows,) = jnp.nonzero(left, size=size, fill_value=n)
        taken = jax.tree.map(lambda x: x.at[rows].get(mode="clip"), operands)
        fresh = jax.vmap(function)(*taken)
        out = jax.tree.map(lambda x, y: x.at[rows].set(y.astype(x.dtype), mode="drop"), out, fresh)
        return left.at[rows].set(False, mode="drop"), out

    return jax.lax.while_loop(lambda carry: carry[0].any(), some, (mask, other))[1]


def select(mask: jax.Array, then: Any, other: Any) -> Any:
    """Rows of `then` where `mask [N]`, else of `other`; trees of arrays `[N, ...]`."""

    def choose(a, b):
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, then, other)


def stream_keys(seeds: jax.Array, counts: jax.Array) -> jax.Array:
    """Keys `[N]` of N streams, each a seed and the number of keys that were taken of it before (uint32 `[N]`)."""
    return jax.vmap(lambda seed, count: jax.random.fold_in(jax.random.key(seed), count))(seeds, counts)


def sometimes(flag: jax.Array, function: Callable, operands: tuple, other: Any) -> Any:
    """`function` of the operands where the scalar `flag` is true, else `other`; under `vmap`, `rarely`.

    Args:
      flag: Bool scalar.
      function: Of the operands, which are all that it may use of what is traced; returns what `other` is.
      operands: Trees of arrays.
      other: Tree of arrays.
    """

    @jax.custom_batching.custom_vmap
    def call(flag, operands, other):
        return jax.lax.cond(flag, lambda operands, other: _like(function(*operands), other), _second, operands, other)

    @call.def_vmap
    def batched(size, batched, *values):
        def spread(is_batched, x):
            return x if is_batched else jnp.broadcast_to(x, (size, *jnp.shape(x)))

        flag, operands, other = jax.tree.map(spread, tuple(batched), values)
        out = rarely(flag, function, operands, other)
        return out, jax.tree.map(lambda x: True, out)

    return call(flag, operands, other)


def _like(made: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), made, other)


def _second(operands: Any, other: Any) -> Any:
    return other
