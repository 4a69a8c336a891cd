"""Several runs in one program: `vmap` over seeds and over the numbers that a learner keeps in its state."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jsafe.curves import screen
from jsafe.curves.screen import Progress
from jsafe.data import BadValueError, ManyCollector
from jsafe.data.datasets import ManyDatasets
from jsafe.feeds import Dataset
from jsafe.options import difference, to_json
from jsafe.runs.build import build_env, build_learner, data_options, eval_env
from jsafe.runs.config import env_seed
from jsafe.runs.folder import RunError, read
from jsafe.runs.loop import INIT_FOLD
from jsafe.runs.session import Outcome, Session, Signals, held
from jsafe.scale.processes import Team
from jsafe.types import Key, Learner, Metrics


class ManyStep(NamedTuple):
    """One iteration of `run_many`.

    Attributes:
      iteration: Iterations done so far, this one included.
      env_steps: Environment steps done so far, in each run.
      state: The learners' states, stacked: every leaf has a leading axis R. The next iteration donates them.
      metrics: For each run its scalars, on the device.
      episodes: For each run the statistics of finished episodes.
    """

    iteration: int
    env_steps: int
    state: Any
    metrics: list[Metrics]
    episodes: list[dict[str, float]]


def run_many(
    learners: Sequence[Learner],
    collector: ManyCollector | ManyDatasets,
    *,
    keys: Sequence[Key],
    total_steps: int,
) -> Iterator[ManyStep]:
    """`run` for R runs at once: one compiled update under `vmap`, one policy call, one engine.

    Run r equals `run(learners[r], its collector, key=keys[r])` by itself to float tolerance (a batched matrix product
    rounds otherwise). A run that diverges does not disturb the others.

    Args:
      learners: One for each run. They may differ in what their states hold (cost limits, learning rates, discounts ...)
        and in nothing else; the same object may come several times.
      collector: Steps the environments of all runs, or draws from their data set (`ManyDatasets`).
      keys: Typed root key of each run.
      total_steps: Environment steps of each run at which to stop.

    Yields:
      A `ManyStep` after every iteration.

    Raises:
      ValueError: If the numbers of learners and keys differ, or the learners in more than their states.

    Example:
      >>> make_env = functools.partial(jsafe.envs.make, "Toy-SpeedLimit-v0")
      >>> spec, options = jsafe.env_spec(make_env(1)), {"steps_per_epoch": 1_000, "step.passes": 2}
      >>> learners = [jsafe.make("ppo_lag", spec, cost_limit=limit, **options) for limit in (4.0, 4.0, 8.0, 8.0)]
      >>> collector = jsafe.data.ManyCollector(make_env, learners, seeds=2 * [0, 100])
      >>> keys = 2 * [jax.random.key(0), jax.random.key(1)]
      >>> for step in jsafe.train.run_many(learners, collector, keys=keys, total_steps=2_000):
      ...     costs = [episodes["episode/cost"] for episodes in step.episodes]
      >>> len(costs)
      4
    """
    if not len(learners) == len(keys) == len(collector.collectors):
        raise ValueError(
            f"there must be one learner and one key for each of {len(collector.collectors)} runs, "
            f"got {len(learners)} and {len(keys)}"
        )
    inits = {id(learner): jax.jit(learner.init) for learner in learners}
    states = [inits[id(learner)](jax.random.fold_in(key, INIT_FOLD)) for learner, key in zip(learners, keys)]
    _check_shapes(learners, states)
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    learner, roots = learners[0], jnp.stack(list(keys))

    def step(state, batch, keys):
        state, metrics = jax.vmap(learner.update)(state, batch, keys)
        return state, [{name: values[r] for name, values in metrics.items()} for r in range(len(learners))]

    update = jax.jit(step, donate_argnums=0)
    policy = jax.jit(lambda state: jax.tree.map(jnp.copy, jax.vmap(learner.policy)(state)))
    split = jax.jit(lambda keys, i: jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys))
    iteration, checked = 0, False
    while collector.progress < total_steps:
        pairs = split(roots, np.uint32(iteration))
        batch = collector.collect(policy(state), pairs[:, 0])
        if not checked:
            _check_programs(learners, states, batch)
            states, checked = [], True
        state, metrics = update(state, batch, pairs[:, 1])
        iteration += 1
        yield ManyStep(iteration, collector.progress, state, metrics, collector.episodes())


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

        def make_env(num_envs):
            return build_env(config, num_envs, 0, num_threads)

        seeds = [env_seed(run.config.seed) for run in described]
        collector: Any
        if isinstance(learners[0].feed, Dataset):
            env = eval_env(config, stack, seeds[0], num_threads)
            collector = ManyDatasets(env, learners, seeds, **data_options(config))
        else:
            collector = ManyCollector(make_env, learners, seeds, on_bad=config.on_bad)
        stack.callback(collector.close)
        sessions = [
            Session(*each, quiet, Team.alone()) for each in zip(paths, described, learners, collector.collectors)
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
        return _train_together(sessions, learners, collector, progress, stop)


def _train_together(
    sessions: Sequence[Session],
    learners: Sequence[Learner],
    collector: ManyCollector | ManyDatasets,
    progress: Progress,
    stop: Signals,
) -> list[Outcome]:
    """All runs to their ends."""
    config = sessions[0].config
    outcomes: list[Outcome | None] = [None] * len(sessions)
    saved = time.monotonic()
    steps = run_many(learners, collector, keys=[session.key for session in sessions], total_steps=config.total_steps)
    try:
        for step in steps:
            due = time.monotonic() - saved >= config.checkpoint_seconds
            number = stop.signal
            for r, session in enumerate(sessions):
                if outcomes[r] is None:
                    session.step = _Slice(step, r)  # type: ignore[assignment]
                    outcomes[r] = session.take(session.step, number, due)  # type: ignore[arg-type]
            saved = time.monotonic() if due else saved
            progress.update(step.env_steps, _means(step.episodes))
            if all(outcomes):
                break
    except BadValueError as error:
        return [each or session.refused(error) for each, session in zip(outcomes, sessions)]
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # a task of the user's may exit
        return [each or session.failed(error) for each, session in zip(outcomes, sessions)]
    return [each or session.ended("finished", collector.progress) for each, session in zip(outcomes, sessions)]


def _means(episodes: Sequence[dict[str, float]]) -> dict[str, float]:
    """The statistics of the runs that have finished episodes, averaged."""
    known = [each for each in episodes if np.isfinite(each["episode/length"])]
    return {name: float(np.mean([each[name] for each in known])) for name in episodes[0]} if known else {}


class _Slice:
    """The `TrainStep` of one run; its state is cut out only where it is looked at."""

    def __init__(self, step: ManyStep, run: int):
        self.iteration, self.env_steps = step.iteration, step.env_steps
        self.metrics, self.episodes = step.metrics[run], step.episodes[run]
        self._state, self._run = step.state, run

    @property
    def state(self) -> Any:
        return jax.tree.map(lambda leaf: leaf[self._run], self._state)


class _Shared:
    """The progress line of all runs, as one of them sees it: it may speak up, but not draw."""

    def __init__(self, progress: Progress, folder: Path):
        self._progress, self._folder = progress, folder

    def update(self, env_steps: int, values: Any) -> None:
        """Nothing: the line shows the mean of the runs."""

    def message(self, text: str) -> None:
        """A line that names the run."""
        self._progress.message(f"{self._folder}: {text}")

    def close(self) -> None:
        """Nothing: the line belongs to all."""


def _check_shapes(learners: Sequence[Learner], states: Sequence[Any]) -> None:
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in states]
    for learner, shape in zip(learners, shapes):
        if jax.tree.structure(shape) != jax.tree.structure(shapes[0]) or shape != shapes[0]:  # type: ignore[operator]
            raise _differ(learners[0], learner)


def _check_programs(learners: Sequence[Learner], states: Sequence[Any], batch: Any) -> None:
    """What is not in the state is in the program, which has to be the same for all."""
    batch = jax.tree.map(lambda x: x[0], batch)
    first = None
    for learner, state in {id(learner): (learner, state) for learner, state in zip(learners, states)}.values():
        closed = jax.make_jaxpr(learner.update)(state, batch, jax.random.key(0))
        program = (re.sub(r"0x[0-9a-f]+", "", str(closed)), [np.asarray(x).tobytes() for x in closed.consts])
        first = first or program
        if program != first:
            raise _differ(learners[0], learner)


def _differ(one: Learner, other: Learner) -> ValueError:
    lines = difference(to_json(one.config), to_json(other.config))
    return ValueError("runs in one program may differ only in what their states hold, got:\n  " + "\n  ".join(lines))
