"""Speed of planning: plans and GFLOP per CPU second, and the share of it that is matrix products.

    python experiments/benchmarks/model_based.py
    python experiments/benchmarks/model_based.py --cases jsafe loop --repeats 5 --csv speed.csv

A plan is one call of a learner's `act`, compiled, for all of its environments, with the default nets (four layers of
200, five nets) on observations of 29 numbers and two actions, as on SafetyPointGoal1-v0-modelbased. Seconds are CPU
seconds of the process (the least of the repeats), so that they mean something on a machine that does other things
besides; wall seconds are beside them. For one thread: XLA_FLAGS=--xla_cpu_multi_thread_eigen=false. `ratio` is the time
that the nets' matrix products alone take at these sizes, by the time of the whole plan: what is left is noise,
activations and the ranking of candidates.

The last line is a gradient step of the model on five minibatches of 256 transitions.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.testing import random_batch

LAYOUT = (("goal", 7, 9), ("hazards", 9, 25))
SPEC = jsafe.EnvSpec(29, 2, horizon=200, layout=LAYOUT, action_repeat=5)
CASES = {
    "omnisafe": ("cce_pets", 1, {"preset": "omnisafe"}),
    "omnisafe, 5 particles": ("cce_pets", 1, {"preset": "omnisafe", "particles": 5}),
    "omnisafe, 5 particles, common noise": ("cce_pets", 1, {"preset": "omnisafe", "particles": 5, "noise": "common"}),
    "loop": ("safe_loop", 1, {"preset": "omnisafe"}),
    "eight": ("cce_pets", 8, {"preset": "omnisafe", "particles": 5, "samples": 128, "elites": 16}),
    "jsafe": ("cce_pets", 1, {"preset": "jsafe"}),
    "jsafe, eight": ("cce_pets", 8, {"preset": "jsafe"}),
}
"""Algorithm, environments, options."""


def seconds(function, repeats: int) -> tuple[float, float]:
    """Least CPU and wall seconds of a call, after one that compiles."""
    jax.block_until_ready(function())
    best = [float("inf")] * 2
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        jax.block_until_ready(function())
        best = [min(a, b) for a, b in zip(best, (time.process_time() - cpu, time.perf_counter() - wall))]
    return best[0], best[1]


def products(config, envs: int, repeats: int) -> tuple[float, float]:
    """Seconds of the matrix products of one plan, and their GFLOP; the first step of a plan is shared by particles."""
    planner, nets = config.planner, config.dynamics.size
    candidates = planner.samples + (getattr(planner, "proposals", 0))
    rows = envs * candidates * config.particles // nets
    outputs = 2 * (SPEC.obs_dim + 1)
    widths = [SPEC.obs_dim + SPEC.act_dim, *config.dynamics.hidden, outputs]
    weights = [jnp.ones((nets, a, b)) / a for a, b in itertools.pairwise(widths)]
    steps = planner.iterations * (planner.horizon - 1 + nets / config.particles)
    again = jnp.ones((nets, outputs, widths[0])) / outputs

    @jax.jit
    def run(x):
        def step(x, _):
            for weight in weights:
                x = jnp.einsum("erh,ehk->erk", x, weight)
            return jnp.einsum("erh,ehk->erk", x, again), None

        return jax.lax.scan(step, x, length=4)[0]

    start = jnp.ones((nets, rows, widths[0]))
    each = sum(a * b for a, b in itertools.pairwise(widths))
    share = each / (each + outputs * widths[0])
    cpu, _ = seconds(lambda: run(start), repeats)
    return cpu / 4 * steps * share, 2e-9 * each * nets * rows * steps


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv")
    args = parser.parse_args()
    columns = (
        "case",
        "environments",
        "cpu_seconds",
        "wall_seconds",
        "plans_per_cpu_second",
        "gflop_per_second",
        "ratio",
    )
    table = []
    for case in args.cases:
        name, envs, options = CASES[case]
        learner = jsafe.make(name, SPEC, **options)
        policy_state = jax.jit(lambda key, learner=learner: learner.policy(learner.init(key)))(jax.random.key(0))
        obs = jnp.asarray(np.random.default_rng(0).standard_normal((envs, SPEC.obs_dim)), jnp.float32)
        act, memory, key = jax.jit(learner.act, static_argnums=4), learner.memory.init(envs), jax.random.key(1)
        cpu, wall = seconds(lambda: act(policy_state, memory, obs, key, False).action, args.repeats)  # noqa: B023
        alone, work = products(learner.config, envs, args.repeats)
        table.append((case, envs, cpu, wall, envs / cpu, work / cpu, alone / cpu))
        print(" | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in table[-1]), flush=True)
    learner = jsafe.make("cce_pets", SPEC, preset="jsafe", updates=10)
    state, batch = learner.init(jax.random.key(0)), random_batch(learner, jax.random.key(1))
    update = jax.jit(learner.update)
    cpu, wall = seconds(lambda: update(state, batch, jax.random.key(2)), args.repeats)
    table.append(("model step", 0, cpu / 10, wall / 10, float("nan"), float("nan"), float("nan")))
    print(f"model step: {1e3 * cpu / 10:.1f} ms of CPU")
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([[f"{x:.4g}" if isinstance(x, float) else x for x in row] for row in table])


if __name__ == "__main__":
    main()
