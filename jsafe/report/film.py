"""Videos of trained runs and of tasks."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from rich.console import Console

from jsafe import data
from jsafe.deploy import evaluation as from_file
from jsafe.deploy.policy_file import Policy
from jsafe.deploy.reading import is_file, load
from jsafe.report import video
from jsafe.runs import evaluation
from jsafe.runs.build import build_env, on_host
from jsafe.runs.checkpoint import Which
from jsafe.runs.config import RunConfig, env_seed
from jsafe.runs.folder import RunError, read


def record(
    folder: str | os.PathLike, output: str | os.PathLike, env: str | None = None, **options: Any
) -> video.Recording:
    """Films the newest checkpoint of a run, on its own task by default: `play(task, output, policy=folder, ...)`."""
    return play(env or read(folder).config.env, output, policy=folder, **options)


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
    bars: bool = False,
    plans: bool = False,
    env_options: Mapping[str, Any] | None = None,
    checkpoint: Which = None,
    console: Console | None = None,
) -> video.Recording:
    """Writes a video of a task, in real time (one frame per environment step; of a .gif 25 a second at most).

    Args:
      env: The task's id.
      output: The file, for example `out.mp4`.
      policy: What `jsafe.load` takes: a run folder (its newest checkpoint), a policy file, `zoo:NAME`; or `random`.
      episodes: Number of episodes, one after the other.
      steps: End the video after so many steps at the latest.
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the environment and of sampled actions; by default one that the training never used (random: 0).
      camera: Camera of the task; its default one where None.
      width: Pixels.
      height: Pixels.
      bars: Draw the components of the action as bars below the picture; where a learner acts that has a proposal
        (SEditor), that, too, and the edit.
      plans: Mark in the scene where each net of a planner's model expected the robot to go, when the last action was
        chosen.
      env_options: For the constructor of the environment; on the run's own task they are added to the run's.
      checkpoint: Of a run folder, `best` or an iteration in place of the newest.
      console: Where to show progress; nowhere by default.

    Raises:
      RunError: If there is no run, the task cannot be drawn or does not fit the policy, no GL library is there, or the
        file cannot be written.
      CheckpointError: If there is no readable checkpoint.
      ValueError: For an unknown task or kind of file, a number of episodes or steps below one, bars of actions that
        are no vector in a box, or plans of what does not plan with coordinates.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    video.check_output(output)
    view: dict[str, Any] = {"width": width, "height": height} | ({} if camera is None else {"camera": camera})
    if plans and (policy == "random" or is_file(policy)):
        raise ValueError(f"plans are those of a run folder, not of {policy}")
    player = _player(policy, env, deterministic, checkpoint)
    outside = {"render_mode": "rgb_array"} if ":" in env else {}  # those have to know in advance
    config = evaluation.elsewhere(player.config, env, outside | dict(env_options or {}))
    if seed is None:
        seed = 0 if policy == "random" else env_seed(config.seed, 1)
    made = build_env(on_host(config), 1, seed)
    total = min(episodes * made.spec.horizon, steps or episodes * made.spec.horizon)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        player.check(made)
        on_step = evaluation.show_progress(stack, console, total)
        try:
            rollout = functools.partial(player.run, episodes=episodes, seed=seed)
            return video.record(
                made, output, rollout, steps=steps, on_step=on_step, with_bars=bars, with_plans=plans, **view
            )
        except video.VideoError as error:
            raise RunError(str(error)) from error


class _Player(NamedTuple):
    """Who acts: on what by default, whether it can act in an environment, and its episodes."""

    config: RunConfig
    check: Callable[[Any], None]
    run: Callable[..., Any]


def _player(policy: str | os.PathLike, env: str, deterministic: bool, checkpoint: Which) -> _Player:
    if checkpoint is not None and (policy == "random" or is_file(policy)):
        raise ValueError(f"checkpoint={checkpoint!r} is for a run folder, not for {policy}")
    if policy == "random":
        return _Player(RunConfig(env), lambda made: None, video.random_policy)
    if is_file(policy):
        acting = load(policy, deterministic)
        run = functools.partial(_play_file, acting)
        return _Player(from_file.config_of(acting, env), lambda made: from_file.check_fit(made, acting), run)
    learner, loaded = evaluation.restore(policy, checkpoint)

    def run_learner(filmed, episodes, seed):
        acting = data.Policy(learner, learner.policy(loaded.state), deterministic)
        for _ in data.play(filmed, acting, jax.random.key(seed), seed=seed, tell=filmed.tell):
            if len(filmed.episodes) == episodes:
                break

    return _Player(read(policy).config, lambda made: evaluation.check_fit(made, learner.spec), run_learner)


def _play_file(acting: Policy, filmed: Any, episodes: int, seed: int) -> None:
    data.run_episodes(filmed, from_file.acting(acting), episodes, seed=seed)
