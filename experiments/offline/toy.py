"""Offline learners on a task whose constrained optimum is known, and controls that have to fail.

    python experiments/offline/toy.py --csv experiments/offline/toy.csv            # all rows, minutes
    python experiments/offline/toy.py --only bcq_lag ccrr

`Toy-SpeedLimit-v0`: 25 600 steps of uniformly random actions, episodes of 50, gamma 0.9, a limit of 0.25 per step (12.5
per episode), networks of (64, 64), minibatches of 256. The best constant speed earns 0.5 at a cost of 0.25, with a
multiplier of 1. FISOR has no limit: its task counts a cost above half speed, and the best safe policy earns 0.5 at 0.
Return and cost are per step, of 64 episodes with most likely actions.
"""

from __future__ import annotations

import argparse
import csv
import time

import jax

import jsafe
from jsafe.data import datasets, evaluate, make_collector
from jsafe.envs.toy import ToyEnv

COMMON = {"hidden": (64, 64), "batch_size": 256, "gamma": 0.9, "cost_limit": 12.5, "updates": 250}
WIDE = {"policy.kl_weight": 0.02, "policy.z_max": 2.0}
CPQ = {"improve.infeasible": "descend", "policy_learning_rate": 1e-3}
CDT = {"learning_rate": 1e-3, "gamma": None}
NARROW = {"policy.log_std": -1.0}
ROWS = {
    "bcq_lag": ("bcq_lag", WIDE, 5000),
    "bcq_lag, costliest candidate": ("bcq_lag", {**WIDE, "critic.cost_target": "max"}, 2500),
    "bcq_lag, limit per episode": ("bcq_lag", {**WIDE, "limit_unit": "episode"}, 2500),
    "bcq_lag, collapsed latent": ("bcq_lag", {}, 2500),
    "ccrr": ("ccrr", {"beta": 0.1, **NARROW}, 8000),
    "ccrr, the critics choose": ("ccrr", {"weight.beta": 0.1, **NARROW, "choice": "softmax", "choice.beta": 0.1}, 8000),
    "coptidice": ("coptidice", {"critic.alpha": 0.02, "critic.eps": 0.0, "learning_rate": 1e-3}, 5000),
    "coptidice, upper bound": ("coptidice", {"critic.alpha": 0.02, "learning_rate": 1e-3}, 5000),
    "cpq": ("cpq", {**CPQ, "critic.ood": "calibrated"}, 5000),
    "cpq, no penalty": ("cpq", {**CPQ, "critic.ood": "none"}, 5000),
    "cpq, stuck": ("cpq", {**CPQ, "critic.ood": "none", "improve.infeasible": "stuck"}, 2500),
    "bear_lag": ("bear_lag", {}, 5000),
    "caps": ("caps", {"reward_scale": 1.0, "critic.expectile": 0.9, "learning_rate": 1e-3}, 5000),
    "fisor": ("fisor", {"learning_rate": 1e-3}, 5000),
    "fisor, its mean": ("fisor", {"learning_rate": 1e-3, "choice": "policy"}, 5000),
    "fisor, h = 1": ("fisor", {"learning_rate": 1e-3, "critic.unsafe": 1.0}, 5000),
    "fisor, h = 1, its mean": ("fisor", {"learning_rate": 1e-3, "critic.unsafe": 1.0, "choice": "policy"}, 5000),
    "fisor, h = 1, diffusion": ("fisor", {"learning_rate": 1e-3, "critic.unsafe": 1.0, "policy": "diffusion"}, 2500),
    "lspc": ("lspc", {"reward_scale": 1.0, "learning_rate": 1e-3}, 5000),
    "trac": (
        "trac",
        {
            "batch_size": 64,
            "gamma": 0.99,
            "clone_updates": 1500,
            "learning_rate": 1e-3,
            "share": 0.2,
            "rate_warmup": 100,
        },
        6000,
    ),
    "cdt": ("cdt", {"hidden": (32, 32), "heads": 2, "context": 5, "batch_size": 64, "rate_warmup": 100, **CDT}, 2000),
    "bc": ("bc", {}, 2500),
    "bc_safe": ("bc_safe", {}, 2500),
}
"""What to call it, the algorithm, its options, and updates."""


def toy(algorithm: str) -> ToyEnv:
    """The task."""
    return ToyEnv(64, horizon=50, cost_form="indicator" if algorithm == "fisor" else "quadratic")


def run(algorithm: str, options: dict, updates: int, seed: int) -> dict[str, float]:
    """Trains and evaluates."""
    data = datasets.record(toy(algorithm), None, jax.random.key(0), episodes=512)
    chosen = {name: value for name, value in {**COMMON, **options}.items() if value is not None}
    learner = jsafe.make(algorithm, data.spec, **chosen)
    collector = make_collector(None, learner, seed=seed, data=data)
    update, state = jax.jit(learner.update, donate_argnums=0), jax.jit(learner.init)(jax.random.key(seed))
    start = time.process_time()
    for i in range(updates // learner.feed.updates):
        key = jax.random.fold_in(jax.random.key(1 + seed), i)
        batch = collector.collect(learner.policy(state), key)
        state, metrics = update(state, batch, jax.random.fold_in(key, 1))
    seconds = time.process_time() - start
    result = evaluate(toy(algorithm), learner, learner.policy(state), 64, jax.random.key(3), True, seed=5)
    told = {name: float(metrics.get(f"cost/0/{name}", float("nan"))) for name in ("estimated", "multiplier")}
    return {
        "return": result["return"].mean() / 50,
        "cost": result["cost"].mean() / 50,
        "estimated": told["estimated"] / 50,
        "multiplier": told["multiplier"],
        "cpu_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ROWS), help="rows by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", help="also write a table; rows of a table that is there are kept")
    given = parser.parse_args()
    table = []
    if given.csv:
        try:
            with open(given.csv, newline="") as file:
                table = [row for row in csv.DictReader(file) if row["row"] not in given.only]
        except FileNotFoundError:
            pass
    for name in given.only:
        algorithm, options, updates = ROWS[name]
        found = {k: f"{v:.3f}" for k, v in run(algorithm, options, updates, given.seed).items()}
        table.append({"row": name, "updates": updates, "seed": given.seed, **found})
        print(table[-1], flush=True)
        if given.csv:
            with open(given.csv, "w", newline="") as file:
                writer = csv.DictWriter(file, table[-1], lineterminator="\n")
                writer.writeheader()
                writer.writerows(sorted(table, key=lambda row: list(ROWS).index(row["row"])))


if __name__ == "__main__":
    main()
