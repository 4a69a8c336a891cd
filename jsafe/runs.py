"""What a run is made of: its environments, its learner, its folder."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import jax

from jsafe import config as configs
from jsafe import registry
from jsafe.config import RunConfig
from jsafe.types import EnvSpec, Learner

INIT_FOLD = 2**32 - 1
"""`fold_in` number of the key that initialises the learner; iterations count up from 0."""


class RunError(RuntimeError):
    """A run that cannot start or continue, with a message for the user."""


def make_env(env: str, num_envs: int, seed: int = 0, num_threads: int | None = None, costs: str = "sum") -> Any:
    """Builds the environments of an id: a task of `jsafe.envs`, or a toy one (`Toy-SpeedLimit-v0`).

    Raises:
      ValueError: For an unknown id, or costs that the task lacks.
    """
    if env.startswith("Toy-"):
        from jsafe import testing

        made = testing.ToyEnv(num_envs, seed)
        if env != made.spec.id:
            raise ValueError(registry.unknown("toy task", env, [made.spec.id]))
        if costs != "sum":
            raise ValueError(f"costs must be 'sum' on {env}, which has a single cost: {costs!r}")
        return made
    from jsafe import envs

    return envs.make(env, num_envs=num_envs, seed=seed, num_threads=num_threads, costs=costs)


def make_learner(algorithm: str, options: Any, env: str, costs: str = "sum", axis_name: str | None = None) -> Learner:
    """The learner of a config for the sizes of a task."""
    made = make_env(env, 1, costs=costs)
    spec = EnvSpec(made.spec.obs_dim, made.spec.act_dim, made.spec.num_costs, made.spec.horizon)
    made.close()
    return registry.get(algorithm).build(options, spec, axis_name)


def start(config: RunConfig, algorithm: str, options: Any, folder: str | os.PathLike) -> Path:
    """Makes a run folder with its config.json, and nothing else.

    Raises:
      ValueError: If there is no such task, or the options do not fit it; no folder is made then.
      RunError: If the folder holds a run already, or cannot be written.
    """
    make_learner(algorithm, options, config.env, config.costs)
    folder = check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        describe(config, algorithm, options, folder)
    except OSError as error:
        raise RunError(f"cannot write to the run folder {folder}: {error}") from error
    return folder


def check_free(folder: str | os.PathLike) -> Path:
    """The folder, if it holds no run.

    Raises:
      RunError: If it does.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise RunError(f"{folder} holds a run already; continue it with --resume {folder}, or name another --run-dir")
    return folder


def describe(config: RunConfig, algorithm: str, options: Any, folder: Path) -> None:
    """Writes config.json, at once or not at all."""
    description = {
        "jsafe": importlib.metadata.version("jsafe"),
        "jax": jax.__version__,
        "algorithm": algorithm,
        "config": configs.to_json(options),
        "run": configs.to_json(config),
    }
    temporary = folder / ".config.json.new"
    temporary.write_text(json.dumps(description, indent=2) + "\n")
    os.replace(temporary, folder / "config.json")


def read(folder: str | os.PathLike) -> tuple[RunConfig, str, Any]:
    """Run config, algorithm and algorithm config of a run folder.

    Raises:
      RunError: If the folder holds no run, or its config.json cannot be read or does not fit this version.
    """
    path = Path(folder) / "config.json"
    try:
        data = json.loads(path.read_text())
        algorithm = registry.get(data["algorithm"])
        return (
            configs.from_json(RunConfig, data["run"]),
            algorithm.name,
            configs.from_json(algorithm.config, data["config"]),
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} is not a run folder: it has no config.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
