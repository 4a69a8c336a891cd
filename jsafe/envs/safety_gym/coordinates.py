"""Observations for model-based methods: few sensors, and where things are in the robot's frame, instead of lidars."""

from __future__ import annotations

import numpy as np

from jsafe.envs.safety_gym.objects import Objects
from jsafe.envs.safety_gym.observe import Observer
from jsafe.envs.safety_gym.robots import Part
from jsafe.envs.safety_gym.tasks import Scene, Task
from jsafe.envs.safety_gym.world import World

BASE_PARTS = (
    Part("velocimeter", ("velocimeter",), take=(0, 1)),
    Part("accelerometer", ("accelerometer",), take=(0,)),
    Part("gyro", ("gyro",), take=(2,)),
    Part("magnetometer", ("magnetometer",)),
)
"""What matters in the plane of the sensors that every robot carries."""


class Coordinates:
    """Assembles observations of sensors and coordinates.

    | part | what it is |
    | --- | --- |
    | `velocimeter`, `accelerometer`, `gyro`, `magnetometer` | 2 + 1 + 1 + 3 numbers: `BASE_PARTS` |
    | the robot's other parts | its joints and so on, as in the stock observation; none with `parts="base"` |
    | `goal`, ... | what the reward is about (`Task.aims`): 2 numbers for each object |
    | `hazards`, ... | groups with a cost, in the task's order: 2 numbers for each object |
    | `robot_m` | `R[0, 0], R[0, 1]` of the robot's rotation matrix R |
    | `robot` | its xy in the world, metres |

    The coordinates of an object at q, seen by a robot at p, are the first two components of `R^T (q - p, 0)`, metres.
    Objects that neither pay nor cost are not observed (the vase of Goal1). Nothing is hidden: a button can be seen also
    while its lidar would be dark.

    Attributes:
      slices: Where each part lies, in order.
      dim: Width.

    Source: the observation of OmniSafe's `Safety*Goal*-v0-modelbased`, column by column (there for the Goal tasks, and
    without the robot's other parts).
    """

    def __init__(self, world: World, parts: tuple[Part, ...], task: Task, choice: str = "all"):
        common = {part.name for part in BASE_PARTS}
        others = tuple(part for part in parts if part.name not in common) if choice == "all" else ()
        self._sensors = Observer(world.groups, world.sensors, BASE_PARTS + others, task, lidars=False)
        self._groups = observed(task)
        self.slices, self.dim = dict(self._sensors.slices), self._sensors.dim
        for name, width in {**{kind.group: 2 * kind.count for kind in self._groups}, "robot_m": 2, "robot": 2}.items():
            self.slices[name] = (self.dim, self.dim + width)
            self.dim += width

    def __call__(self, scene: Scene, sensors: np.ndarray) -> np.ndarray:
        """Observations `[n, dim]` of n environments with sensor values `[n, S]`."""
        frame, here = scene.agent_rot[:, :2, :2], scene.agent_pos[:, None, :2]
        seen = [np.einsum("nji,nkj->nki", frame, scene.pos[kind.group][..., :2] - here) for kind in self._groups]
        flat = [places.reshape(len(sensors), -1) for places in seen]
        robot = [scene.agent_rot[:, 0, :2], scene.agent_pos[:, :2]]
        return np.concatenate([self._sensors(scene, sensors), *flat, *robot], axis=1)


def observed(task: Task) -> tuple[Objects, ...]:
    """Groups of objects on which reward or cost depend: the task's aims, then those with a cost."""
    keys = [key for keys in task.cost_groups.values() for key in keys]
    sensed = [kind for kind in task.objects if kind.lidar]
    aims = [kind for group in task.aims for kind in sensed if kind.group == group]
    costly = [k for k in sensed if any(key == k.group or key.startswith(f"{k.group}_") for key in keys)]
    return (*aims, *(kind for kind in costly if kind not in aims))
