"""Several runs in one program, each with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jsafe.curves import screen
from jsafe.curves.screen import Progress
from jsafe.data import BadValueError, ManyCollector
from jsafe.data.datasets import ManyDatasets
from jsafe.data.device import DeviceCollector
from jsafe.feeds import Dataset
from jsafe.options import difference, to_json
from jsafe.runs import device
from jsafe.runs.build import build_env, build_learner, data_options, device_env, eval_env
from jsafe.runs.config import env_seed
from jsafe.runs.folder import Run, RunError, read
from jsafe.runs.loop_many import ManyStep, run_many
from jsafe.runs.session import Outcome, Session, held
from jsafe.runs.signals import Signals
from jsafe.scale.processes import Team
from jsafe.types import Learner


def train_many(
    folders: Sequence[str | os.PathLike], *, num_threads: int | None = None, console: Console | None = None
) -> list[Outcome]:
    """Trains the new runs of several folders (made by `start`) in one program.

    Each folder gets what `train` would write, and is continued by itself (`jsafe train --resume FOLDER`), exactly but
    for rounding. The runs may differ in their seeds and in what their learners keep in the state.

    Args:
      folders: Run folders without checkpoints.
      num_threads: Replaces the stored number of threads.
      console: Where to report; standard error by default.

    Returns:
      An `Outcome` for each run.

    Raises:
      RunError: If a folder cannot be written or holds a checkpoint, or the runs differ in more than they may.
    """

    paths = [Path(folder) for folder in folders]
    described = [read(folder) for folder in paths]
    config, algorithm = described[0].config, described[0].algorithm
    if config.depth:
        raise RunError("depth must be 0 in runs that share a program, got 1")
    for folder, run in zip(paths, described):
        lines = difference(to_json(config), to_json(run.config) | {"seed": config.seed})
        if run.algorithm != algorithm:
            lines.append(f"algorithm: {algorithm!r} there, {run.algorithm!r} here")
        if lines:
            raise RunError(f"{folder} cannot share a program with {paths[0]}:\n  " + "\n  ".join(lines))
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Signals())
        for folder in paths:
            stack.enter_context(held(folder))
        quiet = Console(file=stack.enter_context(open(os.devnull, "w")))
        built = {run.options: build_learner(run) for run in described}
        learners = [built[run.options] for run in described]

        collectors, steps = _feeding(described, learners, num_threads, stack)
        env = None if config.data is not None else eval_env(config, stack, env_seed(config.seed, 1), num_threads)
        sessions = [
            Session(*each, quiet, Team.alone(), evaluated_in=env)
            for each in zip(paths, described, learners, collectors)
        ]
        for folder, session in zip(paths, sessions):
            stack.callback(session.close)
            if session.iteration:
                raise RunError(f"{folder} was trained already; continue it by itself: jsafe train --resume {folder}")
        console = console or screen.console()
        title = f"{algorithm} on {config.env}: {len(paths)} runs side by side"
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        unit = "updates" if config.data else "steps"
        progress = Progress(console, config.total_steps, cost_names=described[0].cost_names, unit=unit)
        stack.callback(progress.close)
        for session in sessions:
            session.progress = _Shared(progress, session.folder)
        return _train_together(sessions, steps(sessions), progress, stop)


def _feeding(
    described: Sequence[Run], learners: Sequence[Learner], num_threads: int | None, stack: contextlib.ExitStack
) -> tuple[Sequence[Any], Callable[[Sequence[Session]], Iterator[ManyStep]]]:
    """The collector of each run, and what trains them all, given their sessions."""
    config = described[0].config
    seeds = [env_seed(run.config.seed) for run in described]

    def options(sessions):
        return {"keys": [session.key for session in sessions], "total_steps": config.total_steps}

    if config.backend == "device":
        env = device_env(config)
        inside = [DeviceCollector(env, learner, seed) for learner, seed in zip(learners, seeds)]
        return inside, lambda sessions: device.run_many(learners, inside, every=sessions[0].every, **options(sessions))

    def make_env(num_envs):
        return build_env(config, num_envs, 0, num_threads)

    collector: Any
    if isinstance(learners[0].feed, Dataset):
        env = eval_env(config, stack, seeds[0], num_threads)
        collector = ManyDatasets(env, learners, seeds, **data_options(config))
    else:
        collector = ManyCollector(make_env, learners, seeds, on_bad=config.on_bad)
    stack.callback(collector.close)
    return collector.collectors, lambda sessions: run_many(learners, collector, **options(sessions))


def _train_together(
    sessions: Sequence[Session], steps: Iterator[ManyStep], progress: Progress, stop: Signals
) -> list[Outcome]:
    """All runs to their ends."""
    config = sessions[0].config
    outcomes: list[Outcome | None] = [None] * len(sessions)
    saved = time.monotonic()
    try:
        for step in steps:
            due = step.state is not None and time.monotonic() - saved >= config.checkpoint_seconds
            number = stop.signal
            for r, session in enumerate(sessions):
                if outcomes[r] is None and r in step.lost:
                    outcomes[r] = session.refused(step.lost[r])
                elif outcomes[r] is None:
                    session.step = _Slice(step, r)  # type: ignore[assignment]
                    outcomes[r] = session.take(session.step, number, due)  # type: ignore[arg-type]
            saved = time.monotonic() if due else saved
            progress.update(step.env_steps, _means(step.episodes) | _losses(sessions))
            if all(outcomes):
                break
    except BadValueError as error:
        return [each or session.refused(error) for each, session in zip(outcomes, sessions)]
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # a task of the user's may exit
        return [each or session.failed(error) for each, session in zip(outcomes, sessions)]
    return [each or session.ended("finished", session.collector.progress) for each, session in zip(outcomes, sessions)]


def _means(episodes: Sequence[dict[str, float]]) -> dict[str, float]:
    """The statistics of the runs that have finished episodes, averaged."""
    known = [each for each in episodes if np.isfinite(each["episode/length"])]
    return {name: float(np.mean([each[name] for each in known])) for name in episodes[0]} if known else {}


def _losses(sessions: Sequence[Session]) -> dict[str, float]:
    """The losses of the newest row of each run, averaged over those where they are finite."""
    known = [each.progress.losses for each in sessions if each.progress.losses]
    columns = {name: np.array([each[name] for each in known]) for name in known[0]} if known else {}
    return {name: float(x[np.isfinite(x)].mean()) for name, x in columns.items() if np.isfinite(x).any()}


class _Slice:
    """The `TrainStep` of one run; its state is cut out only where it is looked at."""

    def __init__(self, step: ManyStep, run: int):
        self.iteration, self.env_steps = step.iteration, step.env_steps
        self.metrics, self.episodes = step.metrics[run], step.episodes[run]
        self._state, self._run = step.state, run

    @property
    def state(self) -> Any:
        return None if self._state is None else jax.tree.map(lambda leaf: leaf[self._run], self._state)


class _Shared:
    """The progress line of all runs, as one of them sees it: it may speak up, but not draw."""

    def __init__(self, progress: Progress, folder: Path):
        self._progress, self._folder = progress, folder
        self.losses: dict[str, float] = {}

    def update(self, env_steps: int, values: Any) -> None:
        """Notes the losses of a row: the line shows the mean of the runs."""
        found = {name: float(value) for name, value in values.items() if name.startswith("loss/")}
        self.losses = found or self.losses

    def message(self, text: str) -> None:
        """A line that names the run."""
        self._progress.message(f"{self._folder}: {text}")

    def close(self) -> None:
        """Nothing: the line belongs to all."""
