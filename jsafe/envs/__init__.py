"""The batched Safety-Gymnasium engine: numpy and MuJoCo only."""

from jsafe.envs.engine import VectorEnv
from jsafe.envs.layout import LayoutError
from jsafe.envs.objects import KINDS, Objects, place
from jsafe.envs.registry import list_ids, make, register
from jsafe.envs.robots import ROBOTS, Part, Robot
from jsafe.envs.spec import Spec, Step
from jsafe.envs.tasks import Lidar, Scene, Task

__all__ = [
    "KINDS",
    "ROBOTS",
    "LayoutError",
    "Lidar",
    "Objects",
    "Part",
    "Robot",
    "Scene",
    "Spec",
    "Step",
    "Task",
    "VectorEnv",
    "list_ids",
    "make",
    "place",
    "register",
]
