"""Many episodes at once, each followed by the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.envs.device.api import DeviceEnv, Step


def vectorise(env: DeviceEnv) -> DeviceEnv:
    """N copies of an environment with the same-step autoreset; N is the number of keys.

    Environment i depends on its own keys and actions alone, so N does not matter to it, nor how the batch is divided
    among devices. New episodes are drawn for all in one vmapped reset, and only in steps in which some episode ends:
    a reset costs as much as many steps.

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

        def restart(state, obs):
            fresh = jax.vmap(lambda key: reset(jax.random.fold_in(key, 1)))(keys)
            return select(ended, fresh, (state, obs))

        state, obs = jax.lax.cond(ended.any(), restart, lambda *same: same, state, result.obs)
        return state, result._replace(obs=obs)

    return batched


def select(mask: jax.Array, then: Any, other: Any) -> Any:
    """Rows of `then` where `mask [N]`, else of `other`; trees of arrays `[N, ...]`."""

    def choose(a, b):
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, then, other)
