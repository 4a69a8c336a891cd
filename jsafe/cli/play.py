"""`jsafe play`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any

import tyro

from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.options import Options, number
from jsafe.runs.compiled import keep_programs
from jsafe.runs.folder import RunError


@dataclasses.dataclass(frozen=True)
class Play(Options):
    """Writes a video of a task in real time, with what the robot's lidars see and its costs drawn in; or lets you drive
    (`--keys`).

    `--env.KEY VALUE` gives the environment's constructor an option, `--import MODULE` imports a module first.
    """

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")]
    """The task, for example SafetyPointGoal1-v0."""
    policy: str = "random"
    """Run folder (its newest checkpoint), a file of `jsafe export`, `zoo:NAME`, or `random`."""
    checkpoint: str | None = None
    """`best` (the highest return of the evaluations that kept the limit: `jsafe train --eval-interval`), or an
    iteration. By default the newest checkpoint of the run folder."""
    video: Path | None = None
    """File to write: .mp4, .webm, .gif ... (default: ID.mp4)."""
    keys: bool = False
    """Drive by the arrow keys, in a window or in the terminal; q quits. Nothing is written."""
    episodes: int = number(1, low=1, high=10**4)
    """Number of episodes."""
    steps: int | None = number(None, low=1)
    """End after so many steps at the latest."""
    stochastic: bool = False
    """Sample actions as in training; by default the most likely ones are taken."""
    seed: int | None = number(None, low=0, high=2**32 - 1)
    """Seed of the environment; by default one that the training never used (random: 0)."""
    camera: str | None = None
    """track (follows the robot), vision (on the robot), fixednear, fixedfar, free or overhead (a map)."""
    width: int = number(640, low=16, high=4096)
    """Pixels."""
    height: int = number(480, low=16, high=4096)
    """Pixels."""
    bars: bool = False
    """Draw the action as bars below the picture, and where a run of SEditor acts, its proposal (blue) and edit."""
    plans: bool = False
    """Where a run of a planner acts on coordinates: mark where each net of its model expected the robot to go."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    from jsafe.report import film, video

    _, words = parse.take_imports(arguments)
    env_options, words = parse.take_env_options(words)
    given = parse.parse(Play, words, "jsafe play", ["--import"])
    if given.keys:
        return _drive(given, env_options)
    output = given.video or Path(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', given.env)[-150:]}.mp4")
    video.check_output(output)
    file = given.policy == "random" or parse.policy(given.policy)
    checkpoint = parse.checkpoint(given.checkpoint, file)
    keep_programs()
    made = film.play(
        given.env,
        output,
        policy=given.policy,
        episodes=given.episodes,
        steps=given.steps,
        deterministic=not given.stochastic,
        seed=given.seed,
        camera=given.camera,
        width=given.width,
        height=given.height,
        bars=given.bars,
        plans=given.plans,
        env_options=env_options,
        checkpoint=checkpoint,
        console=screen.console(),
    )
    _tell(made.episodes)
    print(f"video: {made.path} ({made.frames} frames)")
    return 0


def _tell(episodes: list[dict[str, Any]]) -> None:
    for count, episode in enumerate(episodes, 1):
        costs = ", ".join(f"{name} {value:.4g}" for name, value in episode["costs"].items())
        print(f"episode {count}: return {episode['return']:.4g}, {costs}, {episode['length']} steps")


def _drive(given: Play, env_options: dict[str, Any]) -> int:
    from jsafe.report import driving, screens

    for name in ("policy", "video", "checkpoint", "stochastic"):
        default = Play.__dataclass_fields__[name].default
        if getattr(given, name) != default:
            raise ValueError(f"{name} must be left out with --keys: you are the policy, and nothing is written")
    try:
        episodes = driving.drive(
            given.env,
            lambda: screens.open_screen(given.env, given.width, given.height),
            episodes=given.episodes,
            steps=given.steps,
            seed=given.seed or 0,
            camera=given.camera,
            env_options=env_options,
        )
    except screens.ScreenError as error:
        raise RunError(str(error)) from error
    _tell(episodes)
    return 0
