"""Batched environments: the Safety-Gymnasium engine, velocity tasks, toys, and those of others. No JAX is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time on first use: the names of tasks, say, need no MuJoCo
    from jsafe.envs.api import Spec, Step, VectorEnv
    from jsafe.envs.device.called import CalledEnv, as_jax
    from jsafe.envs.export.as_gymnasium import as_gymnasium
    from jsafe.envs.outside.process import ProcessEnv
    from jsafe.envs.outside.workers import WorkerError
    from jsafe.envs.registry import list_ids, make, register, summary
    from jsafe.envs.safety_gym.engine import SafetyGymEnv
    from jsafe.envs.safety_gym.layout import LayoutError
    from jsafe.envs.safety_gym.objects import KINDS, Objects, place
    from jsafe.envs.safety_gym.robots import ROBOTS, Part, Robot
    from jsafe.envs.safety_gym.tasks import Lidar, Scene, Task
    from jsafe.envs.toy import ToyEnv, ToyGrid, ToyImage, ToyRecall
    from jsafe.envs.velocity.env import VelocityEnv

_NAMES = {
    "CalledEnv": "device.called",
    "KINDS": "safety_gym.objects",
    "ROBOTS": "safety_gym.robots",
    "LayoutError": "safety_gym.layout",
    "Lidar": "safety_gym.tasks",
    "Objects": "safety_gym.objects",
    "Part": "safety_gym.robots",
    "ProcessEnv": "outside.process",
    "Robot": "safety_gym.robots",
    "SafetyGymEnv": "safety_gym.engine",
    "Scene": "safety_gym.tasks",
    "Spec": "api",
    "Step": "api",
    "Task": "safety_gym.tasks",
    "ToyEnv": "toy",
    "ToyGrid": "toy",
    "ToyImage": "toy",
    "ToyRecall": "toy",
    "VectorEnv": "api",
    "VelocityEnv": "velocity.env",
    "WorkerError": "outside.workers",
    "as_gymnasium": "export.as_gymnasium",
    "as_jax": "device.called",
    "list_ids": "registry",
    "make": "registry",
    "place": "safety_gym.objects",
    "register": "registry",
    "summary": "registry",
}

__all__ = [
    "KINDS",
    "ROBOTS",
    "CalledEnv",
    "LayoutError",
    "Lidar",
    "Objects",
    "Part",
    "ProcessEnv",
    "Robot",
    "SafetyGymEnv",
    "Scene",
    "Spec",
    "Step",
    "Task",
    "ToyEnv",
    "ToyGrid",
    "ToyImage",
    "ToyRecall",
    "VectorEnv",
    "VelocityEnv",
    "WorkerError",
    "as_gymnasium",
    "as_jax",
    "list_ids",
    "make",
    "place",
    "register",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"jsafe.envs.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'jsafe.envs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
