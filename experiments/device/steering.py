"""The same hand-written policy in the program and on the exact engine: return, cost and events of whole episodes.

    python experiments/device/steering.py --episodes 256 --csv experiments/device/steering.csv

The policy steers towards where the goal's lidar is brightest (in a lane straight on, in a circle with a slow turn) and
drives; a share of its actions is random. It avoids nothing, so that hazards are crossed, vases pushed, buttons and
gremlins hit. `apart` is the difference of the means in standard errors.
"""

from __future__ import annotations

import argparse
import csv
import time

import jax
import jax.numpy as jnp
import numpy as np

import jsafe
from jsafe.data import evaluate
from jsafe.feeds import Rollouts
from jsafe.types import NO_MEMORY, ActOutput, Learner, PolicyState

IDS = [
    f"SafetyPoint{task}-v0"
    for task in ("Goal0", "Goal1", "Goal2", "Circle1", "Circle2", "Run0", "Button0", "Button1", "Button2")
]


def steering(spec) -> Learner:
    """The policy, for the observations of a task."""
    where = spec.obs_slices.get("goal_lidar")

    def act(policy_state, memory, obs, key, deterministic=False):
        noise_key, turn_key = jax.random.split(key)
        n = obs.shape[0]
        if where is None:
            angle = jnp.full(n, 0.3) * ("circle_lidar" in spec.obs_slices)
        else:
            lidar = obs[:, where[0] : where[1]]
            bins = lidar.shape[1]
            angle = (lidar.argmax(axis=1) + 0.5) * (2 * jnp.pi / bins)
            angle = jnp.where(angle > jnp.pi, angle - 2 * jnp.pi, angle)
        action = jnp.stack([jnp.where(jnp.abs(angle) < 1.0, 0.6, -0.1), 0.5 * angle], axis=1)
        noise = jax.random.uniform(noise_key, action.shape, minval=-1)
        action = jnp.where(jax.random.bernoulli(turn_key, 0.2, (n, 1)), noise, action)
        return ActOutput(jnp.clip(action, -1, 1), jnp.zeros(n), {}, memory)

    learnt = PolicyState({})
    feed = Rollouts(1, 1)
    seen = jsafe.EnvSpec(spec.obs, spec.action, spec.num_costs, spec.horizon)
    return Learner(
        lambda key: (), lambda state, *_: (state, {}), lambda state: learnt, act, NO_MEMORY, feed, None, seen
    )


def measure(id: str, backend: str, episodes: int, num_envs: int) -> tuple[dict[str, np.ndarray], float]:
    """Per-episode values, and environment steps per CPU second."""
    env = jsafe.envs.make(id, num_envs=num_envs, seed=7, backend=backend)
    learner = steering(env.spec)
    start = time.process_time()
    found = evaluate(env, learner, learner.policy(()), episodes, jax.random.key(1), False, seed=7)
    took = time.process_time() - start
    env.close()
    return {"return": found["return"], "cost": found["cost"][:, 0]}, found["length"].sum() / took


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=IDS)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--csv", help="also write the rows here")
    args = parser.parse_args()
    rows = []
    for id in args.ids:
        here, there = (measure(id, backend, args.episodes, args.num_envs)[0] for backend in ("device", "host"))
        for name in here:
            means = here[name].mean(), there[name].mean()
            errors = [x.std(ddof=1) / np.sqrt(len(x)) for x in (here[name], there[name])]
            apart = abs(means[0] - means[1]) / max(np.hypot(*errors), 1e-12)
            rows.append((id, name, args.episodes, *(round(float(x), 4) for x in (*means, *errors, apart))))
            print(
                f"{id:24s} {name:7s} device {means[0]:8.3f} +- {errors[0]:.3f}   "
                f"host {means[1]:8.3f} +- {errors[1]:.3f}   apart {apart:.1f}",
                flush=True,
            )
        if args.csv:
            with open(args.csv, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("id", "what", "episodes", "device", "host", "device_error", "host_error", "apart"))
                writer.writerows(rows)


if __name__ == "__main__":
    main()
