"""Speed of the off-policy loop: gradient updates and environment steps per second, and where the time goes.

    python experiments/benchmarks/off_policy.py                     # SAC-Lag and TD3-Lag on SafetyPointGoal1-v0
    python experiments/benchmarks/off_policy.py --algorithms sac_lag --update-to-data 1 --seconds 30 --csv speed.csv

Minibatches of 256 transitions, two layers of 256 units, 16 environments, 64 environment steps per iteration. For each
algorithm and update-to-data ratio (gradient updates per environment step) two things are measured:

1. The parts of an iteration, each waited for: acting (policy calls), environment steps, the gather of all minibatches
   from the replay, their transfer to the device, the update. `data` is the share of gather and transfer in their sum.
2. The loop of `jsafe.train.run` as it is, which waits for nothing, with the data of the current policy (depth 0) and
   with the next batch collected during the update (depth 1, `PrefetchCollector`): updates and steps per second.

On a machine whose cores do both, depth 1 gains little: it is meant for an accelerator beside the CPU.
"""

from __future__ import annotations

import argparse
import csv
import time

import jax
import numpy as np

import jsafe
from jsafe.data import PrefetchCollector, make_collector
from jsafe.types import env_spec

SIZES = {"hidden": (256, 256), "sequences": 256, "num_envs": 16, "unroll": 4}
STEPS = SIZES["num_envs"] * SIZES["unroll"]
PARTS = ("act", "env", "gather", "transfer", "update")


class Timed:
    """A function, and the seconds spent in it."""

    def __init__(self, function, wait=False):
        self.function, self.wait, self.seconds = function, wait, 0.0

    def __call__(self, *args, **kwargs):
        start = time.perf_counter()
        out = self.function(*args, **kwargs)
        if self.wait:
            jax.block_until_ready(out)
        self.seconds += time.perf_counter() - start
        return out


def make(name: str, env_id: str, ratio: float):
    """Environment, learner and collector; the replay is filled with random actions."""
    env = jsafe.envs.make(env_id, num_envs=SIZES["num_envs"], seed=0)
    options = {**SIZES, "replay_rows": 10_000, "initial_rows": 2_000, "random_steps": 2_000}
    learner = jsafe.make(name, env_spec(env), **options, updates=max(1, round(ratio * STEPS)))
    return env, learner, make_collector(env, learner, seed=0)


def parts(name: str, env_id: str, ratio: float, seconds: float) -> dict[str, float]:
    """Milliseconds per iteration of each part, all waited for."""
    env, learner, collector = make(name, env_id, ratio)
    clocks = {"env": Timed(env.step), "gather": Timed(collector.replay.sample)}
    env.step, collector.replay.sample = clocks["env"], clocks["gather"]
    clocks["transfer"] = Timed(lambda batch: jax.device_put(jax.tree.map(np.array, batch)), wait=True)
    clocks["update"] = Timed(jax.jit(learner.update, donate_argnums=0), wait=True)
    collect = Timed(collector.collect)
    key = jax.random.key(0)
    state = jax.jit(learner.init)(key)
    policy = jax.jit(lambda state: jax.tree.map(lambda x: x + 0, learner.policy(state)))
    iterations, start = 0, None
    while start is None or time.perf_counter() - start < seconds:
        batch = collect(jax.block_until_ready(policy(state)), jax.random.fold_in(key, iterations))
        copied = Timed(lambda batch=batch: jax.tree.map(np.array, batch))
        copied()
        clocks["transfer"].seconds -= copied.seconds  # host copies only keep the device from sharing the host's memory
        state, _ = clocks["update"](state, clocks["transfer"](batch), jax.random.fold_in(key, iterations))
        iterations += 1
        if start is None and batch.ready and int(state.updates) > learner.feed.updates:
            start, iterations = time.perf_counter(), 0
            for clock in (*clocks.values(), collect):
                clock.seconds = 0.0
    spent = {part: clock.seconds for part, clock in clocks.items()}
    spent["act"] = collect.seconds - spent["env"] - spent["gather"]
    env.close()
    return {part: 1e3 * spent[part] / iterations for part in PARTS}


def loop(name: str, env_id: str, ratio: float, seconds: float, depth: int) -> tuple[float, float]:
    """Updates and environment steps per second of the training loop."""
    env, learner, collector = make(name, env_id, ratio)
    collector = PrefetchCollector(collector, depth)
    steps = jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=10**9)
    for step in steps:  # until the first updates are compiled and done
        if int(step.state.updates) > learner.feed.updates:
            break
    start, before = time.perf_counter(), collector.env_steps
    while time.perf_counter() - start < seconds:
        step = next(steps)
    jax.block_until_ready(step.metrics)
    rate = (collector.env_steps - before) / (time.perf_counter() - start)
    steps.close()
    collector.close()
    env.close()
    return rate * learner.feed.updates / STEPS, rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=["sac_lag", "td3_lag"])
    parser.add_argument("--env", default="SafetyPointGoal1-v0")
    parser.add_argument("--update-to-data", nargs="+", type=float, default=[1.0, 0.125])
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement")
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    columns = ["algorithm", "ratio", *(f"{part}_ms" for part in PARTS), "data_share"]
    columns += [f"{what}_per_second_depth{depth}" for depth in (0, 1) for what in ("updates", "steps")]
    rows = []
    print(f"{args.env} on {jax.devices()[0].device_kind}, {jax.__version__=}")
    for name in args.algorithms:
        for ratio in args.update_to_data:
            spent = parts(name, args.env, ratio, args.seconds)
            share = (spent["gather"] + spent["transfer"]) / sum(spent.values())
            rates = [rate for depth in (0, 1) for rate in loop(name, args.env, ratio, args.seconds, depth)]
            rows.append([name, ratio, *(round(x, 3) for x in spent.values()), round(share, 4), *map(round, rates)])
            listed = "  ".join(f"{part} {x:.2f}" for part, x in spent.items())
            print(f"{name}, {ratio:g} updates per step: ms per iteration: {listed}; data {share:.1%}")
            for depth in (0, 1):
                updates, steps = rates[2 * depth : 2 * depth + 2]
                print(f"    depth {depth}: {updates:.0f} updates/s, {steps:.0f} environment steps/s", flush=True)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)


if __name__ == "__main__":
    main()
