"""Videos of trained runs and of tasks."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from rich.console import Console

from jsafe.report import video
from jsafe.runs import evaluation
from jsafe.runs.build import make_env
from jsafe.runs.config import env_seed
from jsafe.runs.folder import RunError, read


def record(folder: str | os.PathLike, output: str | os.PathLike, **options: Any) -> video.Recording:
    """Films the newest checkpoint of a run on its own task: `play(task, output, policy=folder, **options)`."""
    return play(read(folder)[0].env, output, policy=folder, **options)


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
        config, _, _ = read(policy)
        learner, loaded = evaluation.restore(policy)
        seed, costs = env_seed(config.seed, 1) if seed is None else seed, config.costs
    made = make_env(env, 1, seed, None, costs)

    def rollout(filmed):
        if policy == "random":
            video.random_policy(filmed, episodes, seed)
        else:
            evaluation.rollout(filmed, learner, loaded.state, episodes, seed, deterministic)

    total = min(episodes * made.spec.horizon, steps or episodes * made.spec.horizon)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        if policy != "random" and env != config.env:
            _check_fit(made, config)
        on_step = evaluation.show_progress(stack, console, total)
        try:
            return video.record(made, output, rollout, steps=steps, on_step=on_step, **view)
        except video.VideoError as error:
            raise RunError(str(error)) from error


def _check_fit(made: Any, config: Any) -> None:
    trained = make_env(config.env, 1, 0, None, config.costs)
    trained.close()
    for name in ("obs_dim", "act_dim"):
        have, want = getattr(made.spec, name), getattr(trained.spec, name)
        if have != want:
            raise RunError(f"{made.spec.id} has {name} {have}, but the policy was trained with {want}")
