"""Task ids and how they are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from jsafe.envs.outside.process import ProcessEnv
from jsafe.envs.safety_gym.engine import VectorEnv
from jsafe.envs.safety_gym.robots import ROBOTS, Robot
from jsafe.envs.safety_gym.tasks import SAFEXP, TASKS, Task
from jsafe.envs.safety_gym.tasks.validate import validate
from jsafe.envs.toy import SPEED_LIMIT, ToyEnv
from jsafe.envs.velocity import VELOCITY_IDS, VelocityEnv
from jsafe.errors import closest

_OUTSIDE = ("gymnasium", "safety_gymnasium")

_LEVELS = dict((*TASKS.values(), *SAFEXP.values()))
"""Levels of the stock tasks."""

TOYS = {SPEED_LIMIT: ToyEnv}
"""Toy tasks: numpy alone, known optimum."""

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
    if id in list_ids():
        raise ValueError(f"id {id!r} is registered already")
    if not callable(task):
        raise ValueError(f"task must be callable, got {task!r}")
    if isinstance(robot, str):
        if robot not in ROBOTS:
            raise ValueError(f"unknown robot {robot!r}{closest(robot, ROBOTS)}")
        robot = ROBOTS[robot]
    if not isinstance(robot, Robot):
        raise ValueError(f"robot must be a Robot or the name of one, got {robot!r}")
    _IDS[id] = (robot, task, options)


def list_ids() -> list[str]:
    """All ids that `make` knows, sorted."""
    return sorted([*_IDS, *VELOCITY_IDS, *TOYS])


def make(
    id: str | Callable,
    num_envs: int = 1,
    seed: int = 0,
    num_threads: int | None = None,
    costs: str = "sum",
    sleep: bool = True,
    **task_options,
) -> VectorEnv | VelocityEnv | ProcessEnv | ToyEnv:
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
            raise ValueError(f"id must be 'gymnasium:ID' or 'safety_gymnasium:ID', got {id!r}{closest(kind, _OUTSIDE)}")
    if kind:
        own = {name: task_options.pop(name) for name in ("horizon", "python") if name in task_options}
        own |= {"num_envs": num_envs, "seed": seed, "num_threads": num_threads, "costs": costs}
        return ProcessEnv(kind, name, task_options, factory=id if kind == "factory" else None, **own)
    if not isinstance(id, str) or id not in list_ids():
        raise ValueError(f"unknown environment {id!r}{closest(id, list_ids())}")
    if id in TOYS:
        if costs != "sum":
            raise ValueError(f"costs must be 'sum' on {id}, which has a single cost: {costs!r}")
        try:
            inspect.signature(TOYS[id]).bind(num_envs, seed, **task_options)
        except TypeError as error:
            raise ValueError(f"options of {id!r}: {error}") from None
        return TOYS[id](num_envs, seed, **task_options)
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


for _family, _tasks, _robots in (("Safety", TASKS, ROBOTS), ("Safexp-", SAFEXP, ("Point", "Car"))):
    for _robot in _robots:
        for _name, (_task, _levels) in _tasks.items():
            for _level in _levels:
                register(f"{_family}{_robot}{_name}{_level}-v0", _task, _robot, level=_level)
