"""What a policy file does: statistics over episodes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console

from jsafe import data
from jsafe.components.limits import CostLimit
from jsafe.deploy.policy_file import Policy
from jsafe.deploy.reading import load
from jsafe.options import from_json
from jsafe.runs import evaluation
from jsafe.runs.build import build_env
from jsafe.runs.config import RunConfig, env_seed
from jsafe.runs.folder import RunError
from jsafe.types import spec_from_json


def evaluate(
    where: str | os.PathLike,
    *,
    episodes: int = 100,
    seed: int | None = None,
    num_threads: int | None = None,
    env: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Runs the policy of a file; nothing is written.

    Args:
      where: A policy file or `zoo:NAME`.
      episodes: Number of whole episodes.
      seed: Seed of the environments; by default one that the training never used.
      num_threads: Threads that step the environments.
      env: Another task with the same observations and actions.
      env_options: For the constructor of the environment; on the policy's own task they are added to its own.
      console: Where to show progress; nowhere by default.

    Returns:
      As `jsafe.runs.evaluation.evaluate`.

    Raises:
      RunError: If the task does not fit the policy, or is not known.
      ValueError: If the file is no policy, for fewer than one episode, or an unknown task.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    policy = load(where)
    config, about = config_of(policy, env, env_options), policy.about
    seed = env_seed(config.seed, 1) if seed is None else seed
    made = build_env(config, min(episodes, 16), seed, num_threads)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        check_fit(made, policy)
        most = -(-episodes // made.num_envs) * made.num_envs * made.spec.horizon
        on_step = evaluation.show_progress(stack, console, most)
        result = data.run_episodes(made, acting(policy), episodes, seed=seed, on_step=on_step)
        names = tuple(made.spec.cost_names)
    limit = from_json(CostLimit, about["limit"]) if about.get("limit") else None
    return {
        "algorithm": about.get("algorithm", str(where)),
        "env": config.env,
        "env_steps": about.get("env_steps", 0),
        "episodes": episodes,
        "deterministic": True,
        "seed": seed,
        **evaluation.statistics(result, names, limit),
    }


def config_of(policy: Policy, env: str | None = None, env_options: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings that the policy was trained with, on another task or with other options of the environment.

    Raises:
      RunError: If neither the file nor `env` names the task.
    """
    about = policy.about
    task = about.get("env", env)
    if task is None:
        raise RunError("the file does not say which task the policy was trained on: name it with --env ID")
    options = tuple((about.get("env_options") or {}).items())
    own = RunConfig(task, options, costs=about.get("costs", "sum"), seed=about.get("seed", 0))
    return evaluation.elsewhere(own, env, env_options)


def check_fit(made: Any, policy: Policy) -> None:
    """Raises RunError if a policy cannot act in an environment, as far as its file tells."""
    if "spec" in policy.about:
        evaluation.check_fit(made, spec_from_json(policy.about["spec"]))


def acting(policy: Policy) -> data.Acting:
    """A policy as `jsafe.data.run_episodes` takes it; from the beginning."""
    policy.reset()

    def act(obs: Any, step: Any | None) -> np.ndarray:
        if step is None:
            return policy(obs)
        policy.reset(step.terminated | step.truncated)
        return policy(obs, step.cost)

    return act
