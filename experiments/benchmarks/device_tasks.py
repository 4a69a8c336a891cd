"""How fast the tasks in the program step on one core.

    python experiments/benchmarks/device_tasks.py --num-envs 64 512 --core 0 --csv table.csv

Environment steps per CPU second of a scan over `vectorise(env).step` with random actions, the best of some rounds; the
process is bound to one core and counts its own CPU time, so that other load hardly matters.
"""

from __future__ import annotations

import argparse
import csv
import os
import time

import jax
import jax.numpy as jnp

from jsafe import device

IDS = [
    f"{task}-v0"
    for task in (
        *(f"SafetyPointGoal{level}" for level in range(3)),
        *(f"SafetyPointCircle{level}" for level in range(3)),
        "SafetyPointRun0",
        *(f"SafetyPoint{task}{level}" for task in ("Button", "Push") for level in range(3)),
        *(f"Safexp-Point{task}{level}" for task in ("Goal", "Button", "Push") for level in (1, 2)),
    )
]


def measure(id: str, num_envs: int, steps: int, rounds: int) -> float:
    """Environment steps per CPU second."""
    many = device.vectorise(device.make(id))
    width = many.spec.act_dim
    state, _ = jax.jit(many.reset)(jax.random.split(jax.random.key(0), num_envs))

    @jax.jit
    def roll(state, key):
        def body(state, t):
            key_t = jax.random.fold_in(key, t)
            actions = jax.random.uniform(key_t, (num_envs, width), minval=-1)
            state, out = many.step(state, actions, jax.random.split(key_t, num_envs))
            return state, (out.reward.sum(), out.cost.sum(), out.obs.sum())

        return jax.lax.scan(body, state, jnp.arange(steps))

    state, _ = jax.block_until_ready(roll(state, jax.random.key(1)))
    best = float("inf")
    for i in range(rounds):
        start = time.process_time()
        state, _ = jax.block_until_ready(roll(state, jax.random.key(2 + i)))
        best = min(best, time.process_time() - start)
    return num_envs * steps / best


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=IDS)
    parser.add_argument("--num-envs", nargs="+", type=int, default=[64])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, help="the core to be bound to")
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    if args.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    rows = []
    for id in args.ids:
        for num_envs in args.num_envs:
            rate = measure(id, num_envs, args.steps, args.rounds)
            rows.append((id, num_envs, round(rate)))
            print(f"{id:26s} {num_envs:6d} {rate:12,.0f}", flush=True)
            if args.csv:
                with open(args.csv, "w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(("id", "num_envs", "steps_per_cpu_second"))
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
