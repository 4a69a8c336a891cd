"""What can be had: a planner that knows the task perfectly, at several prices of a cost.

    python experiments/headroom/oracle.py --ids SafetyPointGoal1-v0 --csv experiments/headroom/oracle.csv
    python experiments/headroom/oracle.py --table experiments/headroom/oracle.csv
    python experiments/headroom/oracle.py --publish experiments/headroom/oracle.csv    # for tables and plots

The task inside the program (`jsafe.device.make`) is its own model. The cross-entropy method of the library plans H
actions, each held for some steps, and acts on the first; a plan is worth its return less `price` times its cost, so
that a price of 0 ignores costs and a large one avoids them. It sees all but what will be drawn: goals that come after
the present one are drawn anew in every plan, and nothing is hoped of them. Each price gives a point of return against
cost; between two points lies what a mixture of both reaches, so that the return at a cost of 25 or 0 is read off the
hull of the points (`--table`).

This is a lower bound of what is possible: a better planner, a longer view or more candidates may find more.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import device, envs
from jsafe.components.planners import CEM
from jsafe.components.scores.base import Judged
from jsafe.envs.device.point import PointEnv
from jsafe.types import env_spec

COLUMNS = ("task", "price", "episodes", "return", "return_error", "cost", "cost_error", "success", "cpu_s")
NUMBERS = ("return_mean", "return_std", "cost_mean", "cost_std")
PUBLISHED = ("env", "algorithm", *NUMBERS, "limit", "steps", "runs", "data", "source")


FADE = 0.99
"""Discount within a plan, per step: a goal is worth more the earlier it is reached."""


def oracle(env: device.DeviceEnv, cem: CEM, held: int):
    """`(state, mean [H, A], price, key) -> Planned`: what to do in a state of the task."""
    planner = cem.build(env.spec)
    fade = FADE ** jnp.arange(cem.horizon * held)

    def hold(state, inputs):
        """Some steps of the same action: the state, and `[held]` reward, cost and goals."""
        action, key = inputs

        def step(state, key):
            state, out = env.step(state, action, key)
            return state, (out.reward, out.cost.sum(), out.info["success"].astype(jnp.float32))

        return jax.lax.scan(step, state, jax.random.split(key, held))

    def plan(state, mean, price, key):
        def evaluate(actions, key):
            keys = jax.random.split(key, cem.horizon)  # the same of all candidates

            def one(actions):
                reward, cost, goal = (x.reshape(-1) for x in jax.lax.scan(hold, state, (actions, keys))[1])
                # What is drawn after a goal is not known: a plan must not wait for a lucky draw.
                reward = jnp.where(jnp.cumsum(goal) - goal > 0, 0.0, reward)
                return (fade * reward).sum(), (fade * cost).sum()

            reward, cost = jax.vmap(one, in_axes=1)(actions)
            score = reward - price * cost
            return Judged(score, reward, cost[:, None], jnp.ones(score.shape, bool), jnp.bool_(True))

        return planner.plan(mean, evaluate, None, key, False)

    return plan


def player(env: device.DeviceEnv, cem: CEM, held: int, student=None, rows: bool = False):
    """`(price, key) -> (return, cost, goals)` of one episode of an oracle.

    Args:
      env: The task.
      cem: The planner.
      held: Steps for which an action is held.
      student: A learner and its policy's state: it acts, on what it sees, and the oracle only says what it would do.
      rows: Return what was seen at each step, what the oracle would do, reward and cost, `[T, ...]` each, and the last
        observation in place of the sums.
    """
    plan = oracle(env, cem, held)

    def play(price, key):
        reset_key, key = jax.random.split(key)
        state, obs = env.reset(reset_key)

        def decide(carry, key):
            state, obs, mean, going = carry
            plan_key, real_key = jax.random.split(key)
            planned = plan(state, mean, price, plan_key)

            def step(carry, key):
                state, obs, going = carry
                action = planned.action
                if student is not None:
                    learner, policy = student
                    action = learner.act(policy, learner.memory.init(1), obs[None], key, True).action[0]
                state, out = env.step(state, action, key)
                told = (
                    (obs, planned.action, out.reward, out.cost)
                    if rows
                    else (going * out.reward, going * out.cost.sum(), going * out.info["success"])
                )
                return (state, out.obs, going & ~(out.terminated | out.truncated)), told

            (state, obs, going), told = jax.lax.scan(step, (state, obs, going), jax.random.split(real_key, held))
            return (state, obs, planned.mean, going), told

        start = (state, obs, jnp.zeros((cem.horizon, env.spec.act_dim)), jnp.bool_(True))
        (_, last, _, _), told = jax.lax.scan(decide, start, jax.random.split(key, env.spec.horizon // held))
        if rows:
            return *jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), told), last
        return jax.tree.map(lambda x: x.astype(jnp.float32).sum(), told)

    return play


def on_engine(id: str, cem: CEM, held: int, price: float, episodes: int, seed: int) -> list[np.ndarray]:
    """Return, cost and goals `[E]` of whole episodes in the exact engine; the plans are made inside the program."""
    host = envs.make(id, episodes, seed, num_threads=1)
    host.reset()
    task = host.task
    inside = PointEnv(id, host.simulation.robot, task)
    plan = jax.jit(jax.vmap(oracle(inside.env, cem, held), in_axes=(0, 0, None, 0)))
    enter = jax.jit(lambda saved: jax.tree.map(lambda *x: jnp.stack(x), *saved))
    mean, key = jnp.zeros((episodes, cem.horizon, host.spec.act_dim)), jax.random.key(seed)
    sums, going = np.zeros((3, episodes)), np.ones(episodes, bool)
    for t in range(host.spec.horizon // held):
        state = enter([inside.enter(host.get_state(i))[0] for i in range(episodes)])
        planned = plan(state, mean, price, jax.random.split(jax.random.fold_in(key, t), episodes))
        mean, action = planned.mean, np.asarray(planned.action, float)
        for _ in range(held):
            out = host.step(action)
            sums += going * np.stack([out.reward, out.cost.sum(axis=1), out.info["success"]])
            going &= ~(out.terminated | out.truncated)
        if not going.any():
            break
    host.close()
    return list(sums)


def in_branches(id: str, cem: CEM, held: int, price: float, episodes: int, seed: int) -> list[np.ndarray]:
    """Return, cost and goals `[E]` of whole episodes in the exact engine; a plan is tried in copies of its state."""
    copies = envs.make(id, cem.samples, seed, num_threads=1)
    copies.reset()
    planner, fade = cem.build(env_spec(copies)), FADE ** np.arange(cem.horizon * held)
    numbers = jax.ShapeDtypeStruct((cem.samples,), jnp.float32)
    here: dict[str, dict] = {}

    def tried(actions):
        for i in range(cem.samples):
            copies.set_state(i, here["state"])
        going, hoping = np.ones((2, cem.samples), bool)
        back, spent = np.zeros((2, cem.samples))
        for t in range(cem.horizon * held):
            out = copies.step(np.asarray(actions[t // held], float), mask=going)
            back += np.where(going & hoping, fade[t] * out.reward, 0.0)  # nothing after a goal, as in `oracle`
            spent += np.where(going, fade[t] * out.cost.sum(axis=1), 0.0)
            going &= ~(out.terminated | out.truncated)
            hoping &= ~out.info["success"]
            if not going.any():
                break
        return back.astype(np.float32), spent.astype(np.float32)

    def evaluate(actions, key):
        reward, cost = jax.pure_callback(tried, (numbers, numbers), actions)
        score = reward - price * cost
        return Judged(score, reward, cost[:, None], jnp.ones(score.shape, bool), jnp.bool_(True))

    plan = jax.jit(lambda mean, key: planner.plan(mean, evaluate, None, key, False))
    sums = np.zeros((3, episodes))
    for episode in range(episodes):
        real = envs.make(id, 1, seed + episode, num_threads=1)
        real.reset()
        mean = jnp.zeros((cem.horizon, real.spec.act_dim))
        for t in range(real.spec.horizon // held * held):
            if t % held == 0:
                here["state"] = real.get_state(0)
                planned = plan(mean, jax.random.fold_in(jax.random.key(seed + episode), t // held))
                mean, action = planned.mean, np.asarray(planned.action, float)[None]
            out = real.step(action)
            sums[:, episode] += out.reward[0], out.cost.sum(), out.info["success"][0]
            if out.terminated[0] or out.truncated[0]:
                break
        print(f"{id}, price {price:g}, episode {episode}: {sums[0, episode]:.1f} at {sums[1, episode]:.0f}", flush=True)
        real.close()
    copies.close()
    return list(sums)


def hull(points: np.ndarray, cost: float) -> float:
    """The largest return at a mean cost of at most so much, of mixtures of the points `[P, 2]` (cost, return)."""
    best = -math.inf
    for c, r in points:
        if c <= cost:
            best = max(best, r)
        for c2, r2 in points:
            if c <= cost < c2:
                best = max(best, r + (r2 - r) * (cost - c) / (c2 - c))
    return best


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a csv."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table(path: Path, costs=(0.0, 5.0, 25.0)) -> None:
    """Prints, for each task, the return at some costs; where no point costs as little, the cheapest one's."""
    rows = rows_of(path)
    print("| task | " + " | ".join(f"at cost {c:g}" for c in costs) + " | without a limit |")
    print("| --- |" + " --- |" * (len(costs) + 1))
    for task in dict.fromkeys(row["task"] for row in rows):
        points = np.array([[float(row["cost"]), float(row["return"])] for row in rows if row["task"] == task])
        cells = []
        for cost in costs:
            found = hull(points, cost)
            c, r = points[points[:, 0].argmin()]
            cells.append(f"{found:.1f}" if math.isfinite(found) else f"{r:.1f} at {c:.2f}")
        free = points[points[:, 1].argmax()]
        print(f"| {task} | {' | '.join(cells)} | {free[1]:.1f} at {free[0]:.0f} |")


def publish(path: Path, limit: float = 25.0) -> None:
    """Writes what is possible within a limit as the benchmark's published results have it; the spread is that of the
    episodes of the point with the largest return within the limit, or of the cheapest one."""
    rows = rows_of(path)
    into = Path(__file__).parents[1] / "benchmark" / "published" / "oracle.csv"
    with open(into, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PUBLISHED)
        for task in dict.fromkeys(row["task"] for row in rows):
            here = [row for row in rows if row["task"] == task]
            inside = [row for row in here if float(row["cost"]) <= limit]
            best = (
                max(inside, key=lambda r: float(r["return"])) if inside else min(here, key=lambda r: float(r["cost"]))
            )
            episodes = int(best["episodes"])
            stds = [f"{float(best[f'{name}_error']) * math.sqrt(episodes):.2f}" for name in ("return", "cost")]
            numbers = best["return"], stds[0], best["cost"], stds[1]
            source = f"experiments/headroom/oracle.py, price {best['price']}"
            seen = f"{task}-modelbased"  # the same task for a planner, seen otherwise
            for id in (task, *([seen] if seen in envs.list_ids() else [])):
                writer.writerow((id, "oracle", *numbers, f"{limit:g}", "", episodes, "", source))
    print(into)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=["SafetyPointGoal1-v0"])
    parser.add_argument("--prices", nargs="+", type=float, default=[0.0, 0.03, 0.1, 1.0])
    parser.add_argument("--episodes", type=int, default=16)
    parser.add_argument("--plan", type=int, default=10, help="actions of a plan")
    parser.add_argument("--held", type=int, default=4, help="steps for which an action is held")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--elites", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", action="store_true", help="act in the exact engine")
    parser.add_argument("--branch", action="store_true", help="act in the exact engine, and plan in copies of it")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a csv, and run nothing")
    parser.add_argument("--publish", type=Path, help="make the benchmark's published/oracle.csv from a csv")
    given = parser.parse_args()
    if given.episodes < 2:
        parser.error(f"--episodes must be at least 2, for a standard error, got {given.episodes}")
    if not 1 <= given.held <= 1000:
        parser.error(f"--held must be at least 1 and at most 1000, got {given.held}")
    if not all(0 <= price < math.inf for price in given.prices):
        parser.error(f"--prices must be at least 0, got {given.prices}")
    if given.table is not None or given.publish is not None:
        table(given.table) if given.table is not None else publish(given.publish)
        return
    rows = []
    if given.csv is not None and given.csv.exists():
        rows = rows_of(given.csv)
    cem = CEM(
        horizon=given.plan,
        samples=given.samples,
        elites=given.elites,
        iterations=given.iterations,
        init_var=1.0,
        sampling="clipped",
    )
    for id in given.ids:
        play = None
        if not (given.engine or given.branch):
            play = jax.jit(jax.vmap(player(device.make(id), cem, given.held), in_axes=(None, 0)))
        keys = jax.random.split(jax.random.key(given.seed), given.episodes)
        for price in given.prices:
            start = time.process_time()
            if play is None:
                acted = in_branches if given.branch else on_engine
                found = acted(id, cem, given.held, price, given.episodes, given.seed)
            else:
                found = [np.asarray(x, float) for x in play(price, keys)]
            (back, back_error), (cost, cost_error) = ((x.mean(), x.std(ddof=1) / math.sqrt(len(x))) for x in found[:2])
            row = (id, price, given.episodes, back, back_error, cost, cost_error, found[2].mean())
            told = [x if isinstance(x, str | int) else f"{x:.3f}" for x in row]
            rows = [r for r in rows if (r["task"], float(r["price"])) != (id, price)]
            rows.append(dict(zip(COLUMNS, (*told, f"{time.process_time() - start:.0f}"))))
            print(rows[-1], flush=True)
            if given.csv is not None:
                with open(given.csv, "w", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
