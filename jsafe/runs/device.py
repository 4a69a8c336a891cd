"""Training in one program: environments, transform, policy and update compiled together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.data import BadValueError
from jsafe.data.device import Collecting, DeviceCollector, Report
from jsafe.envs.device import DeviceEnv
from jsafe.runs.loop import INIT_FOLD, TrainStep, strong
from jsafe.runs.loop_many import ManyStep, check_programs, check_shapes
from jsafe.scale.devices import replicate
from jsafe.types import Key, Learner


def run(
    learner: Learner,
    env: DeviceEnv | DeviceCollector,
    *,
    key: Key,
    total_steps: int,
    every: int = 1,
    seed: int = 0,
    state: Any = None,
    iteration: int = 0,
) -> Iterator[TrainStep]:
    """`jsafe.train.run` with the environments inside the program: act, step, start anew, transform, update.

    The same learners and options as on the host. Iteration i draws its randomness from `fold_in(key, i)`, environment i
    its own from `seed + i`, so that the result does not depend on `every`, and on-policy equals `jsafe.train.run` with
    `jsafe.envs.device.hosted(env)` to float tolerance.

    Args:
      learner: What to train, from `jsafe.make`.
      env: One episode (`jsafe.device.make`), or a `DeviceCollector`: one that was restored, or has a mesh of devices.
      key: Typed root key.
      total_steps: Environment steps (all environments) at which to stop.
      every: Iterations that one call of the program makes; nothing leaves the device in between.
      seed: Stream of environment 0, if `env` is one episode.
      state: Learner's state to continue from (left intact); a fresh one by default.
      iteration: Iterations that `state` has seen.

    Yields:
      A `TrainStep` for each iteration; all but the last of each call have no state (None).

    Raises:
      ValueError: If `every` is less than one, or the environment does not fit the learner.
      BadValueError: If the environment gives what no learner can use.

    Example:
      >>> env = jsafe.device.make("Toy-SpeedLimit-v0")
      >>> learner = jsafe.make("ppo_lag", jsafe.env_spec(env), num_envs=8, steps_per_epoch=800)
      >>> for step in jsafe.device.run(learner, env, key=jax.random.key(0), total_steps=1_600, every=2):
      ...     cost = step.episodes["episode/cost"]
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    collector = env if isinstance(env, DeviceCollector) else DeviceCollector(env, learner, seed)
    if state is None:
        state = jax.jit(learner.init)(jax.random.fold_in(key, INIT_FOLD))
    state = jax.jit(strong)(state)
    if collector.mesh is not None:
        state = replicate(state, collector.mesh)
    policy = jax.jit(lambda state: jax.tree.map(jnp.copy, learner.policy(state)))
    world = collector.world(policy(state))
    one = iterate(learner, collector.collecting, None if collector.mesh is None else collector.mesh.axis_names[0])
    place = {"state": None, "world": 0, "told": None}
    program = collector.mapped(
        repeat(one, every),
        (place["state"], place["world"], None, None, None),
        (place["state"], place["world"], None),
    )
    advance = jax.jit(program, donate_argnums=(0, 1))
    per_batch = learner.feed.steps_per_batch
    while collector.env_steps < total_steps:
        count = chunk(iteration, collector.env_steps, per_batch, total_steps, every)
        state, world, told = advance(state, world, key, np.uint32(iteration), np.int32(count))
        metrics, reports = jax.device_get(told)
        for i in range(count):
            iteration += 1
            collector.took(world, jax.tree.map(lambda x, i=i: x[i], reports))
            here = {name: values[i] for name, values in metrics.items()}
            newest = state if i == count - 1 else None
            yield TrainStep(iteration, collector.env_steps, newest, here, collector.episodes())


def run_many(
    learners: Sequence[Learner],
    env: DeviceEnv | Sequence[DeviceCollector],
    *,
    keys: Sequence[Key],
    total_steps: int,
    every: int = 1,
    seeds: Sequence[int] | None = None,
) -> Iterator[ManyStep]:
    """`run` for R runs in one program, under `vmap`: seeds, cost limits, whatever a learner keeps in its state.

    Args:
      learners: One for each run; they may differ in what their states hold and in nothing else.
      env: One episode, or the collector of each run.
      keys: Typed root key of each run.
      total_steps: Environment steps of each run at which to stop.
      every: Iterations that one call of the program makes.
      seeds: Stream of environment 0 of each run, if `env` is one episode; `1000003 r` of run r by default.

    Yields:
      A `ManyStep` for each iteration; all but the last of each call have no state (None).

    Raises:
      ValueError: If the numbers of learners, keys and seeds differ, or the learners in more than their states.
      BadValueError: When all runs are lost (`ManyStep.lost`); one that diverges does not disturb the others.
    """
    if not isinstance(env, DeviceEnv):
        collectors = list(env)
    else:
        chosen = [1_000_003 * r for r in range(len(learners))] if seeds is None else list(seeds)
        if len(chosen) != len(learners):
            raise ValueError(f"there must be one seed for each of {len(learners)} learners, got {len(chosen)}")
        collectors = [DeviceCollector(env, learner, seed) for learner, seed in zip(learners, chosen)]
    if not len(learners) == len(keys) == len(collectors) or not learners:
        raise ValueError(
            f"there must be one learner and one key for each of {len(collectors)} runs, "
            f"got {len(learners)} and {len(keys)}"
        )
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    inits = {id(learner): jax.jit(learner.init) for learner in learners}
    states = [inits[id(learner)](jax.random.fold_in(key, INIT_FOLD)) for learner, key in zip(learners, keys)]
    check_shapes(learners, states)
    learner, collecting = learners[0], collectors[0].collecting
    worlds = [each.world(learner.policy(state)) for each, state in zip(collectors, states)]
    batch = jax.eval_shape(collecting.collect, worlds[0], learner.policy(states[0]), keys[0])[1]
    check_programs(learners, states, batch)
    state, world = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (states, worlds))
    roots = jnp.stack(list(keys))
    advance = jax.jit(repeat(jax.vmap(iterate(learner, collecting), (0, 0, 0, None)), every), donate_argnums=(0, 1))
    states, worlds, iteration = [], [], 0
    done = max(collector.env_steps for collector in collectors)
    lost: dict[int, BadValueError] = {}
    while done < total_steps:
        count = chunk(iteration, done, learner.feed.steps_per_batch, total_steps, every)
        state, world, told = advance(state, world, roots, np.uint32(iteration), np.int32(count))
        metrics, reports = jax.device_get(told)
        for i in range(count):
            iteration += 1
            for r, collector in enumerate(collectors):
                if r in lost:
                    continue
                here = jax.tree.map(lambda x, i=i, r=r: x[i, r], reports)
                try:
                    collector.took(functools.partial(_cut, world, r), here)
                except BadValueError as error:
                    lost[r] = error
            if len(lost) == len(collectors):
                raise list(lost.values())[-1]
            done = max(collector.env_steps for collector in collectors)
            values = [{name: x[i, r] for name, x in metrics.items()} for r in range(len(learners))]
            newest = state if i == count - 1 else None
            yield ManyStep(iteration, done, newest, values, [c.episodes() for c in collectors], dict(lost))


def iterate(learner: Learner, collecting: Collecting, axis_name: str | None = None) -> Callable:
    """One iteration as a pure function: `(state, world, key, i) -> (state, world, (metrics, report))`.

    Args:
      learner: What is trained.
      collecting: What feeds it.
      axis_name: Mapped axis that the learner reduces over. Devices draw different actions.
    """

    def one(state, world, key, i):
        collect_key, update_key = jax.random.split(jax.random.fold_in(key, i))
        if axis_name is not None:
            collect_key = jax.random.fold_in(collect_key, jax.lax.axis_index(axis_name))
        world, batch, report = collecting.collect(world, learner.policy(state), collect_key)
        if axis_name is not None:
            report = Report(*(jax.lax.psum(each, axis_name) for each in report))
        state, metrics = learner.update(state, batch, update_key)
        return strong(state), world, (metrics, report)

    return one


def repeat(one: Callable, most: int) -> Callable:
    """`(state, world, key, first, count) -> (state, world, told)`: `count` iterations from number `first` on.

    The count is traced, so that one program serves every number up to `most`, with the same bits. What the iterations
    tell is stacked in arrays `[most, ...]`.
    """

    def many(state, world, key, first, count):
        told = jax.eval_shape(one, state, world, key, first)[2]
        room = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), told)

        def body(i, carry):
            state, world, room = carry
            state, world, told = one(state, world, key, first + i.astype(jnp.uint32))
            return state, world, jax.tree.map(lambda into, x: into.at[i].set(x), room, told)

        return jax.lax.fori_loop(0, count, body, (state, world, room))

    return many


def chunk(iteration: int, env_steps: int, per_batch: int, total_steps: int, every: int) -> int:
    """Iterations of the next call: up to the next multiple of `every`, and no further than the end."""
    return min(every - iteration % every, -(-(total_steps - env_steps) // per_batch))


def _cut(world: Any, run: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[run], world)
