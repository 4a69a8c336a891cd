"""From the words of a run folder to its objects, once for training, evaluation, films and sweeps."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from jsafe import envs, registry
from jsafe.data import Collector, make_collector
from jsafe.data.device import DeviceCollector
from jsafe.envs.device import DeviceEnv, HostedEnv
from jsafe.runs.config import RunConfig, env_seed
from jsafe.types import EnvSpec, Learner, env_spec


class Described(Protocol):
    """What a run folder says (`jsafe.runs.folder.Run`)."""

    @property
    def config(self) -> RunConfig:
        """How to run."""

    @property
    def algorithm(self) -> str:
        """By name."""

    @property
    def options(self) -> Any:
        """Of the algorithm."""


def load_modules(modules: tuple[str, ...]) -> None:
    """Imports the modules that register a user's tasks and algorithms; the current folder is searched, too.

    Raises:
      ValueError: If one cannot be imported.
    """
    here = str(Path.cwd())
    if modules and here not in sys.path:
        sys.path.insert(0, here)
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ValueError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def build_env(config: RunConfig, num_envs: int, seed: int, num_threads: int | None = None) -> envs.VectorEnv:
    """The environments of a run.

    Args:
      config: Id, costs and options of the environment, and the modules that may define it.
      num_envs: N.
      seed: Stream of environment 0.
      num_threads: In place of the config's.

    Raises:
      ValueError: For an unknown id or option.
    """
    load_modules(config.imports)
    threads = num_threads or config.num_threads
    options: dict[str, Any] = dict(config.env_options)
    if config.backend != "host":
        options["backend"] = config.backend
    return envs.make(config.env, num_envs, seed, threads, config.costs, **options)


def device_env(config: RunConfig) -> DeviceEnv:
    """One episode of a run's task, for the program.

    Raises:
      ValueError: If it has no device environment, or for an unknown option.
    """
    made = build_env(dataclasses.replace(config, backend="device"), 1, 0)
    return cast(HostedEnv, made).env


class Task(NamedTuple):
    """What is known of a run's environment without one at hand."""

    spec: EnvSpec
    cost_names: tuple[str, ...]


def build_task(config: RunConfig) -> Task:
    """What there is to know of a run's environment, which is made for a moment."""
    made = build_env(config, 1, 0)
    try:
        return Task(env_spec(made), tuple(made.spec.cost_names))
    finally:
        made.close()


def build_learner(run: Described, axis_name: str | None = None, task: Task | None = None) -> Learner:
    """The learner of a run; `task` where it was built before."""
    options = run.options
    if getattr(options, "schedule_steps", 0) is None:
        options = dataclasses.replace(options, schedule_steps=run.config.total_steps)
    return registry.get(run.algorithm).build(options, (task or build_task(run.config)).spec, axis_name)


def build_collector(
    run: Described,
    learner: Learner,
    stack: contextlib.ExitStack,
    first: int = 0,
    num_threads: int | None = None,
) -> Collector:
    """Environments and collector of a run, seeded as the run says.

    Args:
      run: The run.
      learner: What is fed; its feed says how many environments.
      stack: Closes both.
      first: Number of the first environment among those of all processes.
      num_threads: In place of the config's.

    Raises:
      BadValueError: If the first observations cannot be used.
    """
    seed = env_seed(run.config.seed) + first
    if run.config.backend == "device":
        inside = DeviceCollector(device_env(run.config), learner, seed)
        stack.callback(inside.close)
        return inside
    env = build_env(run.config, learner.feed.num_envs, seed, num_threads)
    stack.callback(env.close)
    collector = make_collector(env, learner, seed=seed, on_bad=run.config.on_bad)
    stack.callback(collector.close)
    return collector
