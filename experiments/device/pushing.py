"""Drives at the push box in the program and on the exact engine, from the same states, with the same actions.

    python experiments/device/pushing.py --drives 96

The box rests in the robot's way, turned and shifted by chance; the robot drives at it with full thrust (one in six
backwards) for 45 steps and away from it for 15, with some steering. Both sides in 64-bit floats.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jsafe.envs
from jsafe import device

ID, MARKS = "SafetyPointPush0-v0", (30, 45, 60)


def begin(host, n: int, rng: np.random.Generator) -> np.ndarray:
    """Puts the environments into random states before a drive; the sign of each thrust."""
    sign = np.where(np.arange(n) % 6 == 0, -1.0, 1.0)
    host.reset()
    for _ in range(40):  # until the box has settled
        host.step(np.zeros((n, 2)))
    zero = np.zeros(1)
    for i in range(n):
        aside, turn, heading = rng.uniform(-0.3, 0.3), rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3)
        pose = host.get_state(i)["joints"]["push_box"][0].copy()
        pose[:2], pose[3:] = 0, (np.cos(turn), 0, 0, np.sin(turn))
        joints = {
            "push_box": (pose, np.zeros(6), np.zeros(6)),
            "x": (np.array([-0.65]), np.array([rng.uniform(0, 0.8)]), zero),
            "y": (np.array([aside]), zero, zero),
            "z": (np.array([heading + (np.pi if sign[i] < 0 else 0)]), zero, zero),
        }
        host.set_state(i, {"joints": joints, "step": 0})
    return sign


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", type=int, default=96)
    n = parser.parse_args().drives
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    host = jsafe.envs.make(ID, n, num_threads=1)
    sign = begin(host, n, rng)
    env = device.make(ID).step.__self__

    def entered():
        return jax.tree.map(lambda *x: jnp.stack(x), *[env.enter(host.get_state(i))[0] for i in range(n)])

    def told(state):
        """Robot's x, box's x, y and turn."""
        at = env.slices["push_box"].start
        return np.stack([state.body.x, *np.moveaxis(state.xy[:, at], 1, 0), state.yaw[:, at]])

    state = entered()
    start = told(state)
    advance = jax.jit(jax.vmap(lambda state, action: env.advance(state, action)[0]))
    print("steps  moved m  of it  apart m  turned rad  of it  robot ahead mm")
    for t in range(1, MARKS[-1] + 1):
        thrust = sign if t <= MARKS[1] else -sign
        actions = np.stack([thrust, np.clip(rng.normal(0, 0.3, n), -1, 1)], axis=1)
        host.step(actions)
        state = advance(state, jnp.asarray(actions))
        if t in MARKS:
            ours, theirs = told(state) - start, told(entered()) - start
            moved, here = (np.hypot(x[1], x[2]).mean() for x in (theirs, ours))
            apart = np.hypot(*(ours - theirs)[1:3]).mean()
            turns = [np.abs((x[3] + np.pi) % (2 * np.pi) - np.pi).mean() for x in (theirs, ours)]
            ahead = 1000 * (sign * (ours - theirs)[0]).mean()
            turned = f"{turns[0]:11.3f} {turns[1] / turns[0]:6.3f}"
            print(f"{t:5d} {moved:8.3f} {here / moved:6.3f} {apart:8.3f} {turned} {ahead:8.1f}", flush=True)


if __name__ == "__main__":
    main()
