"""A policy that sees only what the task shows, taught by a planner that knows everything.

    python experiments/headroom/teach.py SafetyPointGoal2-v0 --price 1 --rounds 3 --episodes 48 --out runs/taught

The oracle of `oracle.py` plays episodes, and cloning (`bc`) learns its actions from the observations. In later rounds
the clone plays, and the oracle says what it would have done in the states that the clone comes to (DAgger: Ross, Gordon
& Bagnell 2011, arXiv 1011.0686); all rounds are learned from. After each round the clone is evaluated with its most
likely actions. Files: OUT/round-K.npz, data sets in the native form.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from oracle import player

import jsafe
from jsafe import device
from jsafe.components.planners import CEM
from jsafe.data import datasets, evaluate, make_collector
from jsafe.envs.device import hosted

COLUMNS = ("task", "price", "round", "episodes", "updates", "return", "return_error", "cost", "cost_error", "cpu_s")


def recorded(env: device.DeviceEnv, found, id: str, names: dict) -> datasets.Episodes:
    """Episodes of the arrays `[E, T, ...]` that `player` has seen."""
    obs, action, reward, cost, last = (np.asarray(x, np.float32) for x in found)
    count, length = reward.shape

    def rows(x, end=None):
        """`[E, T, ...]` and a last row for each episode, in one column."""
        end = np.zeros_like(x[:, 0]) if end is None else end
        return np.concatenate([x, end[:, None]], axis=1).reshape(-1, *x.shape[2:])

    truncated = np.zeros((count, length), bool)
    truncated[:, -1] = True
    about = datasets.About(env.spec.obs, env.spec.action, env.spec.horizon, id, source="record", behaviours=(names,))
    return datasets.Episodes(
        rows(obs, last),
        rows(np.clip(action, -1, 1)),
        rows(reward),
        rows(cost),
        rows(np.zeros_like(truncated)),
        rows(truncated),
        np.arange(count + 1) * (length + 1),
        about,
    )


def cloned(data: datasets.Episodes, updates: int, seed: int):
    """The learner, and the state of its last update."""
    learner = jsafe.make("bc", data.spec, preset="jsafe", hidden=(256, 256), normalize_obs=True, updates=250)
    collector = make_collector(None, learner, seed=seed, data=data)
    for step in jsafe.train.run(learner, collector, key=jax.random.key(seed), total_steps=updates):
        state = step.state
    return learner, state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("id")
    parser.add_argument("--price", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=48, help="of each round")
    parser.add_argument("--updates", type=int, default=20_000, help="of the clone, in each round")
    parser.add_argument("--evaluation", type=int, default=128, help="episodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/taught"))
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    env = device.make(given.id)
    cem = CEM(horizon=10, samples=64, elites=8, iterations=3, init_var=1.0, sampling="clipped")
    data, learner, state, rows = None, None, None, []
    for number in range(given.rounds):
        start = time.process_time()
        student = None if learner is None else (learner, learner.policy(state))
        play = jax.jit(jax.vmap(player(env, cem, 4, student, rows=True), in_axes=(None, 0)))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(given.seed), number), given.episodes)
        names = {"run": "oracle" if student is None else "clone", "price": given.price}
        new = recorded(env, play(jnp.float32(given.price), keys), given.id, names)
        datasets.write(new, given.out / f"round-{number}.npz")
        data = new if data is None else datasets.concatenate([data, new])
        learner, state = cloned(data, given.updates, given.seed)
        found = evaluate(
            hosted(env, given.evaluation, seed=12345),
            learner,
            learner.policy(state),
            given.evaluation,
            jax.random.key(1),
        )
        told = []
        for x in (found["return"], found["cost"].sum(axis=-1) if found["cost"].ndim > 1 else found["cost"]):
            told += [f"{x.mean():.2f}", f"{x.std(ddof=1) / np.sqrt(len(x)):.2f}"]
        used = f"{time.process_time() - start:.0f}"
        rows.append((given.id, given.price, number, len(data), given.updates, *told, used))
        print(dict(zip(COLUMNS, rows[-1])), flush=True)
        if given.csv is not None:
            with open(given.csv, "w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
