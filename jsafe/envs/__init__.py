"""The batched Safety-Gymnasium engine: numpy and MuJoCo only."""

from jsafe.envs.adapters import ProcessEnv, WorkerError, as_gymnasium
from jsafe.envs.engine import VectorEnv
from jsafe.envs.layout import LayoutError
from jsafe.envs.objects import KINDS, Objects, place
from jsafe.envs.registry import list_ids, make, register
from jsafe.envs.robots import ROBOTS, Part, Robot
from jsafe.envs.spec import Spec, Step
from jsafe.envs.tasks import Lidar, Scene, Task
from jsafe.envs.velocity import VelocityEnv

__all__ = [
    "KINDS",
    "ROBOTS",
    "LayoutError",
    "Lidar",
    "Objects",
    "Part",
    "ProcessEnv",
    "Robot",
    "Scene",
    "Spec",
    "Step",
    "Task",
    "VectorEnv",
    "VelocityEnv",
    "WorkerError",
    "as_gymnasium",
    "list_ids",
    "make",
    "place",
    "register",
]
