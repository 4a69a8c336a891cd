"""From the words of a run folder to its objects: environments and learner."""

from __future__ import annotations

from typing import Any

from jsafe import envs, registry
from jsafe.types import Learner, env_spec


def make_env(env: str, num_envs: int, seed: int = 0, num_threads: int | None = None, costs: str = "sum") -> Any:
    """Builds the environments of an id.

    Raises:
      ValueError: For an unknown id, or costs that the task lacks.
    """
    return envs.make(env, num_envs=num_envs, seed=seed, num_threads=num_threads, costs=costs)


def make_learner(algorithm: str, options: Any, env: str, costs: str = "sum", axis_name: str | None = None) -> Learner:
    """The learner of a config for the sizes of a task."""
    made = make_env(env, 1, costs=costs)
    spec = env_spec(made)
    made.close()
    return registry.get(algorithm).build(options, spec, axis_name)
