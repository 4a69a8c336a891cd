"""The page of tasks: every id with what it observes, what costs, and how long an episode is, read from the tasks."""

from __future__ import annotations

from jsafe import envs
from jsafe.envs.device import catalogue
from jsafe.envs.pendulum import PENDULUMS
from jsafe.envs.safety_gym.robots import ROBOTS
from jsafe.envs.safety_gym.tasks import SAFEXP, TASKS, Task
from jsafe.envs.toy import TOYS
from jsafe.envs.velocity.tasks import RUNNERS
from jsafe.spaces import Box, Discrete, Space, Tree

HEAD = """# Tasks

`jsafe list tasks` prints them with a line each; `jsafe play ID --keys` lets you drive one. Braces hold what may
stand in their place. Costs are the columns of `costs="separate"`; by default there is their sum, 1 in a step in which
anything was violated. [The engine](engine.md) tells how exact they are, [Vision](vision.md) what robots see.

![One tile for each family](tasks.png)
"""


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
    lines += ["", *table("robot", "its sensors", "actions")]
    for robot in ROBOTS:
        env = envs.make(f"Safety{robot}Goal0-v0", num_threads=1)
        lines.append(f"| {robot} | {env.spec.obs_slices['goal_lidar'][0]} numbers | {space(env.spec.action)} |")
        env.close()
    lines += ["", *table("task", "what there is", "lidars", "costs", "steps")]
    for name, (factory, levels) in TASKS.items():
        lines += [row(f"{name}{level}", factory(ROBOTS["Point"], level)) for level in levels]
    lines += [
        "",
        "An observation is the robot's sensors and the lidars, 16 bins each, as one vector. `Vision` ids observe a "
        "dictionary of the same parts and a picture, uint8 `[256, 256, 3]`. The fading tasks are Goal, in whose "
        "pictures the goal (at level 2 the hazards, in FadingHard2 the vases, too) vanishes within 150 (Easy) or 75 "
        "(Hard) steps. Safety-Gymnasium's `Race` ids are not here.",
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
    lines += table("task", "what there is", "lidars", "costs", "steps")
    for name, (factory, levels) in SAFEXP.items():
        lines += [row(f"{name}{level}", factory(ROBOTS["Point"], level)) for level in levels]
    return [*lines, ""]


def row(name: str, task: Task) -> str:
    """A task of the engine."""
    things = [kind.body.replace("_", " ") if kind.count == 1 else f"{kind.count} {kind.group}" for kind in task.objects]
    lidars = sum(kind.lidar for kind in task.objects)
    costs = ", ".join(task.cost_groups) or "nothing"
    return f"| {name} | {', '.join(things)} | {lidars} | {costs} | {task.horizon} |"


def velocity() -> list[str]:
    """Bodies that learn to run."""
    lines = ["## Velocity", "", "A speed above the limit costs; versions 0 and 1 differ in the limit.", ""]
    lines += table("id", "observation", "actions", "limits, m/s", "steps")
    for name, runner in RUNNERS.items():
        env = envs.make(f"Safety{name}Velocity-v1", num_threads=1)
        spec = env.spec
        env.close()
        limits = " and ".join(f"{limit:g}" for limit in runner.limits)
        ends = f"{space(spec.obs)} | {space(spec.action)} | {limits} | {spec.horizon}"
        lines.append(f"| `Safety{name}Velocity-v{{0,1}}` | {ends} |")
    return [*lines, ""]


def others() -> list[str]:
    """Racing, pendulums and toys."""
    lines = ["## Racing, pendulums, toys", "", *table("id", "what it is about", "observation", "actions", "steps")]
    seen = {"pixels": "picture 96 x 96 x 1 uint8, car 11 numbers", "state": "a vector"}
    for id, task in catalogue.IDS.items():
        lines.append(f"| `{id}` | {envs.summary(id)} | {seen[task.observation]} | 3 numbers | {task.horizon} |")
    lines += [f"| `{id}` | {envs.summary(id)} | | | |" for id in catalogue.ALIASES]
    for id in (*PENDULUMS, *TOYS):
        env = envs.make(id)
        spec = env.spec
        env.close()
        about = envs.summary(id)
        lines.append(f"| `{id}` | {about} | {space(spec.obs)} | {space(spec.action)} | {spec.horizon} |")
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
