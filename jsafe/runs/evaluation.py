"""What a trained run does: statistics over episodes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jsafe import data
from jsafe.curves import logging
from jsafe.runs.build import make_env, make_learner
from jsafe.runs.checkpoint import Loaded, load_state
from jsafe.runs.config import env_seed
from jsafe.runs.folder import RunError, read
from jsafe.types import Learner


def evaluate(
    folder: str | os.PathLike,
    *,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int | None = None,
    num_threads: int | None = None,
    env: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Runs the policy of the newest checkpoint and writes RUN/evaluation.json.

    Args:
      folder: The run folder.
      episodes: Number of whole episodes.
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the environments and of sampled actions; by default one that the training never used.
      num_threads: Threads that step the environments.
      env: Another task with the same observations and actions.
      console: Where to show progress; nowhere by default.

    Returns:
      What the file holds: mean and standard deviation (`std`, over episodes) of `return`, `cost` (summed over the cost
      signals) and `length`, `success` (share), `cost_rate` (cost per step), and `per_episode` values.

    Raises:
      RunError: If there is no run, or the file cannot be written.
      CheckpointError: If there is no readable checkpoint.
      ValueError: For fewer than one episode.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    config, algorithm, _ = read(folder)
    learner, loaded = restore(folder)
    seed = env_seed(config.seed, 1) if seed is None else seed
    made = make_env(env or config.env, min(episodes, 16), seed, num_threads, config.costs)
    each = -(-episodes // made.num_envs)  # at most, and of at most `horizon` steps
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        on_step = show_progress(stack, console, each * made.num_envs * made.spec.horizon)
        result = rollout(made, learner, loaded.state, episodes, seed, deterministic, on_step)
    report = {
        "algorithm": algorithm,
        "env": env or config.env,
        "iteration": loaded.iteration,
        "env_steps": loaded.extra["env_steps"],
        "episodes": episodes,
        "deterministic": deterministic,
        "seed": seed,
        **_statistics(result),
    }
    path = Path(folder) / "evaluation.json"
    try:
        path.write_text(json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error
    return report


def restore(folder: str | os.PathLike) -> tuple[Learner, Loaded]:
    """The learner of a run, and the state in its newest checkpoint.

    Example:
      >>> learner, loaded = jsafe.runs.evaluation.restore("runs/seditor")
      >>> out = learner.act(learner.policy(loaded.state), obs, key, True)
    """
    config, algorithm, options = read(folder)
    learner = make_learner(algorithm, options, config.env, config.costs)
    return learner, load_state(folder, jax.eval_shape(learner.init, jax.random.key(0)))


def show_progress(stack: contextlib.ExitStack, console: Console | None, total: int) -> Callable[[int], None] | None:
    """Shows environment steps on a console until the stack is left."""
    if console is None:
        return None
    progress = logging.Progress(console, total, plain_seconds=5.0)
    stack.callback(progress.close)
    return functools.partial(progress.update, values={})


def rollout(
    env: Any,
    learner: Learner,
    state: Any,
    episodes: int,
    seed: int,
    deterministic: bool,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    return data.evaluate(
        env,
        learner.act,
        learner.policy(state),
        episodes,
        jax.random.key(seed),
        deterministic,
        frame_stack=getattr(learner.data, "frame_stack", 1),
        transform=getattr(learner.data, "transform", None),
        seed=seed,
        on_step=on_step,
    )


def _statistics(result: dict[str, np.ndarray]) -> dict[str, Any]:
    cost = result["cost"].sum(axis=1)
    return {
        "return": _mean_std(result["return"]),
        "cost": _mean_std(cost),
        "length": _mean_std(result["length"]),
        "success": float(result["success"].mean()),
        "cost_rate": float(cost.sum() / result["length"].sum()),
        "per_episode": {name: values.tolist() for name, values in result.items()},
    }


def _mean_std(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "std": float(values.std())}
