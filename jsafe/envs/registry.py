"""Task ids and how they are made."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from jsafe.envs.adapters import ProcessEnv
from jsafe.envs.engine import VectorEnv
from jsafe.envs.robots import ROBOTS, Robot
from jsafe.envs.tasks import SAFEXP, TASKS, Task
from jsafe.envs.tasks.validate import validate
from jsafe.envs.velocity import VELOCITY_IDS, VelocityEnv

_OUTSIDE = ("gymnasium", "safety_gymnasium")

_LEVELS = dict((*TASKS.values(), *SAFEXP.values()))
"""Levels of the stock tasks."""

_IDS: dict[str, tuple[Robot, Callable[..., Task], dict]] = {}


def register(id: str, task: Callable[..., Task], robot: Robot | str, **options) -> None:
    """Adds an environment.

    Args:
      id: New name for `make`.
      task: `(robot, **options) -> Task`; usually a subclass of `Task`.
      robot: A `Robot`, or the name of a stock one.
      **options: Passed to `task`; `make` may override them.

    Raises:
      ValueError: If the id is taken or not a name, or the robot is unknown.
    """
    if not isinstance(id, str) or not id or any(c.isspace() or c == ":" for c in id):
        raise ValueError(f"id must be a string without spaces and colons, got {id!r}")
    if id in _IDS or id in VELOCITY_IDS:
        raise ValueError(f"id {id!r} is registered already")
    if not callable(task):
        raise ValueError(f"task must be callable, got {task!r}")
    if isinstance(robot, str):
        if robot not in ROBOTS:
            raise ValueError(f"unknown robot {robot!r}{_close(robot, ROBOTS)}")
        robot = ROBOTS[robot]
    if not isinstance(robot, Robot):
        raise ValueError(f"robot must be a Robot or the name of one, got {robot!r}")
    _IDS[id] = (robot, task, options)


def list_ids() -> list[str]:
    """All ids that `make` knows, sorted."""
    return sorted([*_IDS, *VELOCITY_IDS])


def make(
    id: str | Callable,
    num_envs: int = 1,
    seed: int = 0,
    num_threads: int | None = None,
    costs: str = "sum",
    sleep: bool = True,
    **task_options,
) -> VectorEnv | VelocityEnv | ProcessEnv:
    """Makes a batch of environments.

    Args:
      id: For instance `SafetyPointGoal1-v0`; see `list_ids`. Environments of others run in worker processes:
        `gymnasium:ID`, `safety_gymnasium:ID` (the official package), or a function that returns one; see
        `jsafe.envs.ProcessEnv`. Their options are `horizon` (steps after which an episode ends, if it does not say),
        `python` (another interpreter, which has the package), and whatever their constructor takes.
      num_envs: N.
      seed: Environment i has the random stream of the official environment seeded `seed + i`.
      num_threads: Threads for the physics, or worker processes; None: one for each available processor.
      costs: `sum`: one cost column, 1 where any constraint is violated; `separate`: one column for each cost group.
      sleep: Let resting objects sleep, which is many times faster and changes their state by about 1e-7.
      **task_options: Passed to the task.

    Returns:
      The environments; call `reset` first.

    Raises:
      ValueError: If the id or an option is unknown, or a value is not allowed.
    """
    if not isinstance(sleep, bool):
        raise ValueError(f"sleep must be True or False, got {sleep!r}")
    if callable(id):
        kind, name = "factory", getattr(id, "__qualname__", type(id).__name__)
    else:
        kind, _, name = id.partition(":") if isinstance(id, str) and ":" in id else ("", "", "")
        if kind and (kind not in _OUTSIDE or not name):
            raise ValueError(f"id must be 'gymnasium:ID' or 'safety_gymnasium:ID', got {id!r}{_close(kind, _OUTSIDE)}")
    if kind:
        own = {name: task_options.pop(name) for name in ("horizon", "python") if name in task_options}
        own |= {"num_envs": num_envs, "seed": seed, "num_threads": num_threads, "costs": costs}
        return ProcessEnv(kind, name, task_options, factory=id if kind == "factory" else None, **own)
    if not isinstance(id, str) or (id not in _IDS and id not in VELOCITY_IDS):
        raise ValueError(f"unknown environment {id!r}{_close(id, list_ids())}")
    if id in VELOCITY_IDS:
        if task_options:
            raise ValueError(f"options of {id!r}: it has none, got {', '.join(task_options)}")
        return VelocityEnv(id, *VELOCITY_IDS[id], num_envs, seed, num_threads, costs)
    robot, factory, options = _IDS[id]
    options = options | task_options
    try:
        inspect.signature(factory).bind(robot, **options)
    except TypeError as error:
        raise ValueError(f"options of {id!r}: {error}") from None
    if factory in _LEVELS:
        level, allowed = options["level"], _LEVELS[factory]
        if isinstance(level, bool) or not isinstance(level, int) or level not in allowed:
            raise ValueError(f"level of {id!r} must be one of {', '.join(map(str, allowed))}, got {level!r}")
    task = factory(robot, **options)
    validate(task)
    return VectorEnv(id, robot, task, num_envs, seed, num_threads, costs, sleep)


def _close(name, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


for _family, _tasks, _robots in (("Safety", TASKS, ROBOTS), ("Safexp-", SAFEXP, ("Point", "Car"))):
    for _robot in _robots:
        for _name, (_task, _levels) in _tasks.items():
            for _level in _levels:
                register(f"{_family}{_robot}{_name}{_level}-v0", _task, _robot, level=_level)
