"""The folder of a run and its config.json."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jsafe
from jsafe import registry
from jsafe.curves.csv_table import write_whole
from jsafe.data import ram
from jsafe.options import from_json, to_json
from jsafe.runs import lock
from jsafe.runs.build import build_learner, build_task, check_data, data_checksum, load_modules
from jsafe.runs.config import RunConfig
from jsafe.runs.storage import sealed, unsealed
from jsafe.types import EnvSpec, spec_from_json, spec_to_json

CONFIG = "config.json"


class RunError(RuntimeError):
    """A run that cannot start or continue, with a message for the user."""


class BusyError(RunError):
    """Another process works in the folder."""


class Run(NamedTuple):
    """What a run folder says: how to run (`config`), the algorithm by name and its options; and what the environment
    was like at the start, the names of its costs and its `spec` (None in the folders of earlier versions)."""

    config: RunConfig
    algorithm: str
    options: Any
    cost_names: tuple[str, ...] = ()
    spec: EnvSpec | None = None


def start(config: RunConfig, algorithm: str, options: Any, folder: str | os.PathLike) -> Path:
    """Makes a run folder with its config.json, and nothing else.

    Raises:
      ValueError: If there is no such task, or the options do not fit it; no folder is made then.
      RunError: If the folder holds a run already, or cannot be written.
    """
    run = Run(config, algorithm, options)
    description = to_json(options)  # parts that cannot be saved are told before anything is made
    folder = check_free(folder)
    task = build_task(config)
    learner = build_learner(run, task=task)
    ram.check(learner, config.total_steps)
    check_data(config, algorithm, learner, task)
    config = dataclasses.replace(config, data_sha256=data_checksum(config))
    run = run._replace(config=config, cost_names=task.cost_names, spec=task.spec)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(run, description, folder)
    except OSError as error:
        if made and folder.is_dir():
            (folder / f".{CONFIG}.new").unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
        raise RunError(f"cannot write to the run folder {folder}: {error.strerror or error}") from error
    return folder


def undo(folder: str | os.PathLike) -> None:
    """Takes back what `start` has made, where nothing was trained since: what was refused leaves nothing behind.

    A folder in which somebody else has begun to work stays.
    """
    folder = Path(folder)
    with contextlib.suppress(OSError, lock.LockedError), lock.lock(folder, "cleaning up"):
        if {path.name for path in folder.iterdir()} <= {CONFIG, lock.NAME}:
            for name in (CONFIG, lock.NAME):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def check_free(folder: str | os.PathLike) -> Path:
    """The folder, if it holds no run.

    Raises:
      RunError: If it does, or its name cannot be one.
    """
    folder = Path(folder)
    try:
        taken = (folder / CONFIG).exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        raise RunError(f"cannot use the run folder {str(folder)[:80]!r}: {error}") from error
    if taken:
        raise RunError(f"{folder} holds a run already; continue it with --resume {folder}, or name another --run-dir")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder")
    return folder


def write(run: Run, folder: Path) -> None:
    """Writes config.json, at once or not at all.

    Raises:
      OSError: If it cannot be written.
    """
    _write(run, to_json(run.options), folder)


def restore(folder: Path, data: bytes) -> None:
    """Puts a config.json that was lost back, at once or not at all.

    Raises:
      OSError: If it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CONFIG, data)


def _write(run: Run, options: Any, folder: Path) -> None:
    description = {
        "jsafe": jsafe.__version__,
        "jax": jax.__version__,
        "algorithm": run.algorithm,
        "config": options,
        "run": to_json(run.config),
        "cost_names": list(run.cost_names),
        **({} if run.spec is None else {"spec": spec_to_json(run.spec)}),
    }
    restore(folder, sealed(description))


def _of_today(run: dict[str, Any]) -> dict[str, Any]:
    """Settings that meant nothing in a run of their time are left out."""
    if "episodes_csv" in run or run.get("data") is not None:
        return run
    return {name: value for name, value in run.items() if name != "eval_interval"}  # it was for data sets alone


def read(folder: str | os.PathLike, imports: bool = True) -> Run:
    """Run config, algorithm and options of a run folder, checked like words on the command line.

    Args:
      folder: The run folder.
      imports: Whether the modules that the run imports have to be there; else one that is missing does no harm unless
        the algorithm is its own.

    Raises:
      RunError: If the folder holds no run, its config.json is damaged, or it does not fit this version.
    """
    path = Path(folder) / CONFIG
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{folder} is not a run folder: it has no {CONFIG}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    try:
        described = json.loads(data)
        version = described.get("jsafe", "") if isinstance(described, dict) else ""
        if isinstance(version, str) and version.startswith("0.1."):
            raise RunError(
                f"{folder} was made by jsafe {version}, whose options and parameters have another layout: evaluate and "
                "resume it with that version (`jsafe plot` draws it here, too)"
            )
        described = unsealed(data)
        config = from_json(RunConfig, _of_today(described["run"]))
        with contextlib.nullcontext() if imports else contextlib.suppress(ValueError):
            load_modules(config.imports)  # one of them may register the algorithm
        algorithm = registry.get(described["algorithm"])
        options = from_json(type(algorithm.config), described["config"])
        spec = spec_from_json(described["spec"]) if "spec" in described else None
        return Run(config, algorithm.name, options, tuple(map(str, described.get("cost_names", ()))), spec)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be used: {error}") from error
