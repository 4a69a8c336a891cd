"""N environments inside the program, with all that goes with them from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.data.coroutine import check_spec
from jsafe.data.device.api import Report
from jsafe.data.door import LARGEST
from jsafe.envs.device import DeviceEnv, vectorise
from jsafe.envs.device.batch import rarely, select, stream_keys
from jsafe.types import Array, CostStats, EpisodeStats, Key, Learner, Measured, Obs


class World(NamedTuple):
    """N environments between two steps; every leaf has a leading axis that counts them.

    Attributes:
      env: The environments' states.
      obs: What is acted on next.
      started: bool `[N]`: where an episode starts with it.
      memory: The policy's.
      z: The transform's state; `()` without one.
      seeds, counts: uint32 `[N]`, each environment's stream: its seed, and the keys taken of it so far.
      running: float32 `[N, 3 + M]`, sums over the running episode: return, length, success, costs.
      finished: bool `[N]`: which environments have finished an episode.
      kept: What the feed keeps from batch to batch (a replay); `()` where it keeps nothing.
    """

    env: Any
    obs: Obs
    started: Array
    memory: Any
    z: Any
    seeds: Array
    counts: Array
    running: Array
    finished: Array
    kept: Any = ()


class Environments:
    """The environments of a learner as functions of a `World`; holds nothing that changes.

    Args:
      learner: What acts.
      env: One episode.

    Raises:
      ValueError: If they do not fit, or actions are no bounded box.
    """

    def __init__(self, learner: Learner, env: DeviceEnv):
        check_spec(env, learner.spec)
        space = env.spec.action
        if isinstance(space, spaces.Box):
            low, high = spaces.bounds(space)
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise ValueError(f"the bounds of actions must be finite, got {low.tolist()} and {high.tolist()}")
            self._middle, self._half = (np.asarray(x, np.float32) for x in ((low + high) / 2, (high - low) / 2))
        self.space, self.spec, self._learner = space, env.spec, learner
        self._one, self._many = env, vectorise(env)

    def begin(self, seeds: Array, z: Any, kept: Any = ()) -> World:
        """All environments at the start of their first episodes."""
        n = seeds.shape[0]
        counts = jnp.zeros(n, jnp.uint32)
        env, obs = self._many.reset(stream_keys(seeds, counts))
        return World(
            env=env,
            obs=received(obs),
            started=jnp.ones(n, bool),
            memory=jax.tree.map(jnp.asarray, self._learner.memory.init(n)),
            z=z,
            seeds=seeds,
            counts=counts + 1,
            running=jnp.zeros((n, 3 + self.spec.num_costs), jnp.float32),
            finished=jnp.zeros(n, bool),
            kept=kept,
        )

    def act(self, world: World, policy_state: Any, obs: Obs, key: Key, t: Array) -> Any:
        """The policy's actions in step t of an iteration, with the memory reset where an episode starts."""
        memory = self._learner.memory.reset(world.memory, world.started)
        return self._learner.act(policy_state, memory, obs, jax.random.fold_in(key, t), False)

    def step(self, world: World, action: Array) -> tuple[World, Any]:
        """One step with the policy's actions; episodes that ended start anew. Statistics are left to `track`."""
        if isinstance(self.space, spaces.Box):
            scaled: Array = jnp.asarray(self._middle) + self._half * action
            action = scaled.reshape(len(action), *self.space.shape)
        keys = stream_keys(world.seeds, world.counts)
        env, step = self._many.step(world.env, action, keys)
        step = step._replace(obs=received(step.obs), final_obs=received(step.final_obs))
        started = step.terminated | step.truncated
        return world._replace(env=env, obs=step.obs, started=started, counts=world.counts + 1), step

    def restart(self, world: World, rows: Array) -> World:
        """New episodes in `rows [N]`."""
        keys = stream_keys(world.seeds, world.counts)
        env, obs = rarely(rows, self._one.reset, (keys,), (world.env, world.obs))
        counts = world.counts + rows.astype(jnp.uint32)
        return world._replace(env=env, obs=received(obs), started=world.started | rows, counts=counts)

    def track(self, world: World, step: Any, ended: Array) -> tuple[World, Array]:
        """Counts one step, and sums the episodes that have ended in it: `[4 + M]` as in `Report.ended`."""
        success = step.info.get("success", jnp.zeros_like(ended))
        ones = jnp.ones_like(step.reward)
        running = world.running + jnp.concatenate([jnp.stack([step.reward, ones, 0 * ones], 1), step.cost], axis=1)
        running = running.at[:, 2].max(success.astype(jnp.float32))
        over = jnp.where(ended[:, None], running, 0.0).sum(0)
        total = jnp.concatenate([ended.sum(keepdims=True).astype(jnp.float32), over])
        finished = world.finished | ended
        return world._replace(running=jnp.where(ended[:, None], 0.0, running), finished=finished), total


def received(obs: Obs) -> Obs:
    """Observations as a learner gets them: floats in float32, whole numbers as they are."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, obs)


def measured(cost: Array, count: Array | int, ended: Array) -> Measured:
    """The sums of a batch: of its costs `[..., M]`, of so many steps, and of the episodes that ended in it."""
    fresh = CostStats(cost.reshape(-1, cost.shape[-1]).sum(0), jnp.asarray(count, jnp.float32))
    return Measured(fresh, EpisodeStats(ended[1], ended[4:], ended[2], ended[0]))


def report(world: World, ended: Array, reward: Array, cost: Array, *obs: Obs) -> Report:
    """What the host is told of an iteration with these rewards `[...]`, costs `[..., M]` and observations."""

    def count(x, axes):
        return (~(jnp.abs(x) <= LARGEST)).sum(axes, dtype=jnp.int32)

    seen = [count(x, None) for x in jax.tree.leaves(obs) if jnp.issubdtype(x.dtype, jnp.floating)]
    bad = [count(reward, None)[None], count(cost, tuple(range(cost.ndim - 1))), jnp.asarray(sum(seen), jnp.int32)[None]]
    return Report(ended, world.finished.sum(dtype=jnp.int32), jnp.concatenate(bad))


def fresh_again(environments: Environments, world: World, params: Any, transform: Any) -> World:
    """All environments started anew but for those that have just been (`reset_each_epoch`)."""
    used = world.counts > 1
    again = environments.restart(world, used)
    z = select(used, transform.init(params, used.shape[0]), world.z)
    return again._replace(running=jnp.where(used[:, None], 0.0, world.running), z=z)
