"""Offline learners on recorded tasks, beside each other: return and cost of the last checkpoint.

    python experiments/offline/compare.py FILE.npz ... --csv results.csv [--only caps bc_safe] [--limits 25]
    python experiments/offline/compare.py --table results.csv

The settings are those of README.md: preset `jsafe`, networks of (128, 128), minibatches of 256, normalised inputs,
so many updates. Rows that are in the table already are not made again. The environment is asked at the end alone, for
episodes with most likely actions. What has no limit in its training is trained once for all limits.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.data import datasets, evaluate, make_collector

COMMON = {"hidden": (128, 128), "batch_size": 256, "updates": 250}
SEEN = {"normalize_obs": True}
SLOW = {**SEEN, "tau": 0.05}
"""Slow copies make the errors of values fall like `exp(-tau (1 - gamma) n)` in n updates: at the presets' 0.005 and a
discount of 0.99 a seventh of a cost is seen after 3000, and limits are not kept."""
FAST = {"learning_rate": 1e-3}
ALGORITHMS = {
    "bc": SEEN,
    "bc_safe": SEEN,
    "bc_frontier": SEEN,
    "bc_conditioned": SEEN,
    "vae_bc": SEEN,
    "bcq_lag": SLOW,
    "ccrr": SLOW,
    "coptidice": {**SEEN, **FAST},
    "cpq": SLOW,
    "bear_lag": SLOW,
    "caps": {**SLOW, **FAST, "reward_scale": 1.0},
    "fisor": {**SLOW, **FAST},
    "lspc": {**SLOW, **FAST},
    "trac": {"batch_size": 16, "learning_rate": 1e-3, "rate_warmup": 200},
    "cdt": {"hidden": (64, 64), "batch_size": 32},
}
"""Options beside `COMMON` and the preset `jsafe`."""
FREE = {"bc", "bc_frontier", "vae_bc", "fisor", "lspc", "caps"}
"""No limit in their training. Of those that take one all the same, it is the one that they act on."""
COLUMNS = ("set", "algorithm", "limit", "seed", "updates", "return", "cost", "worst", "within", "estimated", "cpu_s")


def trained(algorithm: str, data: datasets.Episodes, limit: float, seed: int, updates: int):
    """The learner, its last state, the last metrics and CPU seconds."""
    options = {**COMMON, **ALGORITHMS[algorithm]}
    if algorithm == "trac":  # two fifths of the updates for cloning
        options["clone_updates"] = 2 * updates // 5
    learner = jsafe.make(algorithm, data.spec, preset="jsafe", cost_limit=limit, **options)
    collector = make_collector(None, learner, seed=seed, data=data)
    start = time.process_time()
    for step in jsafe.train.run(learner, collector, key=jax.random.key(seed), total_steps=updates):
        state, metrics = step.state, step.metrics
    return learner, state, metrics, time.process_time() - start


def rows_of(name: str, data: datasets.Episodes, algorithm: str, seed: int, given: argparse.Namespace):
    """A row for each limit that is not there yet."""
    env = jsafe.envs.make(data.about.env, num_envs=given.episodes, seed=seed, num_threads=1)
    made = None
    for limit in given.limits:
        if (name, algorithm, f"{limit:g}", str(seed)) in given.there:
            continue
        if made is None or algorithm not in FREE:
            made = trained(algorithm, data, limit, seed, given.updates)
        learner, state, metrics, seconds = made
        if hasattr(state, "limit"):
            state = state._replace(limit=jnp.full_like(state.limit, limit))
        found = evaluate(env, learner, learner.policy(state), given.episodes, jax.random.key(seed), seed=1000 + seed)
        cost = found["cost"][:, 0]
        yield {
            "set": name,
            "algorithm": algorithm,
            "limit": f"{limit:g}",
            "seed": seed,
            "updates": given.updates,
            "return": f"{found['return'].mean():.2f}",
            "cost": f"{cost.mean():.1f}",
            "worst": f"{cost.max():.0f}",
            "within": f"{(cost <= limit).mean():.2f}",
            "estimated": f"{float(metrics.get('cost/0/estimated', np.nan)):.1f}",
            "cpu_s": f"{seconds:.0f}",
        }
    env.close()


def table(path: Path) -> None:
    """Prints return / cost by algorithm and set, means over seeds, in the form of a README."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = list(dict.fromkeys((row["set"], row["limit"]) for row in rows))
    print("| |", " | ".join(f"{name}, {limit}" for name, limit in places), "|")
    print("|---|", "---|" * len(places), sep="")
    for algorithm in (name for name in ALGORITHMS if any(row["algorithm"] == name for row in rows)):
        cells = []
        for place in places:
            mine = [row for row in rows if row["algorithm"] == algorithm and (row["set"], row["limit"]) == place]
            pair = [np.mean([float(row[column]) for row in mine]) if mine else np.nan for column in ("return", "cost")]
            cells.append(f"{pair[0]:.1f} / {pair[1]:.0f}" if mine else "")
        print(f"| {algorithm} |", " | ".join(cells), "|")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("files", nargs="*", type=Path)
    words.add_argument("--only", nargs="*", default=list(ALGORITHMS), choices=list(ALGORITHMS))
    words.add_argument("--limits", nargs="*", type=float, default=[25.0])
    words.add_argument("--seeds", type=int, default=1)
    words.add_argument("--updates", type=int, default=3000)
    words.add_argument("--episodes", type=int, default=20)
    words.add_argument("--csv", type=Path)
    words.add_argument("--table", type=Path, help="print this table, and do nothing else")
    given = words.parse_args()
    if given.table is not None:
        return table(given.table)
    done = []
    if given.csv is not None and given.csv.exists():
        with given.csv.open(newline="") as file:
            done = list(csv.DictReader(file))
    given.there = {tuple(row[name] for name in COLUMNS[:4]) for row in done}
    for path in given.files:
        data = datasets.read(path)
        for algorithm in given.only:
            for seed in range(given.seeds):
                for row in rows_of(path.stem, data, algorithm, seed, given):
                    print(row, flush=True)
                    done.append({name: str(value) for name, value in row.items()})
                    if given.csv is not None:
                        with given.csv.open("w", newline="") as file:
                            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                            writer.writeheader()
                            writer.writerows(done)
    return None


if __name__ == "__main__":
    main()
