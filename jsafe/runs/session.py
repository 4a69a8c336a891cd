"""A session of training in a run folder: curves, checkpoints, signals."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jsafe.curves import logging
from jsafe.data import PrefetchCollector, make_collector
from jsafe.options import to_json
from jsafe.runs import config as configs
from jsafe.runs import folder as folders
from jsafe.runs.build import make_env, make_learner
from jsafe.runs.checkpoint import Checkpoints, free_bytes, tree_bytes
from jsafe.runs.folder import RunError, read
from jsafe.runs.loop import TrainStep, run
from jsafe.scale import devices as parallel
from jsafe.scale.processes import Team, TeamCollector, local_learner, lost_process
from jsafe.types import ReplayData


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


def train(
    folder: str | os.PathLike,
    *,
    total_steps: int | None = None,
    num_threads: int | None = None,
    console: Console | None = None,
    team: Team | None = None,
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
      team: The processes of a distributed run; each of them calls this function. They need a common file system, but
        process 0 alone writes. With the same number of processes, continuing is exact as well; with another one, the
        learner, the environments with their streams, the replay and the counters are, but not the noise of actions
        and losses from there on, which belongs to a process.

    Raises:
      RunError: Before training, if the folder cannot be written or the disk is too small.
      LostProcessError: If another process of the team has ended or cannot be reached.
      CheckpointError: If the checkpoint cannot be read, or does not fit the config.
    """
    config, algorithm, options = read(folder)
    try:
        if total_steps is not None and total_steps != config.total_steps:
            config = dataclasses.replace(config, total_steps=total_steps)
            if team is None or team.index == 0:
                folders.describe(config, algorithm, options, Path(folder))
    except OSError as error:
        raise RunError(f"cannot write to the run folder {folder}: {error}") from error
    with Signals() as stop, lost_process(team, Path(folder), Checkpoints(folder).list), contextlib.ExitStack() as stack:
        if config.depth and team is not None:
            raise RunError("depth must be 0 in a distributed run, got 1")
        if team is not None and team.index > 0:
            console = Console(file=stack.enter_context(open(os.devnull, "w")))
        axis_name = None if team is None else team.mesh.axis_names[0]
        learner = make_learner(algorithm, options, config.env, config.costs, axis_name)
        mine = learner if team is None else local_learner(learner, team)
        seed = configs.env_seed(config.seed) + (0 if team is None else team.index * mine.data.num_envs)
        env = make_env(config.env, mine.data.num_envs, seed, num_threads or config.num_threads, config.costs)
        stack.callback(env.close)
        collector = make_collector(env, mine, seed=seed)
        if config.depth:
            collector = PrefetchCollector(collector, config.depth)
            stack.callback(collector.close)
        if team is not None:
            collector = TeamCollector(collector, team)
        console = console or Console(stderr=True)
        trainer = Trainer(Path(folder), config, algorithm, options, learner, collector, console, team)
        stack.callback(trainer.close)
        return trainer.loop(stop)


class Trainer:
    """One session of a run: everything that touches files or the terminal."""

    def __init__(self, folder, config, algorithm, options, learner, collector, console, team):
        self.team, self.writes, self.votes = team, team is None or team.index == 0, None
        self._again = "" if team is None else " --distributed"
        self.folder, self.config, self.console = folder, config, console
        self.learner, self.collector, self.total_steps = learner, collector, config.total_steps
        self.key = jax.random.key(config.seed)
        description = {
            "algorithm": algorithm,
            "env": config.env,
            "costs": config.costs,
            "seed": config.seed,
            "options": to_json(options),
            "prng": str(jax.random.key_impl(self.key)),
        }
        defaults = {"options": to_json(type(options)())}
        self.checkpoints = Checkpoints(folder, keep=config.keep_checkpoints, config=description, defaults=defaults)
        self.interval = logging.Interval()
        self.table = logging.CsvTable(folder / "progress.csv")
        self.values: dict[str, float] = {}
        self.problems: dict[str, str] = {}
        self.elapsed_before = 0.0
        self.started = self.saved_at = time.monotonic()
        template = jax.eval_shape(learner.init, self.key)
        loaded = self._load(template)
        self.state = None if loaded is None else loaded.state
        self.iteration = self.saved = 0 if loaded is None else loaded.iteration
        self.events = []
        try:
            if self.writes:
                self._check_room(template)
                self.table.continue_after(self.iteration)
            if self.writes and config.tensorboard:
                self.events.append(logging.Events(folder / "tensorboard", collector.env_steps))
            if self.writes and config.wandb:
                self.events.append(logging.WandbRun(folder, description))
        except OSError as error:
            raise RunError(f"cannot write to the run folder {folder}: {error}") from error
        if loaded is not None:
            self.elapsed_before = loaded.extra["elapsed"]
            self.interval.load_state_dict(loaded.extra["interval"])
            self.table.load_state_dict(loaded.extra["table"])
            self.values = loaded.extra["values"]
            if not self.writes:  # process 0 has counted the episodes of all
                self.interval.forget_episodes()
        self.next_row = self._row_after(collector.env_steps)
        self.row_mark = (time.monotonic(), collector.env_steps)
        what = f"continuing at {logging.count(collector.env_steps)} steps" if self.iteration else "starting"
        console.print(
            f"{algorithm} on {config.env}, seed {config.seed}: {what} in {folder}", highlight=False, soft_wrap=True
        )
        self.progress = logging.Progress(console, config.total_steps, collector.env_steps)

    def close(self) -> None:
        """Ends the progress line and the event files."""
        self.progress.close()
        for events in self.events:
            events.close()

    def loop(self, stop: Signals) -> Outcome:
        """Trains until the end, a signal, or divergence."""
        steps = run(
            self.learner,
            self.collector,
            key=self.key,
            total_steps=self.total_steps,
            state=self.state,
            iteration=self.iteration,
            update=None if self.team is None else parallel.shard_map_update(self.learner, self.team.mesh),
        )
        self.state = None  # the generator has its own; holding this one would double the memory
        for step in steps:
            outcome = self.take(step, *self._wishes(stop))
            if outcome is not None:
                return outcome
        return self.ended("finished", self.collector.env_steps)

    def take(self, step: TrainStep, number: int | None, due: bool) -> Outcome | None:
        """Notes one iteration, and writes what is due.

        Args:
          step: What `run` has yielded. Its state is looked at only where a row or a checkpoint is written.
          number: The signal that ends the run, if any.
          due: Whether a checkpoint is due.

        Returns:
          How the run ended, if it did.
        """
        self.iteration = step.iteration
        self.interval.add(step.metrics, step.episodes)
        self.progress.update(step.env_steps, step.episodes)
        last = step.env_steps >= self.total_steps
        row = last or step.env_steps >= self.next_row
        save = last or number is not None or due
        bad = self._not_finite(step.state) if row or save else []
        if row:
            self._write_row(step.env_steps)
        if bad:
            return self._diverged(step, bad)
        if save:
            self._save(step.state)
        return None if number is None else self.ended("interrupted", step.env_steps, number)

    def _wishes(self, stop: Signals) -> tuple[int | None, bool]:
        """The signal to stop for, and whether to save now. A team acts on what its processes wished one iteration ago,
        so that all do the same without waiting for each other."""
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        if self.team is None:
            return stop.signal, due
        before, self.votes = self.votes, self.team.votes((stop.signal is not None, due and self.writes))
        if before is None:
            return None, False
        stopping, saving = np.asarray(before)
        return ((stop.signal or signal.SIGTERM) if stopping else None), saving > 0

    def _load(self, template: Any) -> Any:
        if self.team is None:
            return self.checkpoints.load(template, self.collector)
        loaded = None
        for turn in (True, False):  # process 0 first: it may put damaged files aside
            if self.writes == turn:
                loaded = self.checkpoints.load(template, self.collector)
            self.team.gather(None)
        found = self.team.gather(0 if loaded is None else loaded.iteration)
        if len(set(found)) > 1:
            raise RunError(f"{self.folder} is not the same folder in all processes: they find checkpoints {found}")
        return loaded

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
        if self.team is not None:
            row |= self.collector.pooled(row["episode/count"])
        self.values = row
        self.next_row, self.row_mark = self._row_after(env_steps), (now, env_steps)
        self.progress.update(env_steps, row)
        if self.writes:
            self._attempt("progress.csv", lambda: self.table.append(row))
        scalars = {name: value for name, value in row.items() if name not in ("iteration", "env_steps")}
        for events in self.events:
            self._attempt(f"the events ({type(events).__name__})", partial(events.write, env_steps, scalars))

    def _save(self, state: Any) -> None:
        collector, interval = self.collector, self.interval.state_dict()
        if self.team is not None:
            self.team.check_equal(state)
            collector = self.collector.snapshot()
            counts = self.team.gather(interval["episodes"].get("episode/count", 0.0))
            interval["episodes"] |= {"episode/count": sum(counts)}
        extra = {
            "elapsed": self.elapsed_before + time.monotonic() - self.started,
            "env_steps": self.collector.env_steps,
            "interval": interval,
            "table": self.table.state_dict(),
            "values": self.values,
        }

        def save():
            self.table.sync()  # the rows that this checkpoint counts on
            self.checkpoints.save(self.iteration, state, collector, extra)
            self.saved = self.iteration

        if self.writes:
            self._attempt("the checkpoint", save)
        if self.team is not None:
            self.saved, self.votes = self.team.gather(self.saved)[0], None
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

    def ended(self, status: str, env_steps: int, number: int | None = None) -> Outcome:
        """The outcome of a run that ended as intended, if its last checkpoint was written."""
        message = ""
        if self.saved != self.iteration:
            kept = f"the last good checkpoint is of iteration {self.saved}" if self.saved else "there is no checkpoint"
            status, message = "unsaved", f"{self.problems.get('the checkpoint', 'process 0 could not save')}; {kept}"
        elif status == "interrupted":
            message = f"saved; continue with: jsafe train --resume {self.folder}{self._again}"
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


class Signals:
    """Notes the first SIGINT or SIGTERM; after it, the next one has its default effect and kills."""

    def __init__(self):
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
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
