"""The training loop as a generator, and the trainer behind `jsafe train`: run folder, curves, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jsafe import config as configs
from jsafe import logging, registry
from jsafe.checkpoint import CheckpointError, Checkpoints, free_bytes, tree_bytes
from jsafe.config import RunConfig
from jsafe.types import EnvSpec, Key, Learner, Metrics, ReplayData

INIT_FOLD = 2**32 - 1
"""`fold_in` number of the key that initialises the learner; iterations count up from 0."""


class RunError(RuntimeError):
    """A run that cannot start or continue, with a message for the user."""


class TrainStep(NamedTuple):
    """One iteration of `run`.

    Attributes:
      iteration: Iterations done so far, this one included (the number to continue from).
      env_steps: Environment steps done so far, over all environments.
      state: The learner's state. The next iteration donates it: copy what you keep (`jax.device_get`).
      metrics: Scalars on the device; reading one waits for it.
      episodes: Statistics of finished episodes (`episode/return` ...), as floats.
    """

    iteration: int
    env_steps: int
    state: Any
    metrics: Metrics
    episodes: dict[str, float]


def run(
    learner: Learner,
    collector: Any,
    *,
    key: Key,
    total_steps: int,
    state: Any = None,
    iteration: int = 0,
) -> Iterator[TrainStep]:
    """Trains: collect, update, yield, until the collector has taken `total_steps` environment steps.

    Iteration i draws all its randomness from `fold_in(key, i)`, so a run continues exactly from `state`, `iteration`
    and a restored collector. The update is compiled once and donates the state; nothing here waits for its metrics.

    Args:
      learner: What to train, from `jsafe.make`.
      collector: What feeds it, from `jsafe.collect.make_collector`.
      key: Typed root key.
      total_steps: Environment steps (all environments) at which to stop.
      state: Learner's state to continue from (left intact); a fresh one by default.
      iteration: Iterations that `state` has seen.

    Yields:
      A `TrainStep` after every iteration.

    Example:
      >>> for step in jsafe.train.run(learner, collector, key=jax.random.key(0), total_steps=100_000):
      ...     if step.episodes["episode/success"] > 0.95:
      ...         break
    """
    if state is None:
        state = jax.jit(learner.init)(jax.random.fold_in(key, INIT_FOLD))

    def update(state, batch, key):
        state, metrics = learner.update(state, batch, key)
        return _strong(state), metrics

    update = jax.jit(update, donate_argnums=0)
    # The collector's own copy: the buffers of the state are given away in the next update.
    policy = jax.jit(lambda state: jax.tree.map(jnp.copy, learner.policy(state)))
    split = jax.jit(lambda key, i: tuple(jax.random.split(jax.random.fold_in(key, i))))
    state = jax.jit(_strong)(state)
    while collector.env_steps < total_steps:
        collect_key, update_key = split(key, np.uint32(iteration))
        batch = collector.collect(policy(state), collect_key)
        state, metrics = update(state, batch, update_key)
        iteration += 1
        yield TrainStep(iteration, collector.env_steps, state, metrics, collector.episodes())


def _strong(tree: Any) -> Any:
    """Copies the leaves without weak types, which a checkpoint does not know: a resumed run compiles the same."""

    def strong(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.copy(leaf)
        return jnp.copy(jax.lax.convert_element_type(leaf, leaf.dtype))

    return jax.tree.map(strong, tree)


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


def make_learner(algorithm: str, options: Any, env: str, costs: str = "sum") -> Learner:
    """The learner of a config for the sizes of a task."""
    made = make_env(env, 1, costs=costs)
    spec = EnvSpec(made.spec.obs_dim, made.spec.act_dim, made.spec.num_costs, made.spec.horizon)
    made.close()
    return registry.get(algorithm).build(options, spec, None)


class Outcome(NamedTuple):
    """How `train` ended.

    Attributes:
      status: `finished`, `interrupted`, `diverged`, or `unsaved` (the last checkpoint could not be written).
      folder: The run folder.
      iteration: Iterations done.
      env_steps: Environment steps done.
      values: The last row of the learning curve.
      signal: The signal that interrupted it, or None.
      message: What the user should know.
    """

    status: str
    folder: Path
    iteration: int
    env_steps: int
    values: dict[str, float]
    signal: int | None = None
    message: str = ""


def start(config: RunConfig, algorithm: str, options: Any, folder: str | os.PathLike) -> Path:
    """Makes a run folder with its config.json, and nothing else.

    Raises:
      ValueError: If there is no such task, or the options do not fit it; no folder is made then.
      RunError: If the folder holds a run already, or cannot be written.
    """
    make_learner(algorithm, options, config.env, config.costs)
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise RunError(f"{folder} holds a run already; continue it with --resume {folder}, or name another --run-dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _describe(config, algorithm, options, folder)
    except OSError as error:
        raise RunError(f"cannot write to the run folder {folder}: {error}") from error
    return folder


def _describe(config: RunConfig, algorithm: str, options: Any, folder: Path) -> None:
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


def train(
    folder: str | os.PathLike,
    *,
    total_steps: int | None = None,
    num_threads: int | None = None,
    console: Console | None = None,
) -> Outcome:
    """Trains the run of a folder (made by `start`) from its newest checkpoint, or from the beginning.

    Continuing is exact: the learner, the replay, the engine with its random streams, all counters and the unfinished
    averages of the learning curve are restored, and rows written after the checkpoint are dropped, so that
    progress.csv and the checkpoints equal those of an unbroken run (`logging.WALL_COLUMNS` aside).

    SIGINT and SIGTERM end the iteration, save and return; a second one kills. A checkpoint, row or event that cannot
    be written (full disk) is reported and tried again later, while training goes on. A metric that is not finite, or
    NaN in the state, ends the run before it is saved.

    Args:
      folder: The run folder.
      total_steps: Replaces the stored number of steps (to train a finished run further).
      num_threads: Replaces the stored number of threads.
      console: Where to report; standard error by default.

    Raises:
      RunError: Before training, if the folder cannot be written or the disk is too small.
      CheckpointError: If the checkpoint cannot be read, or does not fit the config.
    """
    config, algorithm, options = read(folder)
    console = console or Console(stderr=True)
    try:
        if total_steps is not None and total_steps != config.total_steps:
            config = dataclasses.replace(config, total_steps=total_steps)
            _describe(config, algorithm, options, Path(folder))
    except OSError as error:
        raise RunError(f"cannot write to the run folder {folder}: {error}") from error
    with _Signals() as stop, contextlib.ExitStack() as stack:
        learner = make_learner(algorithm, options, config.env, config.costs)
        seed = configs.env_seed(config.seed)
        env = make_env(config.env, learner.data.num_envs, seed, num_threads or config.num_threads, config.costs)
        stack.callback(env.close)
        from jsafe.collect import make_collector

        collector = make_collector(env, learner, seed=seed)
        if hasattr(collector, "close"):
            stack.callback(collector.close)
        trainer = _Trainer(Path(folder), config, algorithm, options, learner, collector, console)
        stack.callback(trainer.close)
        return trainer.loop(stop)


class _Trainer:
    """One session of a run: everything that touches files or the terminal."""

    def __init__(self, folder, config, algorithm, options, learner, collector, console):
        self.folder, self.config, self.console = folder, config, console
        self.learner, self.collector, self.total_steps = learner, collector, config.total_steps
        self.key = jax.random.key(config.seed)
        description = {
            "algorithm": algorithm,
            "env": config.env,
            "costs": config.costs,
            "seed": config.seed,
            "options": configs.to_json(options),
            "prng": str(jax.random.key_impl(self.key)),
        }
        self.checkpoints = Checkpoints(folder, keep=config.keep_checkpoints, config=description)
        self.interval = logging.Interval()
        self.table = logging.CsvTable(folder / "progress.csv")
        self.values: dict[str, float] = {}
        self.problems: dict[str, str] = {}
        self.elapsed_before = 0.0
        self.started = self.saved_at = time.monotonic()
        template = jax.eval_shape(learner.init, self.key)
        loaded = self.checkpoints.load(template, collector)
        self.state = None if loaded is None else loaded.state
        self.iteration = self.saved = 0 if loaded is None else loaded.iteration
        self._check_room(template)
        try:
            self.table.continue_after(self.iteration)
            step = collector.env_steps
            self.events = [logging.Events(folder / "tensorboard", step)] if config.tensorboard else []
            if config.wandb:
                self.events.append(logging.WandbRun(folder, description))
        except OSError as error:
            raise RunError(f"cannot write to the run folder {folder}: {error}") from error
        if loaded is not None:
            self.elapsed_before = loaded.extra["elapsed"]
            self.interval.load_state_dict(loaded.extra["interval"])
            self.table.load_state_dict(loaded.extra["table"])
            self.values = loaded.extra["values"]
        self.next_row = self._row_after(collector.env_steps)
        self.row_mark = (time.monotonic(), collector.env_steps)
        what = f"continuing at {logging.count(collector.env_steps)} steps" if self.iteration else "starting"
        console.print(
            f"{algorithm} on {config.env}, seed {config.seed}: {what} in {folder}", highlight=False, soft_wrap=True
        )
        self.progress = logging.Progress(console, config.total_steps, collector.env_steps)

    def close(self) -> None:
        self.progress.close()
        for events in self.events:
            events.close()

    def loop(self, stop: _Signals) -> Outcome:
        """Trains until the end, a signal, or divergence."""
        steps = run(
            self.learner,
            self.collector,
            key=self.key,
            total_steps=self.total_steps,
            state=self.state,
            iteration=self.iteration,
        )
        self.state = None  # the generator has its own; holding this one would double the memory
        for step in steps:
            self.iteration = step.iteration
            self.interval.add(step.metrics, step.episodes)
            self.progress.update(step.env_steps, step.episodes)
            last = step.env_steps >= self.total_steps
            row = last or step.env_steps >= self.next_row
            save = last or stop.signal is not None
            save = save or time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
            bad = self._not_finite(step.state) if row or save else []
            if row:
                self._write_row(step.env_steps)
            if bad:
                return self._diverged(step, bad)
            if save:
                self._save(step.state)
            if stop.signal is not None:
                return self._ended("interrupted", step.env_steps, stop.signal)
        return self._ended("finished", self.collector.env_steps)

    def _row_after(self, env_steps: int) -> int:
        return (env_steps // self.config.log_interval + 1) * self.config.log_interval

    def _write_row(self, env_steps: int) -> None:
        now, (then, before) = time.monotonic(), self.row_mark
        row = {
            "iteration": self.iteration,
            "env_steps": env_steps,
            "time/wall_seconds": round(self.elapsed_before + now - self.started, 3),
            "time/steps_per_second": round((env_steps - before) / max(now - then, 1e-9), 3),
            **self.interval.row(),
        }
        self.values = row
        self.next_row, self.row_mark = self._row_after(env_steps), (now, env_steps)
        self.progress.update(env_steps, row)
        self._attempt("progress.csv", lambda: self.table.append(row))
        scalars = {name: value for name, value in row.items() if name not in ("iteration", "env_steps")}
        for events in self.events:
            self._attempt(f"the events ({type(events).__name__})", partial(events.write, env_steps, scalars))

    def _save(self, state: Any) -> None:
        extra = {
            "elapsed": self.elapsed_before + time.monotonic() - self.started,
            "env_steps": self.collector.env_steps,
            "interval": self.interval.state_dict(),
            "table": self.table.state_dict(),
            "values": self.values,
        }

        def save():
            self.table.sync()  # the rows that this checkpoint counts on
            self.checkpoints.save(self.iteration, state, self.collector, extra)
            self.saved = self.iteration

        self._attempt("the checkpoint", save)
        self.saved_at = time.monotonic()

    def _attempt(self, what: str, write: Any) -> None:
        """Writes, or reports why it could not be done (once per reason)."""
        try:
            write()
            self.problems.pop(what, None)
        except OSError as error:
            problem = f"could not write {what}: {error.strerror or error}"
            if problem != self.problems.get(what):
                kept = f" The last good checkpoint is of iteration {self.saved}." if self.saved else ""
                self.progress.message(f"warning: {problem}; training goes on, and the write is tried again.{kept}")
            self.problems[what] = problem

    def _not_finite(self, state: Any) -> list[str]:
        names = self.interval.nonfinite()
        return names or [f"state{name}" for name in _nan_leaves(state)]

    def _diverged(self, step: TrainStep, names: list[str]) -> Outcome:
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        kept = f"the last good checkpoint, of iteration {self.saved}, is kept" if self.saved else "none was saved yet"
        message = f"the run diverged: not finite in iteration {step.iteration} or shortly before: {shown}; {kept}"
        return Outcome("diverged", self.folder, self.iteration, step.env_steps, self.values, message=message)

    def _ended(self, status: str, env_steps: int, number: int | None = None) -> Outcome:
        message = ""
        if self.saved != self.iteration:
            kept = f"the last good checkpoint is of iteration {self.saved}" if self.saved else "there is no checkpoint"
            status, message = "unsaved", f"{self.problems['the checkpoint']}; {kept}"
        elif status == "interrupted":
            message = f"saved; continue with: jsafe train --resume {self.folder}"
        return Outcome(status, self.folder, self.iteration, env_steps, self.values, number, message)

    def _check_room(self, template: Any) -> None:
        """An estimate, before training: all checkpoints, one more while writing, and the replay."""
        state = sum(math.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(template))
        need = (self.config.keep_checkpoints + 1) * (state + tree_bytes(self.collector.state_dict()))
        data, spec = self.learner.data, self.learner.spec
        if isinstance(data, ReplayData):
            rows = min(data.num_envs * data.replay_rows, self.total_steps)
            width = spec.obs_dim * jnp.dtype(data.dtype).itemsize + 4 * (spec.act_dim + spec.num_costs + 3)
            need += rows * width * 5 // 4
        free = free_bytes(self.folder)
        if free < need:
            raise RunError(
                f"the disk of {self.folder} has {free / 2**20:.0f} MiB free; this run needs about "
                f"{need / 2**20:.0f} MiB for its checkpoints and its replay"
            )


def _nan_leaves(state: Any) -> list[str]:
    """Paths of the leaves that hold NaN (infinity can be meant)."""
    leaves = [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    flags = jax.device_get(_any_nan([leaf for _, leaf in leaves]))
    return [name for (name, _), flag in zip(leaves, flags) if flag]


@jax.jit
def _any_nan(leaves: list[jax.Array]) -> list[jax.Array]:
    return [jnp.isnan(leaf).any() for leaf in leaves]


class _Signals:
    """Notes the first SIGINT or SIGTERM; after it, the next one has its default effect and kills."""

    def __init__(self):
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        self.signal = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)


__all__ = [
    "CheckpointError",
    "Outcome",
    "RunError",
    "TrainStep",
    "make_env",
    "make_learner",
    "read",
    "run",
    "start",
    "train",
]
