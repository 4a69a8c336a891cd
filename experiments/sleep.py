"""What sleeping objects change over whole episodes.

    python experiments/sleep.py --out experiments/sleep

Every task is run three times from the same seeds with the same actions, 1000 steps an episode: with sleeping (as the
engine does by default), without (as the official package), and without but with the robot put 1e-9 m aside at the
start. The actions were recorded from a noisy pilot, who drives at the goal in half of the episodes and at the vases or
the box in the others; his own run (a shift to the other side) is not compared. Contacts multiply any difference by
orders of magnitude, so trajectories part ways after a while in any case: the shifted run says how much of the
difference is that, and nothing else.

Writes `sleep.csv` (one line per episode and run) and `sleep.md` (means, and paired differences).
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import time

import numpy as np

import jsafe.envs

TASKS = {"SafetyPointGoal2-v0": "vases_lidar", "SafetyPointPush2-v0": "push_box_lidar"}
RUNS = ("asleep", "awake", "shifted")
STEPS = 1000


def pilot(obs, slices, other, rng):
    """Drives at the goal (first half of the environments) or at other objects, with noise."""
    half = len(obs) // 2
    lidar = np.concatenate([obs[:half, slice(*slices["goal_lidar"])], obs[half:, slice(*slices[other])]])
    angle = (lidar.argmax(axis=1) + 0.5) * (2 * np.pi / lidar.shape[1])
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    turn = np.clip(2 * angle, -1, 1) + 0.3 * rng.normal(size=len(obs))
    speed = np.where(np.abs(angle) < 0.8, 1.0, 0.1) + 0.2 * rng.normal(size=len(obs))
    return np.clip(np.stack([speed, turn], axis=1), -1, 1)


def run(name, episodes, sleep, shift, actions=None):
    """Statistics of each episode, the actions taken (None: the pilot's), positions over time, steps per second."""
    rng = np.random.default_rng(0)
    env = jsafe.envs.make(name, num_envs=episodes, seed=0, sleep=sleep)
    obs = env.reset()
    for i in range(episodes if shift else 0):
        x, y, z = (env.get_state(i)["joints"][joint] for joint in "xyz")
        env.set_state(i, {"joints": {"x": (x[0] + shift, *x[1:]), "y": y, "z": z}})
    moving = slice(env.simulation.free, None)
    taken = np.empty((STEPS, episodes, env.spec.act_dim))
    where = np.empty((STEPS, episodes, 1 + env.simulation.pos[:, moving].shape[1], 3))
    totals = {"return": np.zeros(episodes), "goals": np.zeros(episodes)}
    start = time.perf_counter()
    for step in range(STEPS):
        taken[step] = pilot(obs, env.spec.obs_slices, TASKS[name], rng) if actions is None else actions[step]
        where[step, :, 0], where[step, :, 1:] = env.simulation.scene.agent_pos, env.simulation.pos[:, moving]
        out = env.step(taken[step])
        obs = out.obs
        totals["return"] += out.reward
        totals["goals"] += out.info["success"]
        for key, value in out.info.items():
            if key.startswith("cost_"):
                totals[key] = totals.get(key, np.zeros(episodes)) + value
    rate = STEPS * episodes / (time.perf_counter() - start)
    env.close()
    speed = np.sqrt((np.diff(where[:, :, 1:], axis=0) ** 2).sum(axis=-1)) / env.spec.dt
    totals["object_speed"] = speed.mean(axis=(0, 2))
    totals["object_path"] = speed.sum(axis=(0, 2)) * env.spec.dt
    return totals, taken, where, rate


def _short(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--out", default="experiments/sleep", help="folder")
    args = parser.parse_args()
    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    rows, text = [], ["# Sleeping objects over whole episodes", ""]
    text += [f"{args.episodes} episodes of {STEPS} steps, same seeds and actions in each run. "
             "Made by `python experiments/sleep.py`, which says what the runs are. Differences are means of paired "
             "differences ± their standard errors.", ""]  # fmt: skip
    for name in args.tasks:
        results, paths, rates = {}, {}, {}
        actions = run(name, args.episodes, sleep=True, shift=-1e-9)[1]
        for kind in RUNS:
            shift = 1e-9 if kind == "shifted" else 0.0
            results[kind], _, paths[kind], rates[kind] = run(name, args.episodes, kind == "asleep", shift, actions)
            print(name, kind, {key: round(float(value.mean()), 4) for key, value in results[kind].items()}, flush=True)
            for i in range(args.episodes):
                rows.append({"task": name, "run": kind, "episode": i, **{k: v[i] for k, v in results[kind].items()}})
        text += [
            f"## {name}",
            "",
            "| per episode | asleep | awake | awake, shifted | asleep - awake | shifted - awake |",
        ]
        text += ["|---|---|---|---|---|---|"]
        for key in results["awake"]:
            means = [f"{results[kind][key].mean():.4g}" for kind in RUNS]
            for kind in ("asleep", "shifted"):
                d = results[kind][key] - results["awake"][key]
                means.append(f"{d.mean():+.3g} ± {d.std() / np.sqrt(len(d)):.2g}")
            text.append(f"| {key} | " + " | ".join(means) + " |")
        text += [
            "",
            "Largest distance between the runs (robot or any object), median and worst over the episodes, m:",
            "",
        ]
        text += ["| step | asleep - awake | shifted - awake |", "|---|---|---|"]
        apart = {k: np.sqrt(((paths[k] - paths["awake"]) ** 2).sum(-1)).max(-1) for k in ("asleep", "shifted")}
        for step in (1, 10, 30, 100, 300, STEPS - 1):
            cells = [f"{np.median(apart[k][step]):.1e}, {apart[k][step].max():.1e}" for k in ("asleep", "shifted")]
            text.append(f"| {step} | " + " | ".join(cells) + " |")
        text += ["", f"Steps per second here: {rates['asleep']:.0f} asleep, {rates['awake']:.0f} awake.", ""]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with open(folder / "sleep.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, keys, restval="")
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    (folder / "sleep.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
