"""From the words of a run folder to its objects, once for training, evaluation, films and sweeps."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from jsafe import envs, registry
from jsafe.data import Collector, datasets, make_collector
from jsafe.data.device import DeviceCollector
from jsafe.envs.device import DeviceEnv, HostedEnv
from jsafe.feeds import Dataset
from jsafe.runs.config import RunConfig, env_seed
from jsafe.spaces import difference
from jsafe.types import EnvSpec, Learner, env_spec

NO_ENV = "none"
"""In the place of the environment's id, where a data set is all there is."""
_SET_BY_RUNS = frozenset(("id", "num_envs", "seed", "num_threads", "costs"))
"""Arguments of `jsafe.envs.make` that are the run's."""


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

    @property
    def spec(self) -> EnvSpec | None:
        """What the environment was like at the start; None in the folders of earlier versions."""


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
      ValueError: For an unknown id or option, or a value of a type that the task does not take.
    """
    load_modules(config.imports)
    if config.env == NO_ENV:
        raise ValueError("env is 'none': this run has a data set and no environment; name one (--env ID)")
    threads = num_threads or config.num_threads
    options: dict[str, Any] = dict(config.env_options)
    if config.backend != "host":
        options["backend"] = config.backend
    if ":" in config.env:  # somebody else's, whose values are looked at where they come in
        options.setdefault("bad_values", config.on_bad)
    if taken := _SET_BY_RUNS.intersection(options):
        raise ValueError(f"env.{min(taken)} is not an option of an environment: the run sets it")
    try:
        return envs.make(config.env, num_envs, seed, threads, config.costs, **options)
    except (TypeError, AttributeError) as error:
        if not config.env_options:
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in config.env_options)
        raise ValueError(f"options of {config.env!r} ({given}): {error}") from error


def on_host(config: RunConfig) -> RunConfig:
    """The run's settings with its task on the exact engine, which can be drawn, and put into any state."""
    return dataclasses.replace(config, backend="host")


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


def load_data(config: RunConfig) -> datasets.Episodes:
    """The data set of a run.

    Raises:
      DatasetError: If it cannot be used, or is not the one that the run was made with.
      OSError: If it cannot be opened.
    """
    assert config.data is not None
    status = Path(config.data).stat()
    episodes, digest = _read(config.data, status.st_mtime_ns, status.st_size)
    if config.data_sha256 not in (None, digest):
        raise datasets.DatasetError(
            f"{config.data} is another data set than the run was made with: its checksum is {digest[:12]}..., "
            f"not {str(config.data_sha256)[:12]}..."
        )
    return episodes.with_costs(config.costs)


@functools.lru_cache(maxsize=1)
def _read(path: str, modified: int, size: int) -> tuple[datasets.Episodes, str]:
    """Read once for the checks at the start and for the training."""
    del modified, size
    episodes = datasets.read(path)
    return episodes, datasets.checksum(episodes)


def data_checksum(config: RunConfig) -> str | None:
    """Of the run's data set; None if it has none."""
    if config.data is None:
        return None
    status = Path(config.data).stat()
    return _read(config.data, status.st_mtime_ns, status.st_size)[1]


def check_data(config: RunConfig, algorithm: str, learner: Learner, task: Task) -> None:
    """Raises ValueError unless data set, algorithm and environment fit together."""
    fed = isinstance(learner.feed, Dataset)
    if fed and config.data is None:
        raise ValueError(f"{algorithm} learns from a data set: --data FILE is missing")
    if config.data is None:
        return
    if not fed:
        raise ValueError(f"{algorithm} learns from an environment, not from a data set: leave --data out")
    data = load_data(config)
    spec, about = data.spec, data.about
    if about.env not in (None, config.env) and config.env != NO_ENV:
        raise ValueError(f"{config.data} was recorded on {about.env}, not on {config.env}")
    if spec.horizon != task.spec.horizon:
        raise ValueError(
            f"episodes in {config.data} have up to {spec.horizon} steps, those of {config.env} {task.spec.horizon}"
        )
    for name in ("obs", "action"):
        why = difference(getattr(spec, name), getattr(task.spec, name))
        if why:
            raise ValueError(f"{config.data} was not recorded on {config.env}: its {name} space is another one: {why}")
    if spec.num_costs != task.spec.num_costs:
        raise ValueError(f"{config.data} has {spec.num_costs} costs, {config.env} has {task.spec.num_costs}")


def build_task(config: RunConfig) -> Task:
    """What there is to know of a run's environment, which is made for a moment, or of its data set."""
    if config.env == NO_ENV and config.data is not None:
        episodes = load_data(config)
        return Task(episodes.spec, episodes.about.cost_names)
    made = build_env(config, 1, 0)
    try:
        return Task(env_spec(made), tuple(made.spec.cost_names))
    finally:
        made.close()


def build_learner(run: Described, axis_name: str | None = None, task: Task | None = None) -> Learner:
    """The learner of a run; an environment is made (for a moment) only where neither run nor `task` says what it is."""
    options = run.options
    if getattr(options, "schedule_steps", 0) is None:
        options = dataclasses.replace(options, schedule_steps=run.config.total_steps)
    spec = run.spec if task is None else task.spec
    return registry.get(run.algorithm).build(options, spec or build_task(run.config).spec, axis_name)


def build_collector(
    run: Described,
    learner: Learner,
    stack: contextlib.ExitStack,
    first: int = 0,
    num_threads: int | None = None,
    mesh: Any = None,
) -> Collector:
    """Environments and collector of a run, seeded as the run says.

    Args:
      run: The run.
      learner: What is fed; its feed says how many environments.
      stack: Closes both.
      first: Number of the first environment among those of all processes.
      num_threads: In place of the config's.
      mesh: Devices that share the environments inside the program (`DeviceCollector`).

    Raises:
      BadValueError: If the first observations cannot be used.
    """
    seed = env_seed(run.config.seed) + first
    if isinstance(learner.feed, Dataset):
        if run.config.backend != "host":
            raise ValueError(f"backend must be 'host' where a data set is learnt from, got {run.config.backend!r}")
        return _from_data(run.config, learner, stack, seed, num_threads)
    if run.config.backend == "device":
        inside = DeviceCollector(device_env(run.config), learner, seed, mesh=mesh)
        stack.callback(inside.close)
        return inside
    env = build_env(run.config, learner.feed.num_envs, seed, num_threads)
    stack.callback(env.close)
    collector = make_collector(env, learner, seed=seed, on_bad=run.config.on_bad)
    stack.callback(collector.close)
    return collector


def eval_env(config: RunConfig, stack: contextlib.ExitStack, seed: int, num_threads: int | None = None) -> Any:
    """The environments in which a run is evaluated meanwhile, or None."""
    if config.env == NO_ENV or not config.evaluated_every:
        return None
    most = 16 if config.backend == "host" else 128
    env = build_env(config, min(config.eval_episodes, most), seed, num_threads)
    stack.callback(env.close)
    return env


def data_options(config: RunConfig) -> dict[str, Any]:
    """What a run says to the collector of a data set."""
    return {
        "data": load_data(config),
        "eval_interval": config.evaluated_every,
        "eval_episodes": config.eval_episodes,
    }


def _from_data(
    config: RunConfig, learner: Learner, stack: contextlib.ExitStack, seed: int, num_threads: int | None
) -> Collector:
    env = eval_env(config, stack, seed, num_threads)
    return make_collector(env, learner, seed=seed, **data_options(config))
