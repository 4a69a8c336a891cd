"""Tasks: one short file each."""

from jsafe.envs.safety_gym.tasks.base import Episode, Lidar, Scene, Task, hazard_cost, planar
from jsafe.envs.safety_gym.tasks.button import Button
from jsafe.envs.safety_gym.tasks.circle import Circle
from jsafe.envs.safety_gym.tasks.fading import Fading, FadingHard
from jsafe.envs.safety_gym.tasks.goal import Goal
from jsafe.envs.safety_gym.tasks.push import Push
from jsafe.envs.safety_gym.tasks.run import Run
from jsafe.envs.safety_gym.tasks.safexp import SAFEXP

TASKS: dict[str, tuple[type[Task], tuple[int, ...]]] = {
    "Goal": (Goal, (0, 1, 2)),
    "Push": (Push, (0, 1, 2)),
    "Button": (Button, (0, 1, 2)),
    "Circle": (Circle, (0, 1, 2)),
    "Run": (Run, (0,)),
    "FadingEasy": (Fading, (0, 1, 2)),
    "FadingHard": (FadingHard, (0, 1, 2)),
}
"""Official navigation tasks and their levels."""

__all__ = ["SAFEXP", "TASKS", "Button", "Episode", "Goal", "Lidar", "Push", "Scene", "Task", "hazard_cost", "planar"]
