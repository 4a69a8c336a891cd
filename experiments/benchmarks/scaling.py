"""What a step of the host engine is made of, and what that means for machines with more cores.

    python experiments/benchmarks/scaling.py --ids SafetyPointGoal1-v0 --csv experiments/benchmarks/results/scaling.csv

Microseconds of CPU time for each environment's step, one thread, the least of some rounds:

| part | |
|---|---|
| m | MuJoCo, without the interpreter's lock |
| g | what is around its calls in a thread's loop, with the lock |
| s | observations, rewards, costs and episodes, with the lock, after all threads have finished |
| c | `num_processes`: what the caller does for all processes, one after the other: commands, answers, copies |

Model of a step's time per environment on K cores (Amdahl, with P processes of K / P threads, which share s and g):

    threads alone    max((m + g) / K, g) + s
    P processes      max((m + g) / K, g / P) + s / P + c(P)

`share` is what is left of K times the speed of bare physics, m / K. The model knows nothing of caches, memory or clocks
that differ with the number of busy cores.
"""

from __future__ import annotations

import argparse
import csv
import time
import types

import numpy as np

import jsafe.envs
from jsafe.envs.safety_gym import physics as module

IDS = [f"{task}-v0" for task in ("SafetyPointGoal1", "SafetyPointGoal2", "SafetyPointButton1", "Safexp-PointGoal1")]
CORES = (1, 2, 4, 8, 16, 32, 64)


def least(call, rounds: int, clock=time.thread_time) -> float:
    """Seconds of one call, the least of some."""
    found = []
    for _ in range(rounds):
        start = clock()
        call()
        found.append(clock() - start)
    return min(found)


def parts(id: str, n: int, rounds: int) -> dict[str, float]:
    """m, g and s in microseconds."""
    env = jsafe.envs.make(id, n, num_threads=1)
    env.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (n, env.spec.act_dim))
    for _ in range(20):
        env.step(actions)
    step, spent = env.physics.step, []

    def timed(rows=None):
        start = time.thread_time()
        step(rows)
        spent.append(time.thread_time() - start)

    env.physics.step = timed
    whole = [least(lambda: env.step(actions), 1) - spent[-1] for _ in range(rounds)]
    rows = range(n)
    real = module.mujoco

    def nothing(model, data, times=1):
        return real.mj_stateSize(model, 1)  # as much conversion of arguments, and nothing to do

    quiet = types.SimpleNamespace(mj_step=nothing, mj_step2=nothing, mj_forward=nothing)
    try:
        module.mujoco = quiet
        around = least(lambda: env.physics.work(0, rows), rounds)
    finally:
        module.mujoco = real
    env.close()
    micro = 1e6 / n
    return {"m": (min(spent) - around) * micro, "g": around * micro, "s": min(whole) * micro}


def calling(id: str, n: int, processes: int, rounds: int) -> float:
    """c in microseconds."""
    env = jsafe.envs.make(id, n, num_threads=processes, num_processes=processes)
    env.reset()
    actions = np.zeros((n, env.spec.act_dim))
    took = least(lambda: env.step(actions), rounds)
    env.close()
    return took * 1e6 / n


def model(found: dict[str, float], cores: int, processes: int, c: float) -> float:
    """Microseconds of a step of one environment."""
    m, g, s = found["m"], found["g"], found["s"]
    return max((m + g) / cores, g / processes) + s / processes + c


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=IDS)
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    rows = []
    for id in args.ids:
        found = parts(id, args.num_envs, args.rounds)
        few, many = (calling(id, args.num_envs, p, args.rounds) for p in (2, 8))
        each = max(0.0, (many - few) / 6)
        base = max(0.0, few - 2 * each)
        told = " ".join(f"{name} {value:.2f}" for name, value in found.items())
        print(f"{id}, N = {args.num_envs}: {told} c {base:.2f} + {each:.3f} P", flush=True)
        for cores in CORES:
            alone = model(found, cores, 1, 0.0)
            choices = [p for p in (2, 4, 8, 16, 32, 64) if p <= cores]
            times = {p: model(found, cores, p, base + each * p) for p in choices}
            best = min(times, key=times.__getitem__, default=1)
            team = min(times.get(best, alone), alone)
            bare = found["m"] / cores
            row = (id, args.num_envs, cores, *(round(found[k], 2) for k in "mgs"), round(base, 2), round(each, 3))
            rows.append(
                (*row, round(1e6 / alone), round(bare / alone, 2), best, round(1e6 / team), round(bare / team, 2))
            )
            print(
                f"  {cores:3d} cores: threads {1e6 / alone:9,.0f} steps/s, share {bare / alone:.2f};  "
                f"{best:2d} processes {1e6 / team:9,.0f}, share {bare / team:.2f}",
                flush=True,
            )
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.writer(file)
            names = "id num_envs cores m g s c c_per_process threads_steps_per_second threads_share"
            writer.writerow([*names.split(), "processes", "processes_steps_per_second", "processes_share"])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
