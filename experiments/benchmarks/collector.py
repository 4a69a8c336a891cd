"""How fast environments step, and how far that is from physics alone.

    python experiments/benchmarks/collector.py --ids SafetyPointGoal1-v0 SafetyCarGoal1-v0 --num-envs 16 64

For each id, number of environments N and number of threads it prints environment steps per second (all environments
together, autoreset included) and the bare physics bound: the same model and settings on the same threads doing only
`mj_step` and `mj_forward`, sensors off in the substeps as in the engine; driven objects are moved in the bound too,
because gremlins that stand still would fall asleep. Both run in turns within one run, so that other load on the machine
hits them equally; the ratio is the number to trust. With `--csv` the rows are also written to a file.
"""

from __future__ import annotations

import argparse
import csv
import time

import mujoco
import numpy as np

import jsafe.envs
from jsafe.envs.velocity.env import VelocityEnv

IDS = [f"Safety{task}-v0" for task in ("PointGoal1", "PointGoal2", "PointPush2", "CarGoal1", "PointButton1")]
WARM_UP = 20
"""Steps after a reset before timing starts: vases settle and fall asleep in the first ten or so."""


def bare(physics):
    """One batched step of physics alone, on the environments' own threads and data."""
    substeps = physics.substeps

    def run(thread, rows):
        (quiet, sensing), options = physics.flags, physics.options[thread]
        for i in rows:
            model, data = physics.model(thread, i), physics.data[i]
            options.disableflags = quiet
            mujoco.mj_step(model, data, substeps)
            options.disableflags = sensing
            mujoco.mj_forward(model, data)

    def run_driven(thread, rows):
        (quiet, sensing), options = physics.flags, physics.options[thread]
        for i in rows:
            model, data = physics.model(thread, i), physics.data[i]
            mocap, targets = physics.drives[i]
            options.disableflags = quiet
            for target in targets:
                mocap[:] = target
                mujoco.mj_step(model, data)
            options.disableflags = sensing
            mujoco.mj_forward(model, data)

    driven = physics.centre.shape[1] > 0
    work = run_driven if driven else run

    def step(actions):
        for data, action in zip(physics.data, actions):
            data.ctrl[:] = action
        start = time.perf_counter()
        if driven:
            times = np.array([data.time for data in physics.data])[:, None]
            physics.aim(times + np.arange(substeps) * physics.world.model.opt.timestep)
        physics.workers.run(work, physics.chunks)
        return time.perf_counter() - start

    return step


def bare_velocity(simulation):
    """One batched step of physics alone of a velocity task, contact forces for the observation included."""

    def run(thread, rows):
        for i in rows:
            mujoco.mj_step(simulation.model, simulation.data[i], simulation.runner.substeps)
            if simulation.runner.forces:
                mujoco.mj_rnePostConstraint(simulation.model, simulation.data[i])

    def step(actions):
        for data, action in zip(simulation.data, actions):
            data.ctrl[:] = action
        start = time.perf_counter()
        simulation.workers.run(run, simulation.chunks)
        return time.perf_counter() - start

    return step


def measure(id: str, num_envs: int, threads: int, seconds: float) -> tuple[float, float]:
    """(steps per second of the engine, of bare physics)."""
    engine = jsafe.envs.make(id, num_envs=num_envs, seed=0, num_threads=threads)
    bound = jsafe.envs.make(id, num_envs=num_envs, seed=0, num_threads=threads)
    rng = np.random.default_rng(0)
    low, high = np.array(engine.spec.action_low), np.array(engine.spec.action_high)
    actions = rng.uniform(low, high, (64, num_envs, engine.spec.act_dim))
    step = bare_velocity(bound.simulation) if isinstance(bound, VelocityEnv) else bare(bound.physics)
    engine.reset()
    bound.reset()
    spent, count = np.zeros(2), np.zeros(2)
    start, turn = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or turn < 2:
        for k in range(WARM_UP if turn == 0 else 0):
            engine.step(actions[k])
            step(actions[k])
        for k in range(max(4, 256 // num_envs)):
            action = actions[(turn + k) % len(actions)]
            before = time.perf_counter()
            engine.step(action)
            spent[0] += time.perf_counter() - before
            count[0] += num_envs
        for k in range(max(4, 256 // num_envs)):
            spent[1] += step(actions[(turn + k) % len(actions)])
            count[1] += num_envs
        turn += 1
        data = bound.simulation.data if isinstance(bound, VelocityEnv) else bound.physics.data
        if data[0].time > engine.spec.dt * engine.spec.horizon:
            bound.reset()
            for k in range(WARM_UP):
                step(actions[k])
    engine.close()
    bound.close()
    return tuple(count / spent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=IDS, help="environments ('all': every id)")
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="per line")
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    every = [id for id in jsafe.envs.list_ids() if not id.startswith("Toy-")]
    ids = every if args.ids == ["all"] else args.ids
    rows = []
    print(f"{'id':28s} {'N':>4s} {'threads':>7s} {'steps/s':>9s} {'bound':>9s} {'ratio':>6s}")
    for id in ids:
        for num_envs in args.num_envs:
            for threads in args.threads:
                if threads > num_envs:
                    continue
                rate, limit = measure(id, num_envs, threads, args.seconds)
                rows.append((id, num_envs, threads, round(rate), round(limit), round(rate / limit, 3)))
                print(f"{id:28s} {num_envs:4d} {threads:7d} {rate:9.0f} {limit:9.0f} {rate / limit:6.2f}", flush=True)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "num_envs", "threads", "steps_per_second", "bound", "ratio"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
