"""Task ids and how they are made."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jsafe.envs import checks
from jsafe.envs.api import VectorEnv
from jsafe.envs.device import catalogue
from jsafe.envs.pendulum import PENDULUMS
from jsafe.envs.repeat import RepeatedEnv
from jsafe.envs.safety_gym.robots import ROBOTS, Robot
from jsafe.envs.safety_gym.tasks import SAFEXP, TASKS, Task
from jsafe.envs.safety_gym.tasks.validate import validate
from jsafe.envs.toy import TOYS
from jsafe.envs.velocity.tasks import VELOCITY_IDS
from jsafe.errors import closest, unknown

if TYPE_CHECKING:
    from jsafe.envs.device import DeviceEnv

OUTSIDE = ("gymnasium", "safety_gymnasium", "python")
"""Whose environments `make` takes, as `KIND:ID`."""

_LEVELS = dict((*TASKS.values(), *SAFEXP.values()))
"""Levels of the stock tasks."""

_ABOUT = {
    "Goal": (
        "drive to a place, then to the next",
        ("nothing in the way", "hazards cost, a vase does not", "more hazards and vases, both cost"),
    ),
    "Button": (
        "touch the right one of four buttons",
        ("nothing in the way", "hazards, gremlins and wrong buttons cost", "more hazards and gremlins cost"),
    ),
    "Push": (
        "push a box to a place",
        ("nothing in the way", "hazards cost, a pillar does not", "more hazards and pillars, both cost"),
    ),
    "Circle": (
        "run fast around a circle",
        ("no walls", "crossing the two walls at its sides costs", "crossing the four walls around it costs"),
    ),
    "Run": ("get down a lane fast", ("crossing its walls costs",)),
    "FadingEasy": (
        "drive to a place that fades from sight, then to the next",
        ("nothing in the way", "hazards cost, a vase does not", "vases and fading hazards cost"),
    ),
    "FadingHard": (
        "drive to a place that soon fades from sight, then to the next",
        ("nothing in the way", "hazards cost, a vase does not", "fading vases and hazards cost"),
    ),
}
"""What the stock tasks are about, and their levels."""

_SEEN = {
    "coordinates": " Coordinates for lidars, every action five times.",
    "vision": " The robot's camera beside its sensors.",
}
"""What the ids that observe something else show."""

_RACE = re.compile(rf"Safety({'|'.join(ROBOTS)})Race[012](Vision)?-v0")
"""Ids of the official package that there cannot be without its mesh files."""

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
    return sorted([*_IDS, *VELOCITY_IDS, *PENDULUMS, *TOYS, *catalogue.IDS, *catalogue.ALIASES])


def summary(id: str) -> str:
    """What a task is about, in a line; empty for one that does not say.

    Raises:
      ValueError: If the id is unknown.
    """
    if id not in list_ids():
        raise ValueError(_unknown(id))
    if id in catalogue.ALIASES:
        return f"The authors' name of {catalogue.ALIASES[id]}."
    if id in catalogue.IDS:
        task = catalogue.IDS[id]
        cost = "hitting obstacles" if task.obstacle_ratio else "leaving the road"
        return f"Drive along a winding road, seen as {task.observation}; {cost} costs."
    if id in VELOCITY_IDS:
        return f"{VELOCITY_IDS[id][0].name} learns to run; a speed above its limit costs."
    if id in TOYS:
        return _first_line(TOYS[id])
    if id in PENDULUMS:
        return PENDULUMS[id]["summary"]
    robot, factory, options = _IDS[id]
    for family, source in ((TASKS, ""), (SAFEXP, " A task of SEditor's paper.")):
        for name, (stock, _) in family.items():
            if stock is factory:
                about, levels = _ABOUT[name]
                seen = _SEEN.get(options.get("observation", ""), source)
                return f"{robot.name}: {about}; {levels[options['level']]}.{seen}"
    return _first_line(factory)


def _unknown(id: Any) -> str:
    """Why an id is none."""
    if isinstance(id, str) and _RACE.fullmatch(id):
        return (
            f"{id!r} is not here: in Safety-Gymnasium's race tasks what one runs into has the shape of its mesh files, "
            f"which are no part of this library; where the official package is installed, 'safety_gymnasium:{id}' "
            "runs it"
        )
    return f"unknown environment {id!r}{closest(id, list_ids())}"


def _first_line(thing: Any) -> str:
    return (getattr(thing, "__doc__", None) or "").strip().partition("\n")[0]


def make(
    id: str | Callable[..., Any],
    num_envs: int = 1,
    seed: int = 0,
    num_threads: int | None = None,
    costs: str = "sum",
    sleep: bool = True,
    render_mode: str | None = None,
    backend: str = "host",
    num_processes: int | None = None,
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
      num_processes: Processes that share the environments of a navigation or velocity task (`jsafe.envs.team`), each
        with its part of the threads: for machines with many cores. Results are those of one, bit for bit. The device
        has none.
      **options: Passed to the task, but for these.
        Navigation tasks: `observation` is `sensors` (and lidars), or `coordinates` (of what pays or costs, in the
        robot's frame: `jsafe.envs.safety_gym.coordinates`), there with `parts` `all` or `base` of the robot, or
        `vision` (a dictionary with the robot's picture), there with `size`, `cameras`, `detail` and `lidars`
        (`jsafe.envs.safety_gym.vision`). The ids `Safety*Vision-v0` stand for vision.
        All tasks but racing: `action_repeat=k` holds each action for up to k steps, which become one
        (`jsafe.envs.repeat`).
        The ids `Safety*Goal*-v0-modelbased` stand for coordinates, the base parts and k = 5.

    Returns:
      The environments; call `reset` first.

    Raises:
      ValueError: If the id or an option is unknown, or a value is not allowed.
      jsafe.envs.api.RenderError: For vision where nothing can be drawn; it says what to install.
    """
    if not isinstance(sleep, bool):
        raise ValueError(f"sleep must be True or False, got {sleep!r}")
    checks.one_of("backend", backend, ("host", "device"))
    if callable(id) or (isinstance(id, str) and ":" in id):
        if backend != "host":
            raise ValueError(f"environments of others run with backend='host' only, got {backend!r}")
        if num_processes is not None:
            raise ValueError("environments of others run in num_threads processes: num_processes is for ours")
        if render_mode is not None:
            options["render_mode"] = render_mode
        return _outside(id, num_envs, seed, num_threads, costs, options)
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
    if not isinstance(id, str) or id not in list_ids():
        raise ValueError(_unknown(id))
    racing = id in catalogue.IDS or id in catalogue.ALIASES
    if backend == "device":
        from jsafe.envs.device import hosted

        return hosted(_device(id, costs, options), num_envs, seed)
    if (racing or id in TOYS or id in PENDULUMS) and costs != "sum":
        raise ValueError(f"costs must be 'sum' on {id}, which has a single cost: {costs!r}")
    if racing:
        from jsafe.envs.device import hosted
        from jsafe.envs.device.racing import make as make_racing

        return hosted(make_racing(id, **options), num_envs, seed)
    options = (_IDS[id][2] if id in _IDS else {}) | options
    repeat = checks.integer("action_repeat", options.pop("action_repeat", 1))
    vision = id in _IDS and options.get("observation") == "vision"
    seen = {name: options.pop(name) for name in ("size", "cameras", "detail", "lidars") if vision and name in options}
    if num_processes is not None and checks.integer("num_processes", num_processes) > 1:
        if vision or (id not in _IDS and id not in VELOCITY_IDS):
            raise ValueError(f"num_processes must be None on {id}, which steps in one process, got {num_processes}")
        from jsafe.envs.team import Team, pickled

        own = pickled(_IDS[id]) if id in _IDS and id not in _STOCK else None
        probe = plain(id, 1, 0, 1, costs, sleep, options)
        given = {"costs": costs, "sleep": sleep, "options": options}
        env: Any = Team(id, probe, own, num_envs, seed, num_threads, num_processes, given)
    else:
        env = plain(id, num_envs, seed, num_threads, costs, sleep, options)
    env = env if repeat == 1 else RepeatedEnv(env, repeat)
    if not vision:
        return env
    from jsafe.envs.safety_gym.vision import VisionEnv

    try:
        return VisionEnv(env, num_threads=num_threads, **seen)
    except BaseException:
        env.close()
        raise


def plain(
    id: str, num_envs: int, seed: int, num_threads: int | None, costs: str, sleep: bool, options: dict[str, Any]
) -> Any:
    """Our own environments as they are, in this process and with no action repeated; the rest as in `make`."""
    options = dict(options)
    if id in TOYS:
        _bind(id, TOYS[id], num_envs, seed, **options)
        return TOYS[id](num_envs, seed, **options)
    if id in PENDULUMS:
        from jsafe.envs.pendulum import factory as pendulum

        _bind(id, pendulum(id), num_envs, seed, **options)
        return pendulum(id)(num_envs, seed, **options)
    if id in VELOCITY_IDS:
        from jsafe.envs.velocity.env import VelocityEnv

        if options:
            raise ValueError(f"options of {id!r}: it has action_repeat alone, got {', '.join(options)}")
        return VelocityEnv(id, *VELOCITY_IDS[id], num_envs, seed, num_threads, costs)
    seen = {name: options.pop(name) for name in ("observation", "parts") if name in options}
    robot, task = _build_task(id, options)
    from jsafe.envs.safety_gym.engine import SafetyGymEnv

    return SafetyGymEnv(id, robot, task, num_envs, seed, num_threads, costs, sleep, **seen)


def register_as(id: str, registration: bytes) -> None:
    """Registers what `jsafe.envs.team.pickled` made of another process's registration."""
    _IDS[id] = pickle.loads(registration)


def _build_task(id: str, options: dict[str, Any]) -> tuple[Robot, Task]:
    """Robot and task of a registered id."""
    robot, factory, _ = _IDS[id]
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
    options = _IDS[id][2] | options
    for name in ("observation", "parts", "action_repeat"):
        if name in options:
            raise ValueError(f"{name}={options[name]!r} of {id!r} is for backend='host' only")
    return PointEnv(id, *_build_task(id, options), costs).env


def _bind(id: str, factory: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Checks the options of a task against what makes it."""
    signature = inspect.signature(factory)
    named = [each for each in list(signature.parameters.values())[len(args) :] if each.kind != each.VAR_POSITIONAL]
    if all(each.kind != each.VAR_KEYWORD for each in named):
        of_all: tuple[str, ...] = ("action_repeat",)
        if id in _IDS:
            of_all = ("observation", "parts", *of_all)
        if id in _IDS and _IDS[id][2].get("observation") == "vision":
            of_all += ("size", "cameras", "detail", "lidars")
        for name in options.keys() - {each.name for each in named}:
            raise ValueError(unknown(f"option of {id!r}", name, [*(each.name for each in named), *of_all]))
    try:
        signature.bind(*args, **options)
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
                if _family == "Safety":
                    _id = f"{_family}{_robot}{_name}{_level}Vision-v0"
                    register(_id, _task, _robot, level=_level, observation="vision")
for _robot in ("Point", "Car", "Ant"):
    for _level in (0, 1):
        register(
            f"Safety{_robot}Goal{_level}-v0-modelbased",
            TASKS["Goal"][0],
            _robot,
            level=_level,
            observation="coordinates",
            parts="base",
            action_repeat=5,
        )
_STOCK = frozenset(_IDS)
"""Ids that every process knows."""
