"""Driving a task by hand: arrow keys become actions, and one sees what they do, pay and cost."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jsafe import spaces
from jsafe.envs.safety_gym.drawing.overhead import OVERHEAD
from jsafe.report import video
from jsafe.report.screens import QUIT, Screen, Terminal
from jsafe.runs import evaluation
from jsafe.runs.build import build_env
from jsafe.runs.config import RunConfig
from jsafe.runs.folder import RunError
from jsafe.types import env_spec

FRAME = 0.08
"""Seconds between pictures, where the environment can hold an action for so long."""


class Drive(NamedTuple):
    """What keys do to an action in [-1, 1]^A: `rest`, to which each held key adds its own."""

    rest: tuple[float, ...]
    up: tuple[float, ...]
    down: tuple[float, ...]
    left: tuple[float, ...]
    right: tuple[float, ...]


def _steered(up: tuple[float, ...], left: tuple[float, ...]) -> Drive:
    back, right = (tuple(-value for value in one) for one in (up, left))
    return Drive((0.0,) * len(up), up, back, left, right)


ROBOTS = {
    "Point": _steered((1.0, 0.0), (0.0, 1.0)),
    "Car": _steered((1.0, 1.0), (0.6, -0.6)),
    "Racecar": _steered((0.5, 0.0), (0.0, 0.7)),
}
"""Robots that four keys can drive."""
RACING = Drive((0.0, -1.0, -1.0), (0.0, 2.0, 0.0), (0.0, 0.0, 2.0), (-1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
"""Steering, gas and brake of SafeRacing."""


def drive_of(env: Any) -> Drive:
    """How keys drive an environment: its robot, a racing car, or one or two numbers (up and down; left and right).

    Raises:
      RunError: If they cannot.
    """
    id, space = env.spec.id, env_spec(env).action
    robot = getattr(getattr(env, "simulation", None), "robot", None)
    if robot is not None:
        if robot.name not in ROBOTS:
            raise RunError(f"keys cannot drive a robot of so many joints as {robot.name}: only {', '.join(ROBOTS)}")
        return ROBOTS[robot.name]
    if "Racing" in id and isinstance(space, spaces.Box) and space.width == 3:
        return RACING
    if isinstance(space, spaces.Box) and space.width == 1:
        return _steered((0.0,), (-1.0,))
    if isinstance(space, spaces.Box) and space.width == 2:
        return _steered((1.0, 0.0), (0.0, -1.0))
    raise RunError(f"keys cannot drive {id}: its actions are {space}")


def action(drive: Drive, held: set[str]) -> np.ndarray:
    """The action of the keys that are held, `[A]` in [-1, 1]."""
    parts = [getattr(drive, key) for key in ("up", "down", "left", "right") if key in held]
    return np.clip(np.sum([drive.rest, *parts], axis=0), -1.0, 1.0)


def drive(
    env: str,
    open_screen: Callable[[], Screen],
    *,
    episodes: int = 1,
    steps: int | None = None,
    seed: int = 0,
    camera: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[dict[str, Any]]:
    """Runs episodes of a task in real time with a person's actions, until they are over or the person quits.

    Args:
      env: The task's id.
      open_screen: Opens where it is seen, once the task has been made.
      episodes: How many at most.
      steps: End after so many steps of the environment at the latest; an action that is held counts once.
      seed: Of the environment.
      camera: Camera of the task. By default a map from above in a terminal, the tracking camera in a window (the map
        where nothing can be drawn).
      env_options: For the constructor of the environment.
      clock, sleep: Of real time.

    Returns:
      `return`, `costs` (by name), `length` and `success` of every episode; of one that was broken off, too.

    Raises:
      RunError: If the task cannot be driven by keys, or not be drawn.
      ScreenError: If there is no screen.
      ValueError: For an unknown task or option.
    """
    outside = {"render_mode": "rgb_array"} if ":" in env else {}
    config = evaluation.elsewhere(RunConfig(env), env, outside | dict(env_options or {}))
    made = build_env(config, 1, seed, 1)
    try:
        keys = drive_of(made)
        navigates = hasattr(made, "simulation") and hasattr(made.simulation, "robot")
        if not hasattr(made, "render"):
            raise RunError(f"{env} cannot be drawn: its environments have no render()")
        held_for = int(FRAME / made.spec.dt)
        if navigates and made.spec.action_repeat == 1 and held_for > 1:
            made.close()
            made = build_env(evaluation.elsewhere(config, env, {"action_repeat": held_for}), 1, seed, 1)
        screen = open_screen()
        try:
            return _drive(made, screen, keys, camera, navigates, episodes, steps, seed, clock, sleep)
        finally:
            screen.close()
    except video.VideoError as error:
        raise RunError(str(error)) from error
    finally:
        made.close()


def _drive(
    env: Any,
    screen: Screen,
    keys: Drive,
    camera: str | None,
    navigates: bool,
    episodes: int,
    steps: int | None,
    seed: int,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[dict[str, Any]]:
    takes = inspect.signature(env.render).parameters
    view: dict[str, Any] = {} if camera is None else {"camera": camera}
    if camera is None and navigates:
        view = {"camera": OVERHEAD if isinstance(screen, Terminal) or not _draws() else "track"}
    if {"width", "height"} <= set(takes):
        width, height = screen.size
        view |= {"width": width, "height": height}
    filmed: video.Filmed

    def show(frame: np.ndarray) -> None:
        told = "  ".join(f"{name} {value}" for name, value in filmed.caption().items())
        screen.show(_fitted(frame, screen.size), f"{told}    arrow keys drive, q quits")

    filmed = video.Filmed(env, show, view, captions=False)
    low, high = (np.asarray(end, float) for end in (env.spec.action_low, env.spec.action_high))
    filmed.reset(seed=seed)
    due, most = clock(), steps if steps is not None else episodes * env.spec.horizon
    for _ in range(most):
        held = screen.held()
        if QUIT in held or len(filmed.episodes) >= episodes:
            break
        wanted = action(keys, held)
        filmed.step((low + (wanted + 1) / 2 * (high - low))[None])
        due = max(due + env.spec.dt, clock())
        sleep(max(0.0, due - clock()))
    broken_off = filmed.running()
    return filmed.episodes + ([broken_off] if broken_off["length"] else [])


def _draws() -> bool:
    from jsafe.envs.safety_gym.drawing import gl

    return gl.available()


def _fitted(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture made smaller where it does not fit, by leaving pixels out."""
    step = max(1, -(-frame.shape[1] // size[0]), -(-frame.shape[0] // size[1]))
    return frame[::step, ::step]
