"""Replays recordings of the official package, step by step, and sorts the steps that differ by what was touched.

    python experiments/parity/pinned.py FOLDER      # of .npz recordings, as described in the README beside this file

Every step starts from the recorded state. A step counts as touching when, before or after it, the robot or a free
object was in contact with anything but the floor.
"""

import json
import pathlib
import sys

import mujoco
import numpy as np

import jsafe.envs

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "envs" / "safety_gym"))
import recordings

TOLERANCE = 1e-5


def touches(model: mujoco.MjModel, data: mujoco.MjData) -> set[tuple[str, str]]:
    """Kinds of bodies that touch one another; the floor does not count."""
    pairs = set()
    for contact in data.contact:
        roots = [model.body(int(model.body_rootid[model.geom_bodyid[g]])).name for g in contact.geom]
        if "world" not in roots and roots[0] != roots[1]:
            pairs.add(tuple(sorted(name.rstrip("0123456789").replace("obj", "") for name in roots)))
    return pairs


def replay(path: pathlib.Path) -> tuple[str, list[dict]]:
    """Id, and for every step what was touched and how far observation, reward, cost and flags were off."""
    with np.load(path) as file:
        g = {name: file[name] for name in file.files}
    g["meta"] = json.loads(str(g["meta"]))
    id, n = g["meta"]["env"], len(g["reward"])
    env = jsafe.envs.make(id, num_envs=n, seed=0)
    env.reset()
    model, data = env.simulation.world.model, env.physics.data
    for k in range(n):
        env.set_state(k, recordings.state(g, k))
    before = [touches(model, d) for d in data]
    out = env.step(g["action"].astype(float))
    met = g["info_goal_met"] > 0 if "info_goal_met" in g else np.zeros(n, bool)
    steps = []
    for k in range(n):
        steps.append({
            "touched": before[k] | touches(model, data[k]),
            "obs": 0.0 if met[k] else np.abs(out.final_obs[k] - g["obs"][k]).max(),
            "reward": abs(out.reward[k] - g["reward"][k]),
            "cost": abs(out.cost[k].sum() - g["cost"][k]),
            "flags": bool(out.terminated[k] != g["terminated"][k] or out.truncated[k] != g["truncated"][k]),
        })  # fmt: skip
    return id, steps


def main() -> None:
    """Prints a Markdown table."""
    print(
        "| id | steps | differ: free | differ: touching | touching | obs, free | obs, touching | reward | cost, flags |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    total = np.zeros(4, int)
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.npz")):
        id, steps = replay(path)
        off = [max(s["obs"], s["reward"], s["cost"], s["flags"]) > TOLERANCE for s in steps]
        touching = [bool(s["touched"]) for s in steps]
        free = sum(o and not t for o, t in zip(off, touching))
        hit = sum(o and t for o, t in zip(off, touching))
        total += (len(steps), free, hit, sum(touching))
        worst = [max([s["obs"] for s, t in zip(steps, touching) if t == which], default=0.0) for which in (False, True)]
        reward, cost = max(s["reward"] for s in steps), sum(s["cost"] > 0 or s["flags"] for s in steps)
        row = (id, len(steps), free, hit, sum(touching), *(f"{w:.0e}" for w in worst), f"{reward:.0e}", cost)
        print(f"| {' | '.join(map(str, row))} |")
    print(f"| all | {total[0]} | {total[1]} | {total[2]} | {total[3]} | | | | |")


if __name__ == "__main__":
    main()
