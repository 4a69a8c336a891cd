"""Speed of an on-policy algorithm at OmniSafe's defaults: environment steps per second, collection and update apart.

    python experiments/benchmarks/on_policy.py                      # PPO-Lag on SafetyPointGoal1-v0, end to end
    python experiments/benchmarks/on_policy.py --update-only        # random data, no engine
    python experiments/benchmarks/on_policy.py --algorithm cpo --early-stop

20 000 steps per iteration, 40 passes of minibatches of 64 rows, networks of 64 x 64 tanh units: 12 520 optimiser steps
per iteration without the early stop (the default here, since a stopped iteration says little about speed). The first
iteration, which compiles, is left out; of the others, the median and the fastest are printed. On two cores of this
kind, OmniSafe 0.5.0 needs 202 s for such an update and 127 s for the collection: 60 steps per second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time

import jax
import numpy as np

import jsafe
from jsafe import registry, testing


def arguments() -> argparse.Namespace:
    names = [name for name in registry.names() if registry.get(name).family == "on_policy"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--algorithm", default="ppo_lag", choices=names)
    parser.add_argument("--env", default="SafetyPointGoal1-v0")
    parser.add_argument("--num-envs", type=int, default=20)
    parser.add_argument("--passes", type=int, help="default: the algorithm's (40 for PPO-Lag)")
    parser.add_argument("--epochs", type=int, default=4, help="iterations to time, after one that compiles")
    parser.add_argument("--early-stop", action="store_true")
    parser.add_argument("--update-only", action="store_true", help="random data of 60 columns instead of an engine")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    options = {"num_envs": args.num_envs}
    if hasattr(registry.get(args.algorithm).config.step, "early_stop"):
        options["early_stop"] = args.early_stop
    if args.passes is not None:
        options["passes"] = args.passes
    env = None if args.update_only else jsafe.envs.make(args.env, num_envs=args.num_envs, seed=0)
    spec = jsafe.EnvSpec(60, 2) if env is None else jsafe.env_spec(env)
    learner = jsafe.make(args.algorithm, spec, **options)
    key = jax.random.key(0)
    state = learner.init(key)
    if env is None:
        batch = testing.random_batch(learner, key)
    else:
        collector = jsafe.data.make_collector(env, learner, seed=0)
        batch = collector.collect(learner.policy(state), key)

    start = time.perf_counter()
    update = jax.jit(learner.update, donate_argnums=0).lower(state, batch, key).compile()
    compile_seconds = time.perf_counter() - start

    seconds = {"collect": [], "update": []}
    passes = []
    for i in range(1 + args.epochs):
        step_key = jax.random.fold_in(key, i)
        start = time.perf_counter()
        if env is not None:
            batch = collector.collect(learner.policy(state), step_key)
        collected = time.perf_counter()
        state, metrics = jax.block_until_ready(update(state, batch, step_key))
        done = time.perf_counter()
        if i > 0:
            seconds["collect"].append(collected - start)
            seconds["update"].append(done - collected)
            passes.append(float(metrics["update/passes"]))

    config = learner.config
    minibatches = -(-config.steps_per_epoch // config.step.minibatch) * np.array(passes)
    total = np.array(seconds["collect"]) + np.array(seconds["update"])
    report = {
        "algorithm": args.algorithm,
        "env": "random data" if env is None else args.env,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.processor() or platform.machine(),
        "compile_s": round(compile_seconds, 1),
        "passes": round(float(np.mean(passes)), 1),
        **{f"{name}_s": round(statistics.median(values), 3) for name, values in seconds.items()},
        "update_us_per_minibatch": round(float(np.median(np.array(seconds["update"]) / minibatches)) * 1e6, 1),
        "steps_per_s": round(config.steps_per_epoch / float(np.median(total))),
        "steps_per_s_best": round(config.steps_per_epoch / float(np.min(total))),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
