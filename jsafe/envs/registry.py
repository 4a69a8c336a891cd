"""Task ids and how they are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jsafe.envs import checks
from jsafe.envs.api import VectorEnv
from jsafe.envs.device import catalogue
from jsafe.envs.safety_gym.robots import ROBOTS, Robot
from jsafe.envs.safety_gym.tasks import SAFEXP, TASKS, Task
from jsafe.envs.safety_gym.tasks.validate import validate
from jsafe.envs.toy import TOYS
from jsafe.envs.velocity.tasks import VELOCITY_IDS
from jsafe.errors import closest

if TYPE_CHECKING:
    from jsafe.envs.device import DeviceEnv

OUTSIDE = ("gymnasium", "safety_gymnasium", "python")
"""Whose environments `make` takes, as `KIND:ID`."""

_LEVELS = dict((*TASKS.values(), *SAFEXP.values()))
"""Levels of the stock tasks."""

_IDS: dict[str, tuple[Robot, Callable[..., Task], dict]] = {}


def register(id: str, task: Callable[..., Task], robot: Robot | str, **options: Any) -> None:
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
        checks.one_of("robot", robot, ROBOTS)
        robot = ROBOTS[robot]
    if not isinstance(robot, Robot):
        raise ValueError(f"robot must be a Robot or the name of one, got {robot!r}")
    _IDS[id] = (robot, task, options)


def list_ids() -> list[str]:
    """All ids that `make` knows, sorted."""
    return sorted([*_IDS, *VELOCITY_IDS, *TOYS, *catalogue.IDS, *catalogue.ALIASES])


def make(
    id: str | Callable[..., Any],
    num_envs: int = 1,
    seed: int = 0,
    num_threads: int | None = None,
    costs: str = "sum",
    sleep: bool = True,
    render_mode: str | None = None,
    backend: str = "host",
    **options: Any,
) -> VectorEnv:
    """Makes a batch of environments.

    Args:
      id: For instance `SafetyPointGoal1-v0`; see `list_ids`. Environments of others run in worker processes:
        `gymnasium:ID` (also `gymnasium:MODULE:ID`), `python:MODULE:FUNCTION` (a function or class that returns one),
        `safety_gymnasium:ID` (the official package), or the function itself; see `jsafe.envs.ProcessEnv` for their
        options, to which everything is added that their constructor takes.
      num_envs: N.
      seed: Environment i has the random stream of the official environment seeded `seed + i`.
      num_threads: Threads for the physics, or worker processes; None: one for each available processor.
      costs: `sum`: one cost column, 1 where any constraint is violated; `separate`: one column for each cost group.
      sleep: Let resting objects sleep, which is many times faster and changes their state by about 1e-7.
      render_mode: `rgb_array` where pictures will be wanted: outside environments have to know it in advance.
      backend: `host`, or `device`: the environment that runs inside the program (`jsafe.device.make`), as a batch for
        host code. It has streams of its own, so that a seed starts other episodes than on the host.
      **options: Passed to the task.

    Returns:
      The environments; call `reset` first.

    Raises:
      ValueError: If the id or an option is unknown, or a value is not allowed.
    """
    if not isinstance(sleep, bool):
        raise ValueError(f"sleep must be True or False, got {sleep!r}")
    checks.one_of("backend", backend, ("host", "device"))
    if callable(id) or (isinstance(id, str) and ":" in id):
        if backend != "host":
            raise ValueError(f"environments of others run with backend='host' only, got {backend!r}")
        if render_mode is not None:
            options["render_mode"] = render_mode
        return _outside(id, num_envs, seed, num_threads, costs, options)
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    if not isinstance(id, str) or id not in list_ids():
        raise ValueError(f"unknown environment {id!r}{closest(id, list_ids())}")
    racing = id in catalogue.IDS or id in catalogue.ALIASES
    if backend == "device":
        from jsafe.envs.device import hosted

        return hosted(_device(id, costs, options), num_envs, seed)
    if (racing or id in TOYS) and costs != "sum":
        raise ValueError(f"costs must be 'sum' on {id}, which has a single cost: {costs!r}")
    if racing:
        from jsafe.envs.device import hosted
        from jsafe.envs.device.racing import make as make_racing

        return hosted(make_racing(id, **options), num_envs, seed)
    if id in TOYS:
        _bind(id, TOYS[id], num_envs, seed, **options)
        return TOYS[id](num_envs, seed, **options)
    if id in VELOCITY_IDS:
        from jsafe.envs.velocity.env import VelocityEnv

        if options:
            raise ValueError(f"options of {id!r}: it has none, got {', '.join(options)}")
        return VelocityEnv(id, *VELOCITY_IDS[id], num_envs, seed, num_threads, costs)
    robot, task = _build_task(id, options)
    from jsafe.envs.safety_gym.engine import SafetyGymEnv

    return SafetyGymEnv(id, robot, task, num_envs, seed, num_threads, costs, sleep)


def _build_task(id: str, options: dict[str, Any]) -> tuple[Robot, Task]:
    """Robot and task of a registered id."""
    robot, factory, given = _IDS[id]
    options = given | options
    _bind(id, factory, robot, **options)
    if factory in _LEVELS:
        level, allowed = options["level"], _LEVELS[factory]
        if isinstance(level, bool) or not isinstance(level, int) or level not in allowed:
            raise ValueError(f"level of {id!r} must be one of {', '.join(map(str, allowed))}, got {level!r}")
    task = factory(robot, **options)
    validate(task)
    return robot, task


def _device(id: str, costs: str, options: dict[str, Any]) -> DeviceEnv:
    """One episode of an id in the program."""
    from jsafe.envs.device import making

    if id in making.IDS:
        return making.make(id, costs, **options)
    if id not in _IDS:
        raise ValueError(f"{id!r} has no device environment: use backend='host'")
    from jsafe.envs.device.point import PointEnv

    checks.costs(costs)
    return PointEnv(id, *_build_task(id, options), costs).env


def _bind(id: str, factory: Callable[..., Any], *args: Any, **options: Any) -> None:
    try:
        inspect.signature(factory).bind(*args, **options)
    except TypeError as error:
        raise ValueError(f"options of {id!r}: {error}") from None


def _outside(
    id: str | Callable[..., Any], num_envs: int, seed: int, num_threads: int | None, costs: str, options: dict
) -> VectorEnv:
    from jsafe.envs.outside.process import OPTIONS, ProcessEnv

    if callable(id):
        kind, name = "factory", getattr(id, "__qualname__", type(id).__name__)
    else:
        kind, _, name = id.partition(":")
        if kind not in OUTSIDE or not name:
            known = ", ".join(f"'{kind}:ID'" for kind in OUTSIDE)
            raise ValueError(f"id must be one of {known}, got {id!r}{closest(kind, OUTSIDE)}")
    own = {name: options.pop(name) for name in OPTIONS if name in options}
    own |= {"num_envs": num_envs, "seed": seed, "num_threads": num_threads, "costs": costs}
    return ProcessEnv(kind, name, options, factory=id if callable(id) else None, **own)


for _family, _tasks, _robots in (("Safety", TASKS, ROBOTS), ("Safexp-", SAFEXP, ("Point", "Car"))):
    for _robot in _robots:
        for _name, (_task, _levels) in _tasks.items():
            for _level in _levels:
                register(f"{_family}{_robot}{_name}{_level}-v0", _task, _robot, level=_level)
