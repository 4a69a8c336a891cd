"""Tasks: one short file each."""

from jsafe.envs.tasks.base import Episode, Lidar, Scene, Task, hazard_cost, planar
from jsafe.envs.tasks.button import Button
from jsafe.envs.tasks.circle import Circle
from jsafe.envs.tasks.goal import Goal
from jsafe.envs.tasks.push import Push
from jsafe.envs.tasks.run import Run
from jsafe.envs.tasks.safexp import SAFEXP

TASKS: dict[str, tuple[type[Task], tuple[int, ...]]] = {
    "Goal": (Goal, (0, 1, 2)),
    "Push": (Push, (0, 1, 2)),
    "Button": (Button, (0, 1, 2)),
    "Circle": (Circle, (0, 1, 2)),
    "Run": (Run, (0,)),
}
"""Official navigation tasks and their levels."""

__all__ = ["SAFEXP", "TASKS", "Button", "Episode", "Goal", "Lidar", "Push", "Scene", "Task", "hazard_cost", "planar"]
