"""A session of training in a run folder: curves, checkpoints, signals."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

from jsafe.components.limits import limit_of
from jsafe.curves import screen
from jsafe.curves.csv_table import CsvTable
from jsafe.curves.interval import Interval
from jsafe.curves.screen import Progress, count
from jsafe.curves.sinks import Events, WandbRun
from jsafe.curves.vocabulary import cost_name
from jsafe.data import BadValueError, PrefetchCollector
from jsafe.feeds import Dataset
from jsafe.options import completed, to_json
from jsafe.runs import device
from jsafe.runs import folder as folders
from jsafe.runs.build import build_collector, build_learner, eval_env
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.config import env_seed
from jsafe.runs.folder import CONFIG, BusyError, Run, RunError, read
from jsafe.runs.lock import LockedError, lock
from jsafe.runs.loop import TrainStep, run
from jsafe.runs.signals import Signals
from jsafe.runs.storage import free_bytes, tree_bytes
from jsafe.runs.watching import EpisodeLog, Evaluations
from jsafe.scale.processes import Team, local_learner, lost_process


class Outcome(NamedTuple):
    """How `train` ended.

    Attributes:
      status: `finished`, `interrupted`, `diverged`, `failed` (an exception ended it), or `unsaved` (the last checkpoint
        could not be written).
      folder: The run folder.
      iteration: Iterations done.
      env_steps: Environment steps done; on a data set, gradient updates.
      values: The last row of the learning curve, with the statistics of episodes as they are now.
      signal: The signal that interrupted it, or None.
      message: What the user should know.
      cost_names: Of the environment.
      offline: Whether it learnt from a data set.
    """

    status: str
    folder: Path
    iteration: int
    env_steps: int
    values: dict[str, float]
    signal: int | None = None
    message: str = ""
    cost_names: tuple[str, ...] = ()
    offline: bool = False


def train(
    folder: str | os.PathLike,
    *,
    total_steps: int | None = None,
    num_threads: int | None = None,
    data: str | None = None,
    console: Console | None = None,
    team: Team | None = None,
) -> Outcome:
    """Trains the run of a folder (made by `start`) from its newest checkpoint, or from the beginning.

    Continuing is exact: the learner, the replay, the engine with its random streams, all counters and the unfinished
    averages of the learning curve are restored, and rows written after the checkpoint are dropped, so that
    progress.csv and the checkpoints equal those of an unbroken run (the columns of wall time aside).

    SIGINT and SIGTERM end the iteration, save and return; a second one kills. A checkpoint, row or event that cannot
    be written (full disk) is reported and tried again later, while training goes on. A metric that is not finite, or
    NaN in the state, ends the run before it is saved; so does a reward, cost or observation that no learner can use.
    After any other exception what can be saved is saved.

    Args:
      folder: The run folder.
      total_steps: Of this session, in place of the stored number (to train a finished run further).
      num_threads: Replaces the stored number of threads.
      data: Where the data set is now, if it has been moved.
      console: Where to report; standard error by default.
      team: The processes of a distributed run; each of them calls this function. They need a common file system, but
        process 0 alone writes. With the same number of processes, continuing is exact as well; with another one, the
        learner, the environments with their streams, the replay and the counters are, but not the noise of actions
        and losses from there on, which belongs to a process.

    Raises:
      RunError: Before training, if the folder is in use, cannot be written or the disk is too small.
      LostProcessError: If another process of the team has ended or cannot be reached.
      CheckpointError: If the checkpoint cannot be read, or does not fit the config.
    """
    folder, team = Path(folder), team or Team.alone()
    described = read(folder)
    config = described.config
    if data is not None:
        config = dataclasses.replace(config, data=data)
        described = described._replace(config=config)
    if config.depth and team.count > 1:
        raise RunError("depth must be 0 in a distributed run, got 1")
    if config.backend == "device" and team.count > 1:
        raise RunError("backend must be 'host' in a run of several processes, got 'device'")
    if config.episodes_csv and team.count > 1:
        raise RunError("episodes_csv is for a run of one process")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Signals())
        if team.index == 0:
            stack.enter_context(held(folder))
        else:
            console = Console(file=stack.enter_context(open(os.devnull, "w")))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # process 0 says it
        stack.enter_context(lost_process(team, folder, Checkpoints(folder).list))
        learner = build_learner(described, team.axis_name)
        if isinstance(learner.feed, Dataset) and team.count > 1:
            raise RunError("a run on a data set is of one process; several devices share its minibatches")
        mine = local_learner(learner, team)
        first = team.index * mine.feed.num_envs
        collector: Any = build_collector(described, mine, stack, first, num_threads, team.mesh)
        if config.depth:
            collector = PrefetchCollector(collector, config.depth)
            stack.callback(collector.close)
        console, env = console or screen.console(), None
        if team.index == 0 and config.data is None:
            env = eval_env(config, stack, env_seed(config.seed, 1), num_threads)
        session = Session(folder, described, learner, collector, console, team, total_steps, env)
        stack.callback(session.close)
        return session.loop(stop)


@contextlib.contextmanager
def held(folder: Path):
    """Holds a run folder.

    Raises:
      BusyError: If another process does.
      RunError: If the folder cannot be written.
    """
    try:
        holding = lock(folder)
        descriptor = holding.__enter__()
    except LockedError as error:
        raise BusyError(str(error)) from None
    except OSError as error:
        raise RunError(f"cannot write to the run folder {folder}: {error.strerror or error}") from error
    try:
        yield descriptor
    finally:
        holding.__exit__(None, None, None)


class Session:
    """One session of a run: everything that touches files or the terminal."""

    def __init__(
        self,
        folder: Path,
        described: Run,
        learner: Any,
        collector: Any,
        console: Console,
        team: Team,
        total_steps: int | None = None,
        evaluated_in: Any = None,
    ):
        self.team, self.writes = team, team.index == 0
        self.folder, self.described, self.config, self.console = folder, described, described.config, console
        self.feeding = collector
        # It counts for all; inside the program one process has all there is, on all devices.
        collector = (Team.alone() if described.config.backend == "device" else team).collector(collector)
        self.learner, self.collector = learner, collector
        self.total_steps = self.config.total_steps if total_steps is None else total_steps
        config = self.config
        self.key = jax.random.key(config.seed)
        description = {
            "algorithm": described.algorithm,
            "env": config.env,
            "env_options": to_json(config.env_options),
            "costs": config.costs,
            "seed": config.seed,
            "options": to_json(described.options),
            "prng": str(jax.random.key_impl(self.key)),
            "backend": config.backend,
        }

        def meant(stored: dict[str, Any]) -> dict[str, Any]:
            options = completed(type(described.options), stored.get("options", {}))
            return {"backend": "host"} | stored | {"options": options}

        self.checkpoints = Checkpoints(folder, keep=config.keep_checkpoints, config=description, meant=meant)
        self.interval = Interval()
        self.table = CsvTable(folder / "progress.csv")
        self.curve_is_lost = False
        self.sealed = (folder / CONFIG).read_bytes()
        self.evaluations = None if evaluated_in is None else Evaluations(folder, described, learner, evaluated_in)
        self.fresh: dict[str, float] = {}  # of an evaluation that no row has told yet
        self.log = None
        if config.episodes_csv:
            self.log = EpisodeLog(folder / "episodes.csv", described.cost_names, self.feeding.tracker)
        self.values: dict[str, float] = {}
        self.episodes: dict[str, float] = {}
        self.problems: dict[str, str] = {}
        self.elapsed_before = 0.0
        self.started = self.saved_at = time.monotonic()
        self.step: TrainStep | None = None
        template = jax.eval_shape(learner.init, self.key)
        loaded = self._load(template)
        self.state = None if loaded is None else loaded.state
        self.iteration = self.saved = 0 if loaded is None else loaded.iteration
        self.events: list[Any] = []
        dropped = 0
        try:
            if self.writes:
                self._check_room(template)
                known = [] if loaded is None else loaded.extra["table"].get("columns", [])
                dropped = self.table.continue_after(self.iteration, known)
                if self.evaluations is not None:
                    self.evaluations.continue_after(self.iteration, collector.progress)
                if self.log is not None:
                    self.log.table.continue_after(self.iteration)
            if self.writes and config.wandb:  # first: it may be missing, and nothing was made yet
                where = {name: getattr(config, f"wandb_{name}") for name in ("project", "group", "tags")}
                self.events.append(WandbRun(folder, description, **where))
            if self.writes and config.tensorboard:
                self.events.append(Events(folder / "tensorboard", collector.progress))
        except OSError as error:
            raise RunError(f"cannot write to the run folder {folder}: {error.strerror or error}") from error
        if loaded is not None:
            self.elapsed_before = loaded.extra["elapsed"]
            self.interval.load_state_dict(loaded.extra["interval"])
            self.table.load_state_dict(loaded.extra["table"])
            self.values = loaded.extra["values"]
            self.fresh = loaded.extra.get("fresh", {})
            if self.evaluations is not None and "evaluations" in loaded.extra:
                self.evaluations.load_state_dict(loaded.extra["evaluations"])
            if self.log is not None and "episodes_csv" in loaded.extra:
                self.log.table.load_state_dict(loaded.extra["episodes_csv"])
            if not self.writes:  # process 0 has counted the episodes of all
                self.interval.forget_episodes()
        self.next_row = self._row_after(collector.progress)
        self.row_mark = (time.monotonic(), collector.progress)
        unit = "updates" if config.data else "steps"
        what = f"continuing at {count(collector.progress)} {unit}" if self.iteration else "starting"
        title = f"{described.algorithm} on {config.env}, seed {config.seed}: {what} in {folder}"
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        limit = limit_of(described.options)
        if limit is not None:
            count_of = learner.spec.num_costs
            names = [cost_name(i, described.cost_names, count_of) for i in range(count_of)]
            told = f"limit of {limit.told(names, learner.spec.horizon)}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)
        self.progress: Any = Progress(
            console, self.total_steps, collector.progress, cost_names=described.cost_names, unit=unit
        )
        if self.writes and self.iteration and self.values and not self.table.path.exists():
            self.progress.message(f"warning: {self.table.path} has vanished; the curve begins anew")
        if dropped:
            self.progress.message(f"warning: {dropped} damaged lines of {self.table.path} are repaired or left out")
        for problem in self.checkpoints.problems:
            self.progress.message(f"warning: {problem}")

    def close(self) -> None:
        """Ends the progress line and the event files."""
        self.progress.close()
        for events in self.events:
            events.close()

    def loop(self, stop: Signals) -> Outcome:
        """Trains until the end, a signal, divergence, or an exception."""
        start: dict[str, Any] = {"key": self.key, "total_steps": self.total_steps}
        start |= {"state": self.state, "iteration": self.iteration}
        if self.config.backend == "device":
            steps = device.run(self.learner, self.feeding, every=self.every, **start)
        else:
            steps = run(self.learner, self.collector, update=self.team.update(self.learner), **start)
        self.state = None  # the generator has its own; holding this one would double the memory
        try:
            for self.step in steps:
                outcome = self.take(self.step, *self._wishes(stop))
                if outcome is not None:
                    return outcome
        except BadValueError as error:
            return self.refused(error)
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # a task of the user's may exit
            if self.team.count > 1:  # the others are told by `lost_process`
                raise
            return self.failed(error)
        return self.ended("finished", self.collector.progress)

    def refused(self, error: BadValueError) -> Outcome:
        """The outcome where an environment gave what no learner can use; nothing of it was saved."""
        message = f"the run was stopped: {error}; {self._kept()}"
        return self._outcome("diverged", message)

    def failed(self, error: BaseException) -> Outcome:
        """Saves what an exception has left, and says how to go on."""
        if self.step is not None and self.step.state is not None and self.saved < self.iteration:
            # A state that the failed update had been given already cannot be read any more.
            with contextlib.suppress(Exception):
                if not self._not_finite(self.step.state):
                    self._save(self.step.state)
        again = f"; continue with: jsafe train --resume {self.folder}" if self.saved else ""
        message = f"{type(error).__name__}: {error or 'no message'}; {self._kept()}{again}"
        return self._outcome("failed", message)

    def _outcome(self, status: str, message: str, env_steps: int | None = None, number: int | None = None) -> Outcome:
        """With the statistics of episodes as they are now (of a team, as they were in the last row)."""
        values = self.values if self.team.count > 1 else {**self.values, **self.episodes}
        steps = self.collector.progress if env_steps is None else env_steps
        names = self.described.cost_names
        offline = self.config.data is not None
        return Outcome(status, self.folder, self.iteration, steps, values, number, message, names, offline)

    def _kept(self) -> str:
        if not self.saved:
            return "there is no checkpoint yet"
        return f"the last good checkpoint, of iteration {self.saved}, is kept"

    def take(self, step: TrainStep, number: int | None, due: bool) -> Outcome | None:
        """Notes one iteration, and writes what is due.

        Args:
          step: What `run` has yielded. Its state is looked at only where a row or a checkpoint is written.
          number: The signal that ends the run, if any.
          due: Whether a checkpoint is due.

        Returns:
          How the run ended, if it did.
        """
        self.iteration, self.episodes = step.iteration, step.episodes
        self.interval.add(step.metrics, step.episodes)
        self.progress.update(step.env_steps, step.episodes)
        last, inside = step.env_steps >= self.total_steps, step.state is None
        row = last or step.env_steps >= self.next_row
        save = not inside and (last or number is not None or due)
        look = not inside and self.evaluations is not None and self.evaluations.due(step.env_steps)
        bad = self._not_finite(step.state) if row or save or look else []
        if self.log is not None:
            self.log.take(step.iteration, step.env_steps)
        if look and not bad:
            self._evaluate(step)
        if row:
            self._write_row(step.env_steps)
        if bad and (row or save):
            return self._diverged(step, bad)
        if save:
            self._save(step.state)
        return None if number is None or inside else self.ended("interrupted", step.env_steps, number)

    @property
    def every(self) -> int:
        """Iterations of one call where the environments are in the program: up to a row, or an evaluation."""
        steps = min(self.config.log_interval, self.config.evaluated_every or self.config.log_interval)
        return max(1, steps // self.learner.feed.steps_per_batch)

    def _evaluate(self, step: TrainStep) -> None:
        """Evaluates what was learnt, and keeps it if it is the best so far."""
        evaluations, began = self.evaluations, time.monotonic()
        assert evaluations is not None
        found = evaluations.look(step.iteration, step.env_steps, step.state)
        self.fresh = found.values
        best = evaluations.is_best(found)
        self.progress.message(found.told + ("; the best so far" if best else ""))
        self._attempt(evaluations.table.path.name, lambda: evaluations.table.append(found.row))
        if best:
            self._attempt("the best checkpoint", lambda: evaluations.keep(found, step.state))
        then, before = self.row_mark
        self.row_mark = then + time.monotonic() - began, before  # the speed is that of training

    def _wishes(self, stop: Signals) -> tuple[int | None, bool]:
        """The signal to stop for, and whether to save now, as the team has agreed."""
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        stopping, saving = self.team.agreed(stop.signal is not None, due and self.writes)
        return ((stop.signal or signal.SIGTERM) if stopping else None), saving

    def _load(self, template: Any) -> Any:
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
            **self.fresh,
        }
        self.fresh = {}
        row |= self.collector.pooled(row["episode/count"])
        self.values = row
        self.next_row, self.row_mark = self._row_after(env_steps), (now, env_steps)
        self.progress.update(env_steps, row)
        if self.writes:
            self._attempt(CONFIG, self._keep_folder)
            self._attempt("progress.csv", lambda: self.table.append(row))
            if self.log is not None:
                self._attempt(self.log.table.path.name, self.log.write)
        scalars = {name: value for name, value in row.items() if name not in ("iteration", "env_steps")}
        for events in self.events:
            self._attempt(f"the events ({type(events).__name__})", partial(events.write, env_steps, scalars))

    def _save(self, state: Any) -> None:
        interval = self.interval.state_dict()
        self.team.check_equal(state)
        collector = self.collector.snapshot()
        if interval["episodes"]:
            interval["episodes"] |= {"episode/count": sum(self.team.gather(interval["episodes"]["episode/count"]))}
        extra = {
            "elapsed": self.elapsed_before + time.monotonic() - self.started,
            "env_steps": self.collector.progress,
            "interval": interval,
            "table": self.table.state_dict(),
            "values": self.values,
            "fresh": self.fresh,
        }
        if self.evaluations is not None:
            extra["evaluations"] = self.evaluations.state_dict()
        if self.log is not None:
            self._attempt(self.log.table.path.name, self.log.write)
            extra["episodes_csv"] = self.log.table.state_dict()

        def save():
            for table in self._tables():
                table.sync()  # the rows that this checkpoint counts on
            self.checkpoints.save(self.iteration, state, collector, extra)
            self.saved = self.iteration

        if self.writes:
            self._attempt(CONFIG, self._keep_folder)
            self._attempt("the checkpoint", save)
        self.saved = self.team.gather(self.saved)[0]
        self.team.forget()
        self.saved_at = time.monotonic()

    def _tables(self) -> list[CsvTable]:
        return [self.table, *(each.table for each in (self.evaluations, self.log) if each is not None)]

    def _keep_folder(self) -> None:
        """Restores what was taken away under a running session, as far as it is known here, and says so."""
        lost = []
        if not self._config_is_there():
            folders.restore(self.folder, self.sealed)
            lost.append(f"{CONFIG} (restored)")
        if self.table.vanished and not self.curve_is_lost:  # until the next row, which makes a new file
            lost.append(f"{self.table.path.name} (the curve begins anew)")
        self.curve_is_lost = self.table.vanished
        lost += ["the newest checkpoint (the next one is written in its time)"] if self.checkpoints.lost() else []
        if lost:
            self.progress.message(
                f"warning: {', '.join(lost)} had vanished from {self.folder}, or was changed, while the run trained"
            )

    def _config_is_there(self) -> bool:
        """Whether config.json is what it was at the start."""
        try:
            return (self.folder / CONFIG).read_bytes() == self.sealed
        except FileNotFoundError:
            return False

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
        where = f"in iteration {step.iteration} or shortly before"
        message = f"the run diverged: not finite {where}: {shown}; {self._kept()}"
        return self._outcome("diverged", message)

    def ended(self, status: str, env_steps: int, number: int | None = None) -> Outcome:
        """The outcome of a run that ended as intended, if its last checkpoint was written."""
        message = ""
        if self.saved != self.iteration:
            kept = f"the last good checkpoint is of iteration {self.saved}" if self.saved else "there is no checkpoint"
            status, message = "unsaved", f"{self.problems.get('the checkpoint', 'process 0 could not save')}; {kept}"
        elif status == "interrupted":
            message = f"saved; continue with: jsafe train --resume {self.folder}{self.team.flags}"
        return self._outcome(status, message, env_steps, number)

    def _check_room(self, template: Any) -> None:
        """An estimate, before training: all checkpoints (at most one per iteration), one more while writing, and the
        replay."""
        state = sum(math.prod(leaf.shape) * 4 for leaf in jax.tree.leaves(template))
        kept = min(self.config.keep_checkpoints, -(-self.total_steps // self.learner.feed.steps_per_batch))
        need = (kept + 1) * (state + tree_bytes(self.collector.state_dict()))
        need += self.learner.feed.stored_bytes(self.learner.spec, self.total_steps) * 5 // 4
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
