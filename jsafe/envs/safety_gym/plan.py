"""What a layout has to place: every object of a task with its rectangle, its keepout and its turn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jsafe.envs.safety_gym.layout import Placement
from jsafe.envs.safety_gym.objects import in_order
from jsafe.envs.safety_gym.tasks.base import Task

_NOWHERE = (np.nan, np.nan)


class Plan(NamedTuple):
    """The robot first, then the objects in the order of the scene.

    Attributes:
      places: Placement of each.
      keepouts: Theirs `[1 + K]`, metres.
      order: Indices in the order in which they are placed.
      yaws: Of each object its fixed yaw in radians; None: random.
      heights: Of each object `[K]`, metres.
      fixed: Where each object stands that has a place of its own `[K, 2]`, metres; NaN where it is drawn. The layout
        shifts such a place by up to 1e-9 m, officially too, but what the robot senses there lies at the place itself.
    """

    places: list[Placement]
    keepouts: np.ndarray
    order: np.ndarray
    yaws: list[float | None]
    heights: np.ndarray
    fixed: np.ndarray


def plan_of(task: Task) -> Plan:
    """The plan of a task, for the host's sampler and the program's."""
    e, groups = task.extent, in_order(task.objects)
    places = [Placement("agent", task.agent_keepout, task.agent_box or (-e, -e, e, e))]
    for kind in groups:
        for i, name in enumerate(kind.names):
            box = (-e, -e, e, e)
            if kind.locations:
                (x, y), half = kind.locations[i], kind.keepout + 1e-9
                box = (x - half, y - half, x + half, y + half)
            places.append(Placement(name, kind.keepout, box))
    keepouts = np.array([place.keepout for place in places])
    order = np.arange(len(places))
    if task.by_keepout:
        order = np.argsort(-keepouts, kind="stable")
    return Plan(
        places=places,
        keepouts=keepouts,
        order=order,
        yaws=[
            None if kind.spin else (kind.yaws[i] if kind.yaws else 0.0) for kind in groups for i in range(kind.count)
        ],
        heights=np.array([kind.z for kind in groups for _ in range(kind.count)]),
        fixed=np.array([xy for kind in groups for xy in kind.locations or [_NOWHERE] * kind.count]).reshape(-1, 2),
    )
