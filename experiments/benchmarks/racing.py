"""How fast SafeRacing steps on one core, and what of it costs how much.

    python experiments/benchmarks/racing.py --num-envs 64 --core 0

Prints, for each id, environment steps per second of one core's time in one compiled program (`vectorise` in a scan,
random actions, new episodes included) and as a host environment (`hosted`, one call per step). Then the microseconds of
a step by part, each the difference of two programs: the car's dynamics; contacts, visits and events; the observation;
starting anew. The process is bound to one core and its own CPU time is counted, so that other load hardly matters;
every number is the best of the repetitions.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.device import hosted, racing, vectorise
from jsafe.envs.device.racing import observe, world
from jsafe.envs.device.racing.car import drive
from jsafe.envs.device.racing.pool import pool


def seconds(call: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one call, the best of some; the first one compiles."""
    jax.block_until_ready(call())
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        jax.block_until_ready(call())
        best = min(best, time.process_time() - start)
    return best


def rate(body: Callable, state, inputs, steps: int, repeats: int) -> float:
    """CPU seconds per step and environment of a scan over `body(state, input) -> (state, anything)`."""
    program = jax.jit(lambda state, inputs: jax.lax.scan(body, state, inputs))
    return seconds(lambda: program(state, inputs), repeats) / steps / inputs[0].shape[1]


def measure(id: str, num_envs: int, steps: int, repeats: int) -> None:
    """Prints the row of one id."""
    env, task = racing.make(id), racing.IDS[id]
    batch = vectorise(env)
    roads = jax.tree.map(jnp.asarray, pool(task.tracks, task.track_seed))
    see = functools.partial(observe.pixels, size=task.size) if task.observation == "pixels" else observe.flat
    keys = jax.random.split(jax.random.key(0), (steps, num_envs))
    actions = jax.random.uniform(jax.random.key(1), (steps, num_envs, 3), minval=-1, maxval=1)
    state, _ = jax.jit(batch.reset)(keys[0])

    def car_alone(state, inputs):
        action = inputs[0]
        move = jax.vmap(drive)(state.car, -action[:, 0], action[:, 1], action[:, 2], state.on_road)
        return state._replace(car=move), None

    def blind(state, inputs):
        return jax.vmap(lambda state, action: world.advance(roads, state, action))(state, inputs[0])

    def seeing(state, inputs):
        state, events = blind(state, inputs)
        return state, (events, total(jax.vmap(lambda state: see(roads, state))(state)))

    def whole(state, inputs):
        state, out = batch.step(state, *inputs)
        return state, (out.reward, out.cost, total(out.obs))

    times = [rate(body, state, (actions, keys), steps, repeats) for body in (car_alone, blind, seeing, whole)]
    outside = hosted(env, num_envs)
    outside.reset()
    host_actions = np.asarray(actions)

    def host_steps():
        for action in host_actions:
            outside.step(action)
        return ()

    host = seconds(host_steps, repeats) / steps / num_envs
    fresh = seconds(lambda: jax.jit(batch.reset)(keys[0]), repeats) / num_envs
    parts = 1e6 * np.diff(times, prepend=0.0)
    row = [
        id,
        num_envs,
        f"{1 / times[-1]:,.0f}",
        f"{1 / host:,.0f}",
        *(f"{p:.2f}" for p in parts),
        f"{1e6 * fresh:.1f}",
    ]
    print(f"| {' | '.join(map(str, row))} |", flush=True)


def total(tree) -> jax.Array:
    """A number that depends on everything, so that nothing is left out."""
    return sum(leaf.sum() for leaf in jax.tree.leaves(tree))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=list(racing.IDS), choices=racing.IDS)
    parser.add_argument("--num-envs", nargs="+", type=int, default=[64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--core", type=int, default=0, help="the core to be bound to")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    print(
        "| id | N | steps/s, one program | steps/s, hosted | us: car | contacts | observation | new episodes |", end=""
    )
    print(" us of a reset |")
    print("|---|" + "---|" * 8)
    for id in options.ids:
        steps = 200 if racing.IDS[id].observation == "state" else 20
        for num_envs in options.num_envs:
            measure(id, num_envs, steps, options.repeats)


if __name__ == "__main__":
    main()
