"""Fresh on-policy steps in the program: for `Rollouts`."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.data.coroutine import IDENTITY, has_memory
from jsafe.data.device.api import Collecting, collects
from jsafe.data.device.world import Environments, World, fresh_again, measured, report
from jsafe.envs.device import DeviceEnv
from jsafe.feeds import Rollouts
from jsafe.types import Batch, Learner, Steps


@collects(Rollouts)
def rollouts(learner: Learner, env: DeviceEnv, axis_name: str | None = None) -> Collecting:
    """As `jsafe.data.RolloutCollector` on `jsafe.envs.device.hosted(env)`: the same streams, keys and rows."""
    del axis_name
    feed = cast(Rollouts, learner.feed)
    flat = isinstance(learner.spec.obs, spaces.Box) and learner.spec.obs.flat
    if feed.transform is not None and not flat:
        raise ValueError(f"a transform needs flat observations, got {learner.spec.obs}")
    transform, remembers = feed.transform or IDENTITY, has_memory(learner)
    environments = Environments(learner, env)

    def init(policy_state, seeds):
        z = jax.tree.map(jnp.asarray, transform.init(getattr(policy_state, "transform", ()), seeds.shape[0]))
        return environments.begin(seeds, z)

    def collect(world, policy_state, key):
        params = getattr(policy_state, "transform", ())
        if feed.reset_each_epoch:
            world = fresh_again(environments, world, params, transform)
        if remembers:
            world = world._replace(
                memory=learner.memory.reset(world.memory, world.started), started=jnp.zeros_like(world.started)
            )
        memory = world.memory

        def step(carry: tuple[World, Any], t):
            world, total = carry
            seen = transform.augment(world.obs, world.z)
            out = environments.act(world, policy_state, seen, key, t)
            before = world.z
            world, result = environments.step(world._replace(memory=out.memory), out.action)
            after = transform.step(params, before, result.reward, result.cost, result.terminated, result.truncated)
            over = result.terminated | result.truncated
            ended = after.terminated | over
            world = world._replace(z=after.z)
            if feed.transform is not None:
                world = environments.restart(world, after.terminated & ~over)
            world, sums = environments.track(world, result, ended)
            rows = Steps(
                obs=seen,
                action=out.action,
                reward=after.reward,
                cost=result.cost,
                terminated=after.terminated,
                truncated=result.truncated & ~after.terminated,
                next_obs=transform.augment(result.final_obs, after.z_final),
                weight=None,
                extras={"log_prob": out.log_prob},
            )
            return (world, total + sums), rows

        nothing = jnp.zeros(4 + env.spec.num_costs, jnp.float32)
        (world, ended), steps = jax.lax.scan(step, (world, nothing), jnp.arange(feed.length))
        if feed.reset_each_epoch:
            steps = steps._replace(truncated=steps.truncated.at[-1].set(steps.truncated[-1] | ~steps.terminated[-1]))
        told = report(world, ended, steps.reward, steps.cost, steps.next_obs, world.obs)
        count = steps.reward.size
        return world, Batch(steps, measured(steps.cost, count, ended), jnp.asarray(True), memory), told

    return Collecting(init, collect)
