"""How fast every task steps on one core: the column of speeds in the documentation's table.

    python experiments/benchmarks/tasks.py --core 0 --csv experiments/benchmarks/results/tasks.csv

Environment steps per CPU second of the host engine, 16 environments with random actions, observations, rewards, costs
and autoreset included; SafeRacing, which has one engine only, in its host form. Versions that differ in a limit alone
are measured once, tasks that differ in their picture alone (fading) with the picture. Vision ids at 64 and 256 pixels,
in full detail, of one task per robot: what is drawn costs far more than what is stepped. The process is bound to one
core and counts its own CPU time, the best of some rounds, so that other load hardly matters.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import time
from typing import Any

import numpy as np

from jsafe import envs, spaces
from jsafe.envs.device import catalogue
from jsafe.envs.pendulum import PENDULUMS
from jsafe.envs.safety_gym.robots import ROBOTS
from jsafe.envs.toy import TOYS

NUM_ENVS, WARM_UP = 16, 20
EYES = [f"Safety{robot}{task}Vision-v0" for robot in ROBOTS for task in ("Goal1", "FadingHard1")]


def told() -> list[str]:
    """The ids that are measured once, as they are."""
    stock = re.compile(r"(Safety|Safexp-).*(Goal|Push|Button|Circle|Run)\d-v0|Safety.*Velocity-v1")
    return [*(id for id in envs.list_ids() if stock.fullmatch(id)), *catalogue.IDS, *PENDULUMS, *TOYS]


def measure(id: str, seconds: float, rounds: int, **options: Any) -> float:
    """Steps per CPU second."""
    env = envs.make(id, num_envs=NUM_ENVS, num_threads=1, **options)
    rng = np.random.default_rng(0)
    actions = [spaces.sample(env.spec.action, rng, (NUM_ENVS,)) for _ in range(50)]
    env.reset(seed=0)
    for action in actions[:WARM_UP]:
        env.step(action)
    best = 0.0
    for _ in range(rounds):
        steps, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            env.step(actions[steps % len(actions)])
            steps += 1
        best = max(best, steps * NUM_ENVS / spent)
    env.close()
    return best


def main() -> None:
    """Prints and writes the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", help="only these")
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU seconds of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, help="the core to be bound to")
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    if args.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    cases = [(id, "") for id in told()] + [(id, size) for id in EYES for size in ("64", "256")]
    rows = []
    for id, size in cases:
        if args.ids and id not in args.ids:
            continue
        rate = measure(id, args.seconds, args.rounds, **({"size": int(size)} if size else {}))
        rows.append((id, size, float(f"{rate:.3g}")))
        print(f"{id:36s} {size:4s} {rate:12,.0f}", flush=True)
        if args.csv:
            with open(args.csv, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("id", "size", "steps_per_cpu_second"))
                writer.writerows((id, size, f"{rate:g}") for id, size, rate in rows)


if __name__ == "__main__":
    main()
