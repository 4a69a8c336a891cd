"""What a trained run does: statistics over episodes, and videos."""

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

from jsafe import logging, train, video
from jsafe.checkpoint import Loaded, load_state
from jsafe.config import env_seed
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
    config, algorithm, _ = train.read(folder)
    learner, loaded = restore(folder)
    seed = env_seed(config.seed, 1) if seed is None else seed
    made = train.make_env(env or config.env, min(episodes, 16), seed, num_threads, config.costs)
    each = -(-episodes // made.num_envs)  # at most, and of at most `horizon` steps
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        on_step = _progress(stack, console, each * made.num_envs * made.spec.horizon)
        result = _rollout(made, learner, loaded.state, episodes, seed, deterministic, on_step)
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
        raise train.RunError(f"cannot write {path}: {error}") from error
    return report


def restore(folder: str | os.PathLike) -> tuple[Learner, Loaded]:
    """The learner of a run, and the state in its newest checkpoint.

    Example:
      >>> learner, loaded = jsafe.evaluation.restore("runs/seditor")
      >>> out = learner.act(learner.policy(loaded.state), obs, key, True)
    """
    config, algorithm, options = train.read(folder)
    learner = train.make_learner(algorithm, options, config.env, config.costs)
    return learner, load_state(folder, jax.eval_shape(learner.init, jax.random.key(0)))


def record(folder: str | os.PathLike, output: str | os.PathLike, **options: Any) -> video.Recording:
    """Films the newest checkpoint of a run on its own task: `play(task, output, policy=folder, **options)`."""
    return play(train.read(folder)[0].env, output, policy=folder, **options)


def play(
    env: str,
    output: str | os.PathLike,
    *,
    policy: str | os.PathLike = "random",
    episodes: int = 1,
    steps: int | None = None,
    deterministic: bool = True,
    seed: int | None = None,
    camera: str | None = None,
    width: int = 640,
    height: int = 480,
    console: Console | None = None,
) -> video.Recording:
    """Writes a video of a task, in real time (one frame per environment step).

    Args:
      env: The task's id.
      output: The file, for example `out.mp4`.
      policy: A run folder, for the policy of its newest checkpoint; or `random`.
      episodes: Number of episodes, one after the other.
      steps: End the video after so many steps at the latest.
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the environment and of sampled actions; by default one that the training never used (random: 0).
      camera: Camera of the task; its default one where None.
      width: Pixels.
      height: Pixels.
      console: Where to show progress; nowhere by default.

    Raises:
      RunError: If there is no run, the task cannot be drawn or does not fit the policy, no GL library is there, or the
        file cannot be written.
      CheckpointError: If there is no readable checkpoint.
      ValueError: For an unknown task or kind of file, or a number of episodes or steps below one.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    view = {"width": width, "height": height} | ({} if camera is None else {"camera": camera})
    costs = "sum"
    if policy == "random":
        seed = 0 if seed is None else seed
    else:
        config, _, _ = train.read(policy)
        learner, loaded = restore(policy)
        seed, costs = env_seed(config.seed, 1) if seed is None else seed, config.costs
    made = train.make_env(env, 1, seed, None, costs)

    def rollout(filmed):
        if policy == "random":
            video.random_policy(filmed, episodes, seed)
        else:
            _rollout(filmed, learner, loaded.state, episodes, seed, deterministic)

    total = min(episodes * made.spec.horizon, steps or episodes * made.spec.horizon)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        if policy != "random" and env != config.env:
            _check_fit(made, config)
        on_step = _progress(stack, console, total)
        try:
            return video.record(made, output, rollout, steps=steps, on_step=on_step, **view)
        except video.VideoError as error:
            raise train.RunError(str(error)) from error


def _check_fit(made: Any, config: Any) -> None:
    trained = train.make_env(config.env, 1, 0, None, config.costs)
    trained.close()
    for name in ("obs_dim", "act_dim"):
        have, want = getattr(made.spec, name), getattr(trained.spec, name)
        if have != want:
            raise train.RunError(f"{made.spec.id} has {name} {have}, but the policy was trained with {want}")


def _progress(stack: contextlib.ExitStack, console: Console | None, total: int) -> Callable[[int], None] | None:
    """Shows environment steps on a console until the stack is left."""
    if console is None:
        return None
    progress = logging.Progress(console, total, plain_seconds=5.0)
    stack.callback(progress.close)
    return functools.partial(progress.update, values={})


def _rollout(
    env: Any,
    learner: Learner,
    state: Any,
    episodes: int,
    seed: int,
    deterministic: bool,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    from jsafe import collect

    return collect.evaluate(
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
