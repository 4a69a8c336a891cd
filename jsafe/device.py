"""Training in one program: `for step in jsafe.device.run(learner, jsafe.device.make(ID), ...)`."""

from typing import Any

from jsafe import envs
from jsafe.data.device import Collecting, DeviceCollector, World, collecting
from jsafe.envs.device import DeviceEnv, HostedEnv, hosted, vectorise
from jsafe.runs.device import iterate, repeat, run, run_many

__all__ = [
    "Collecting",
    "DeviceCollector",
    "DeviceEnv",
    "World",
    "collecting",
    "hosted",
    "iterate",
    "make",
    "repeat",
    "run",
    "run_many",
    "vectorise",
]


def make(id: str, costs: str = "sum", **options: Any) -> DeviceEnv:
    """One episode of a task as pure functions, for `run`, or for a program of one's own.

    Args:
      id: `SafetyPointGoal1-v0`, `SafeRacing-v0` ...: what `jsafe.envs.make(id, backend="device")` takes.
      costs: `sum`: one cost column; `separate`: one for each cost group of the task.
      **options: Of the task.

    Raises:
      ValueError: If the id has no device environment, an option is unknown, or a value is not allowed.

    Example:
      >>> env = jsafe.device.make("SafetyPointGoal1-v0")
      >>> state, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 2))
    """
    made = envs.make(id, 1, costs=costs, backend="device", **options)
    assert isinstance(made, HostedEnv)
    return made.env
