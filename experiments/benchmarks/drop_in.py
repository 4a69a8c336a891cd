"""Their code, on the official engine and on ours: environment steps per second of CPU time.

    python experiments/benchmarks/drop_in.py steps omnisafe fsrl sb3 --csv experiments/benchmarks/results/drop_in.csv
    python experiments/benchmarks/drop_in.py --engine official steps omnisafe fsrl sb3

`steps`: random actions through `safety_gymnasium.make` and `safety_gymnasium.vector.make`, as these libraries do.
`omnisafe`: its own `PPOLag`, an epoch. `fsrl`: its own `PPOLagAgent`, an epoch. `sb3`: Stable-Baselines3's own `PPO` on
`gymnasium.make("SafetyPointGoal1Gymnasium-v0")`. What is not installed is told and left out. The official engine needs
Python 3.10 and packages of its time:

    python3.10 -m venv official && . official/bin/activate
    pip install 'numpy<2' 'setuptools<70' safety-gymnasium==1.0.0

[Their algorithm, our engine](../../docs/pages/drop_in.md) says with which versions the trainings were measured.

Seconds are CPU seconds of this process and of those that it started: another load of the machine slows the clock on the
wall and these little, by the caches that are shared.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ENV = "SafetyPointGoal1-v0"


def seconds() -> float:
    """CPU seconds of this process and its children so far."""
    return sum(os.times()[:4])


def steps(count: int) -> list[tuple[str, float]]:
    """Random actions: one environment, and 20 side by side."""
    import safety_gymnasium

    found = []
    env = safety_gymnasium.make(ENV)
    env.reset(seed=0)
    env.action_space.seed(0)
    began = seconds()
    for _ in range(count):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    found.append(("random actions, one environment", count / (seconds() - began)))
    env.close()
    envs = safety_gymnasium.vector.make(env_id=ENV, num_envs=20, asynchronous=False)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    rows = max(1, count // 20)
    actions = [envs.action_space.sample() for _ in range(rows)]
    began = seconds()
    for action in actions:
        envs.step(np.asarray(action))
    found.append(("random actions, 20 environments", rows * 20 / (seconds() - began)))
    envs.close()
    return found


def omnisafe(count: int) -> list[tuple[str, float]]:
    """Its `PPOLag` with its own options: an epoch of `count` steps, two environments."""
    import omnisafe as theirs

    with tempfile.TemporaryDirectory() as folder:
        options = {
            "train_cfgs": {"total_steps": count, "vector_env_nums": 2, "parallel": 1, "torch_threads": 1},
            "algo_cfgs": {"steps_per_epoch": count},
            "logger_cfgs": {"use_wandb": False, "use_tensorboard": False, "log_dir": folder},
        }
        agent = theirs.Agent("PPOLag", ENV, custom_cfgs=options)
        began = seconds()
        agent.learn()
    return [("OmniSafe's PPOLag, collection and update", count / (seconds() - began))]


def fsrl(count: int) -> list[tuple[str, float]]:
    """Its `PPOLagAgent` with its own options: an epoch of four environments."""
    from fsrl.agent import PPOLagAgent
    from fsrl.utils import BaseLogger
    from tianshou.env import DummyVectorEnv

    agent = PPOLagAgent(five_results(), BaseLogger(), thread=1)
    envs = DummyVectorEnv([five_results] * 4)
    began = seconds()
    agent.learn(envs, epoch=1, episode_per_collect=4, step_per_epoch=count, save_ckpt=False, show_progress=False)
    return [("FSRL's PPOLagAgent, collection and update", count / (seconds() - began))]


def five_results() -> Any:
    """An environment as Gymnasium has them, its cost in the info, from whichever engine is there."""
    import gymnasium
    import safety_gymnasium  # noqa: F401  # registers it

    return gymnasium.make(ENV.replace("-", "Gymnasium-"))


def sb3(count: int) -> list[tuple[str, float]]:
    """Its `PPO` with its own options, four environments."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.set_num_threads(1)
    envs = DummyVecEnv([five_results] * 4)
    agent = stable_baselines3.PPO("MlpPolicy", envs, n_steps=500, seed=0, device="cpu")
    began = seconds()
    agent.learn(count)
    return [("Stable-Baselines3's PPO, collection and update", agent.num_timesteps / (seconds() - began))]


def main() -> None:
    """Runs what is asked for, and prints or writes a row each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", choices=["steps", "omnisafe", "fsrl", "sb3"])
    parser.add_argument("--engine", choices=["jsafe", "official"], default="jsafe")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    if given.engine == "jsafe":
        import jsafe.envs.export.drop_in  # noqa: F401
    rows = []
    for name in given.what:
        try:
            found = globals()[name](given.steps)
        except ImportError as error:
            print(f"{name}: left out, {error}")
            continue
        for what, speed in found:
            rows.append({"what": what, "engine": given.engine, "steps_per_cpu_second": f"{speed:.0f}"})
            rows[-1] |= {"python": platform.python_version(), "steps": given.steps, "date": time.strftime("%F")}
            print(rows[-1])
    if given.csv is not None and rows:
        new = not given.csv.exists()
        with open(given.csv, "a", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if new:
                table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
