"""The batched Safety-Gymnasium engine: numpy and MuJoCo only."""

from jsafe.envs.api import Spec, Step
from jsafe.envs.export import as_gymnasium
from jsafe.envs.outside import ProcessEnv, WorkerError
from jsafe.envs.registry import list_ids, make, register
from jsafe.envs.safety_gym.engine import VectorEnv
from jsafe.envs.safety_gym.layout import LayoutError
from jsafe.envs.safety_gym.objects import KINDS, Objects, place
from jsafe.envs.safety_gym.robots import ROBOTS, Part, Robot
from jsafe.envs.safety_gym.tasks import Lidar, Scene, Task
from jsafe.envs.toy import ToyEnv
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
    "ToyEnv",
    "VectorEnv",
    "VelocityEnv",
    "WorkerError",
    "as_gymnasium",
    "list_ids",
    "make",
    "place",
    "register",
]
