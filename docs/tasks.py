"""The page of tasks: every id with what it observes, what costs, how long an episode is, read from the tasks, and how
fast it steps, as `experiments/benchmarks/tasks.py` has measured it."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from jsafe import envs
from jsafe.envs.device import catalogue
from jsafe.envs.device.racing.observe import flat_slices
from jsafe.envs.pendulum import PENDULUMS
from jsafe.envs.safety_gym.robots import ROBOTS
from jsafe.envs.safety_gym.tasks import SAFEXP, TASKS, Task
from jsafe.envs.toy import TOYS
from jsafe.envs.velocity.tasks import RUNNERS
from jsafe.spaces import Box, Discrete, Space, Tree

SPEEDS = Path(__file__).parents[1] / "experiments/benchmarks/results/tasks.csv"
HEAD = """# Tasks

`jsafe list tasks` prints them with a line each; `jsafe play ID --keys` lets you drive one. Braces hold what may
stand in their place. Costs are the columns of `costs="separate"`; by default there is their sum, 1 in a step in which
anything was violated. [The engine](engine.md) tells how exact they are, [Vision](vision.md) what robots see.

Speeds are environment steps per CPU second on one core of a two-core AMD EPYC (`experiments/benchmarks/tasks.py`: 16
environments, random actions, observations and new episodes included). Point's tasks and SafeRacing also run [inside the
program](gpu.md), Point's there tens of times as fast.

![One tile for each family](tasks.png)
"""


@functools.cache
def rates() -> dict[tuple[str, str], float]:
    """Steps per CPU second by id and size of its pictures."""
    with open(SPEEDS, newline="") as file:
        return {(row["id"], row["size"]): float(row["steps_per_cpu_second"]) for row in csv.DictReader(file)}


def speed(id: str, size: str = "") -> str:
    """Steps per CPU second of an id, in three digits; with pictures of a size."""
    return f"{rates()[id, size]:,.0f}".replace(",", " ")


def speeds(form: str) -> str:
    """Speeds of an id for every robot that it names."""
    return " / ".join(speed(form.format(robot)) for robot in ROBOTS)


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *navigation(), *safexp(), *velocity(), *others()]) + "\n"


def navigation() -> list[str]:
    """The stock tasks: robots and tasks can be combined."""
    robots = ",".join(ROBOTS)
    lines = ["## Navigation", "", "Safety-Gymnasium's. Every robot does every task:", ""]
    for name, (_, levels) in TASKS.items():
        level = "{" + ",".join(map(str, levels)) + "}" if len(levels) > 1 else str(levels[0])
        lines.append(f"- `Safety{{{robots}}}{name}{level}-v0`, `Safety{{{robots}}}{name}{level}Vision-v0`")
    lines.append("- `Safety{Point,Car,Ant}Goal{0,1}-v0-modelbased`: coordinates for lidars, each action for five steps")
    lines += ["", *table("robot", "its sensors", "actions", "steps/s with a picture of 64 / 256 pixels")]
    for robot in ROBOTS:
        env = envs.make(f"Safety{robot}Goal0-v0", num_threads=1)
        seen = " / ".join(speed(f"Safety{robot}Goal1Vision-v0", size) for size in ("64", "256"))
        sensors = f"{env.spec.obs_slices['goal_lidar'][0]} numbers"
        lines.append(f"| {robot} | {sensors} | {space(env.spec.action)} | {seen} |")
        env.close()
    lines += ["", *table("task", "what there is", "lidars", "costs", "steps", f"steps/s: {' / '.join(ROBOTS)}")]
    for name, (factory, levels) in TASKS.items():
        stepped = "Goal" if name.startswith("Fading") else name
        lines += [
            row(f"{name}{level}", factory(ROBOTS["Point"], level), speeds(f"Safety{{}}{stepped}{level}-v0"))
            for level in levels
        ]
    lines += [
        "",
        "An observation is the robot's sensors and the lidars, 16 bins each, as one vector. `Vision` ids observe a "
        "dictionary of the same parts and a picture, uint8 `[256, 256, 3]`. The fading tasks are Goal, in whose "
        "pictures the goal (at level 2 the hazards, in FadingHard2 the vases, too) vanishes within 150 (Easy) or 75 "
        "(Hard) steps. Safety-Gymnasium's `Safety{Robot}Race{0,1,2}` ids are not here: what one runs into there has "
        "the shape of its mesh files. Where the official package is installed, `safety_gymnasium:ID` runs them.",
        "",
    ]
    return lines


def safexp() -> list[str]:
    """The tasks of SEditor's paper."""
    lines = ["## SEditor's navigation tasks", ""]
    lines += [
        f"- `Safexp-{{Point,Car}}{name}{{{','.join(map(str, levels))}}}-v0`" for name, (_, levels) in SAFEXP.items()
    ]
    lines += ["", "Lidars have 64 rays, an episode ends at the goal.", ""]
    lines += table("task", "what there is", "lidars", "costs", "steps", "steps/s: Point / Car")
    for name, (factory, levels) in SAFEXP.items():
        for level in levels:
            both = " / ".join(speed(f"Safexp-{robot}{name}{level}-v0") for robot in ("Point", "Car"))
            lines.append(row(f"{name}{level}", factory(ROBOTS["Point"], level), both))
    return [*lines, ""]


def row(name: str, task: Task, fast: str) -> str:
    """A task of the engine, and how fast it steps."""
    things = [kind.body.replace("_", " ") if kind.count == 1 else f"{kind.count} {kind.group}" for kind in task.objects]
    lidars = sum(kind.lidar for kind in task.objects)
    costs = ", ".join(task.cost_groups) or "nothing"
    return f"| {name} | {', '.join(things)} | {lidars} | {costs} | {task.horizon} | {fast} |"


def velocity() -> list[str]:
    """Bodies that learn to run."""
    lines = ["## Velocity", "", "A speed above the limit costs; versions 0 and 1 differ in the limit.", ""]
    lines += table("id", "observation", "actions", "limits, m/s", "steps", "steps/s")
    for name, runner in RUNNERS.items():
        env = envs.make(f"Safety{name}Velocity-v1", num_threads=1)
        spec = env.spec
        env.close()
        limits = " and ".join(f"{limit:g}" for limit in runner.limits)
        ends = f"{space(spec.obs)} | {space(spec.action)} | {limits} | {spec.horizon}"
        lines.append(f"| `Safety{name}Velocity-v{{0,1}}` | {ends} | {speed(f'Safety{name}Velocity-v1')} |")
    return [*lines, ""]


def others() -> list[str]:
    """Racing, pendulums and toys."""
    lines = [
        "## Racing, pendulums, toys",
        "",
        *table("id", "what it is about", "observation", "actions", "steps", "steps/s"),
    ]
    for id in (*catalogue.IDS, *catalogue.ALIASES):
        own = catalogue.ALIASES.get(id, id)
        task = catalogue.IDS[own]
        seen = "picture 96 x 96 x 1 uint8, car 11 numbers"
        if task.observation == "state":
            seen = f"{max(stop for _, stop in flat_slices(task.obstacle_ratio > 0).values())} numbers"
        lines.append(f"| `{id}` | {envs.summary(id)} | {seen} | 3 numbers | {task.horizon} | {speed(own)} |")
    for id in (*PENDULUMS, *TOYS):
        env = envs.make(id)
        spec = env.spec
        env.close()
        ends = f"{space(spec.obs)} | {space(spec.action)} | {spec.horizon} | {speed(id)}"
        lines.append(f"| `{id}` | {envs.summary(id)} | {ends} |")
    return [*lines, ""]


def table(*names: str) -> list[str]:
    """Head of a table."""
    return [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]


def space(of: Space) -> str:
    """A space in words."""
    if isinstance(of, Tree):
        return ", ".join(f"{name} {space(inner)}" for name, inner in of.items)
    if isinstance(of, Discrete):
        return f"{' x '.join(map(str, of.sizes))} choices"
    assert isinstance(of, Box)
    if of.flat:
        return f"{of.width} number{'s' * (of.width > 1)}"
    return f"picture {' x '.join(map(str, of.shape))} {of.dtype}"
