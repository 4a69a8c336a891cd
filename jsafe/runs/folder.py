"""The folder of a run and its config.json."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import jax

from jsafe import registry
from jsafe.options import from_json, to_json
from jsafe.runs.build import make_learner
from jsafe.runs.config import RunConfig


class RunError(RuntimeError):
    """A run that cannot start or continue, with a message for the user."""


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
        "config": to_json(options),
        "run": to_json(config),
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
            from_json(RunConfig, data["run"]),
            algorithm.name,
            from_json(algorithm.config, data["config"]),
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} is not a run folder: it has no config.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
