"""The training loop as a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.scale import devices
from jsafe.scale.devices import DeviceUpdate
from jsafe.types import Key, Learner, Metrics

INIT_FOLD = 2**32 - 1
"""`fold_in` number of the key that initialises the learner; iterations count up from 0."""


class TrainStep(NamedTuple):
    """One iteration of `run`.

    Attributes:
      iteration: Iterations done so far, this one included (the number to continue from).
      env_steps: Environment steps done so far, over all environments; on a data set gradient updates
        (`Collector.progress`).
      state: The learner's state. The next iteration donates it: copy what you keep (`jax.device_get`). None where it
        never left the program (`jsafe.device.run`).
      metrics: Scalars on the device; reading one waits for it.
      episodes: Statistics of finished episodes (`episode/return` ...), as floats.
    """

    iteration: int
    env_steps: int
    state: Any
    metrics: Metrics
    episodes: dict[str, float]


def run(
    learner: Learner,
    collector: Any,
    *,
    key: Key,
    total_steps: int,
    state: Any = None,
    iteration: int = 0,
    update: DeviceUpdate | None = None,
) -> Iterator[TrainStep]:
    """Trains: collect, update, yield, until the collector has taken `total_steps` environment steps (with a data set:
    until it has fed as many updates).

    Iteration i draws all its randomness from `fold_in(key, i)`, so a run continues exactly from `state`, `iteration`
    and a restored collector. The update is compiled once and donates the state; nothing here waits for its metrics.

    Args:
      learner: What to train, from `jsafe.make`.
      collector: What feeds it, from `jsafe.data.make_collector`.
      key: Typed root key.
      total_steps: Environment steps (all environments), or updates on a data set, at which to stop.
      state: Learner's state to continue from (left intact); a fresh one by default.
      iteration: Iterations that `state` has seen.
      update: How the learner is updated on many devices, from `jsafe.scale.devices`; on the default device if None. The
        state and the metrics of a `TrainStep` are then the copies of this process's first device.

    Yields:
      A `TrainStep` after every iteration.

    Example:
      >>> for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=1_000):
      ...     if step.episodes["episode/success"] > 0.95:
      ...         break
    """
    if state is None:
        state = jax.jit(learner.init)(jax.random.fold_in(key, INIT_FOLD))

    def step(state, batch, key):
        state, metrics = learner.update(state, batch, key)
        return strong(state), metrics

    state = jax.jit(strong)(state)
    advance: Callable[..., tuple[Any, Any]]
    if update is None:
        advance, local = jax.jit(step, donate_argnums=0), lambda tree: tree
    else:
        advance, local = update, devices.local
        state = update.place_state(state)
    # The collector's own copy: the buffers of the state are given away in the next update.
    policy = jax.jit(lambda state: jax.tree.map(jnp.copy, learner.policy(state)))
    split = jax.jit(lambda key, i: tuple(jax.random.split(jax.random.fold_in(key, i))))
    while collector.progress < total_steps:
        collect_key, update_key = split(key, np.uint32(iteration))
        batch = collector.collect(policy(local(state)), collect_key)
        state, metrics = advance(state, batch, update_key)
        iteration += 1
        yield TrainStep(iteration, collector.progress, local(state), local(metrics), collector.episodes())


def strong(tree: Any) -> Any:
    """Copies the leaves without weak types, which a checkpoint does not know: a resumed run compiles the same."""

    def strong(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.copy(leaf)
        return jnp.copy(jax.lax.convert_element_type(leaf, leaf.dtype))

    return jax.tree.map(strong, tree)
