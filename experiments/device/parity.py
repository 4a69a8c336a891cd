"""Recorded steps of Point's tasks in the program, beside the recordings and the exact engine, in 64-bit floats.

    python experiments/device/parity.py RECORDINGS --csv experiments/device/parity.csv

`RECORDINGS` is a folder of `ID.npz` files of the official package (see `tests/envs/safety_gym/recordings.py` for what
is in them). Every step is entered from the recorded state by itself. A step is free if the robot keeps clear of
everything, and a push box rests; the others touch. Steps that reach the goal are left out: what follows is drawn.

| column | |
|---|---|
| `recorded`, `engine` | free steps: largest difference of an observation from the recording, from the engine; but for
the lidars of vases and gremlins |
| `reward` | free steps: of the reward, from the recording |
| `engine_recorded` | free steps: the engine from the recording, the same numbers |
| `speed_50`, `speed_90`, `speed_100` | touching steps: difference of the velocimeter from the engine, m/s |
| `box_50`, `box_90`, `box_100` | touching steps: of the push box's place, m |
| `costs` | touching steps in which a cost differs |
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jsafe.envs
from jsafe import device
from jsafe.envs.device.point import PointEnv

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "envs" / "safety_gym"))
import recordings

CLEAR = 0.04
"""Metres that the robot must be away from a thing to be sure not to meet it within a step: it is slower than 2 m/s."""


def clearance(env: PointEnv, state) -> jax.Array:
    """Distance of the robot to the nearest thing that it could touch, or less."""
    body, found = state.body, [jnp.asarray(np.inf)]
    for kind in env.groups:
        if kind.collides:
            xy = state.xy[env.slices[kind.group]]
            reach = 1.5 * kind.size[0] * 2**0.5 if kind.shape == "push_box" else kind.size[0] * 2**0.5
            reach = kind.size[0] if kind.shape in ("sphere", "cylinder") else reach
            found.append((jnp.hypot(xy[:, 0] - body.x, xy[:, 1] - body.y) - reach).min() - 0.16)
    return jnp.stack(found).min()


def compare(path: Path) -> dict[str, object]:
    """The row of one recording."""
    with np.load(path) as file:
        g = {name: file[name] for name in file.files}
    g["meta"] = json.loads(str(g["meta"]))
    id, n = path.stem, len(g["reward"])
    host = jsafe.envs.make(id, num_envs=n, num_threads=1)
    host.reset()
    for k in range(n):
        host.set_state(k, recordings.state(g, k))
    env = device.make(id).step.__self__
    states = [env.enter(host.get_state(k))[0] for k in range(n)]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    actions = g["action"].astype(float)
    after, ours = jax.jit(jax.vmap(env.step, (0, 0, None)))(state, jnp.asarray(actions), jax.random.key(0))
    theirs = host.step(actions)
    ended = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[env.enter(host.get_state(k))[0] for k in range(n)])
    over = theirs.terminated | theirs.truncated
    clear = np.asarray(
        jnp.minimum(jax.vmap(lambda s: clearance(env, s))(state), jax.vmap(lambda s: clearance(env, s))(after))
    )
    boxes = [env.slices[kind.group].start for kind in env.groups if kind.shape == "push_box"]
    moved = np.abs(np.asarray(ended.xy - state.xy))[:, boxes].max(axis=(1, 2), initial=0) > 1e-9
    moved |= np.abs(np.asarray(ended.height - state.height)).max(axis=1, initial=0) > 1e-9  # it still sinks
    goes_on = g.get("info_goal_met", np.zeros(n)) == 0
    free, touching = goes_on & (clear > CLEAR) & ~moved, goes_on & (clear <= CLEAR) & ~over
    loose = [kind.lidar_key for kind in env.groups if kind.motion in ("free", "driven") and kind.shape != "push_box"]
    columns = np.concatenate([np.arange(*at) for name, at in env.spec.obs_slices.items() if name not in loose])

    def apart(a, b, rows):
        return float(np.abs(np.asarray(a) - np.asarray(b))[rows][:, columns].max(initial=0))

    row: dict[str, object] = {
        "id": id,
        "free": int(free.sum()),
        "recorded": apart(ours.obs, g["obs"], free),
        "engine": apart(ours.obs, theirs.final_obs, free),
        "reward": float(np.abs(np.asarray(ours.reward) - g["reward"])[free].max(initial=0)),
        "engine_recorded": apart(theirs.final_obs, g["obs"], free),
        "touching": int(touching.sum()),
    }
    speeds = slice(*env.spec.obs_slices["velocimeter"])
    speed = np.abs(np.asarray(ours.obs) - theirs.final_obs)[touching][:, speeds].max(axis=1)
    place = np.linalg.norm(np.asarray(after.xy - ended.xy)[touching][:, boxes], axis=-1).ravel()
    for name, values in (("speed", speed), ("box", place)):
        for share in (50, 90, 100):
            row[f"{name}_{share}"] = float(np.percentile(values, share)) if len(values) else ""
    row["costs"] = int((np.asarray(ours.cost) != theirs.cost).any(axis=1)[touching].sum())
    host.close()
    return row


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ids", nargs="+", help="recordings; all of Point by default")
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    files = [args.folder / f"{id}.npz" for id in args.ids] if args.ids else sorted(args.folder.glob("SafetyPoint*.npz"))
    rows = []
    for path in files:
        rows.append(compare(path))
        values = [
            f"{name} {value:.1e}" if isinstance(value, float) else f"{name} {value}" for name, value in rows[-1].items()
        ]
        print("  ".join(values[:1] + [v for v in values[1:] if not v.endswith(" ")]), flush=True)
        if args.csv:
            with open(args.csv, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows({k: f"{v:.2e}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


if __name__ == "__main__":
    main()
