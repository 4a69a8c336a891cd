"""Whether a task's attributes make sense, before anything is built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from jsafe.envs import checks
from jsafe.envs.safety_gym.objects import DRIVEN, FREE, Objects
from jsafe.envs.safety_gym.tasks.base import Lidar, Task

_AMOUNTS = {"extent": False, "floor": False, "agent_keepout": True, "margin": True}
"""Lengths, and whether they may be 0."""


def validate(task: Task) -> None:
    """Raises ValueError, naming the attribute, its value and what is allowed, unless the task makes sense."""
    if not isinstance(task, Task):
        raise ValueError(f"a task must be a jsafe.envs.Task, got {task!r}")
    name = type(task).__name__
    if not isinstance(task.objects, tuple) or not all(isinstance(kind, Objects) for kind in task.objects):
        raise ValueError(f"{name}.objects must be a tuple of Objects, got {task.objects!r}")
    for field in ("group", "body"):
        names = [getattr(kind, field) for kind in task.objects]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"{name}.objects must differ in {field!r}, got {twice[0]!r} twice")
    groups = {kind.group: kind for kind in task.objects}
    for field, allowed in (
        ("touching", [group for group, kind in groups.items() if kind.collides]),
        ("moving", ["agent", *(group for group, kind in groups.items() if kind.motion in (FREE, DRIVEN))]),
        ("fading", list(groups)),
    ):
        for group in _names(name, field, getattr(task, field)):
            if group not in allowed:
                raise ValueError(f"{name}.{field} may name {', '.join(allowed) or 'nothing'}, got {group!r}")
    _names(name, "memory", task.memory)
    if not isinstance(task.cost_groups, Mapping):
        raise ValueError(f"{name}.cost_groups must map columns to keys of costs, got {task.cost_groups!r}")
    for column, keys in task.cost_groups.items():
        _names(name, f"cost_groups[{column!r}]", keys)
    if not isinstance(task.lidar, Lidar):
        raise ValueError(f"{name}.lidar must be a Lidar, got {task.lidar!r}")
    if task.lidar.kind == "natural":
        for kind in task.objects:
            low, high = kind.span
            if kind.lidar and kind.shape in ("box", "push_box") and not low < task.lidar.height < high:
                raise ValueError(
                    f"{name}.lidar.height must be between {low:.3g} and {high:.3g} m, or the rays never meet "
                    f"{kind.group!r}, got {task.lidar.height!r} (a group that is not sensed: lidar=False)"
                )
    for field in ("horizon", "tries", "layouts"):
        checks.integer(f"{name}.{field}", getattr(task, field))
    for field, zero in _AMOUNTS.items():
        _amount(f"{name}.{field}", getattr(task, field), zero)
    if task.reward_clip is not None:
        _amount(f"{name}.reward_clip", task.reward_clip, False)
    box = task.agent_box
    if box is not None:
        if not isinstance(box, (tuple, list)) or len(box) != 4 or not all(_real(value) for value in box):
            raise ValueError(f"{name}.agent_box must be (xmin, ymin, xmax, ymax), got {box!r}")
        if box[0] > box[2] or box[1] > box[3]:
            raise ValueError(f"{name}.agent_box must have xmin <= xmax and ymin <= ymax, got {box!r}")


def _names(task: str, field: str, value) -> tuple[str, ...]:
    if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{task}.{field} must be a tuple of names, got {value!r}")
    return value


def _real(value) -> bool:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.complexfloating))
    return number and math.isfinite(value)


def _amount(what: str, value, zero: bool) -> None:
    if not _real(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{what} must be a {'non-negative' if zero else 'positive'} number, got {value!r}")
