"""Reruns the cells of a benchmark: trains what is missing, evaluates it, and says what it scored.

Training is a sweep (`jsafe.sweeps.session`) in a folder that several commands, and `jsafe train`, may share:

    FOLDER/runs/CELL-sSEED/              an ordinary run folder, evaluated
    FOLDER/scores.csv                    what the runs scored
    FOLDER/critics.csv                   what their critics say beside what happens, where that was asked for
    FOLDER/comparison.csv, comparison.md beside published results
    FOLDER/pareto.png, curves.png        return over cost; learning curves
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

import jsafe
from jsafe import registry
from jsafe.components.limits import limit_of
from jsafe.curves import screen
from jsafe.curves.csv_table import read_progress, table_text, write_whole
from jsafe.deploy import writing
from jsafe.report import benchmark, plot, truth
from jsafe.report.benchmark import Critic, Score
from jsafe.runs import evaluation
from jsafe.runs.checkpoint import CheckpointError, Checkpoints
from jsafe.runs.config import env_seed
from jsafe.runs.folder import RunError, read
from jsafe.runs.lock import LockedError, lock
from jsafe.runs.signals import Signals
from jsafe.sweeps import grid, session
from jsafe.sweeps.pools import Engine

CURVE = (
    "iteration",
    "env_steps",
    "time/wall_seconds",
    "time/steps_per_second",
    "episode/count",
    "episode/window",
    "episode/return",
    "episode/length",
    "episode/success",
    "episode/cost",
    "episode/cost_rate",
    "cost/0/episodic",
    "cost/0/limit",
    "cost/0/limit_per_step",
    "cost/0/multiplier",
    "cost/0/per_step",
    "policy/kl",
    "policy/std",
    "update/passes",
)
"""Columns of a learning curve that are kept with a benchmark's results."""


class Reproduced(NamedTuple):
    """What came of it.

    Attributes:
      report: Of the sweep; `not scored` for a run that has finished and cannot be evaluated.
      scores: Of the other ones that have finished.
      folders: Theirs, in the same order.
      critics: What their critics say, if that was asked for.
    """

    report: session.Report
    scores: list[Score]
    folders: list[Path]
    critics: list[Critic]


def planned(cells: Sequence[benchmark.Cell], seeds: Sequence[int]) -> list[grid.Cell]:
    """The runs of some cells, all with the first seed first, named CELL-sSEED and checked.

    Raises:
      ValueError: For what `jsafe.sweeps.grid.expand` rejects, with the name of the cell, options that are several
        values, another family than the algorithm's, or a limit per episode of one that has it per step.
    """
    found = {}
    for cell in cells:
        about: dict[str, Any] = {
            "algorithm": cell.algorithm,
            "env": cell.task,
            "seed": list(seeds),
            "total_steps": cell.steps,
            "backend": cell.backend,
            "log_interval": max(10_000, cell.steps // 100),
            "tensorboard": False,
            **({"preset": cell.preset} if cell.preset else {}),
            **({} if cell.limit is None else {"cost_limit": cell.limit}),
        }
        try:
            made = grid.expand(about | cell.given())
        except ValueError as error:
            raise ValueError(f"cell {cell.cell}: {error}") from error
        if len(made) != len(seeds):
            raise ValueError(
                f"cell {cell.cell}: options must have one value each ([[1, 2]] is one), got {cell.options}"
            )
        family, limit = registry.get(cell.algorithm).family, limit_of(made[0].options)
        if cell.family not in ("", family):
            raise ValueError(f"cell {cell.cell}: family must be {family} or empty, got {cell.family!r}")
        if cell.limit is not None and limit is not None and limit.per != "episode":
            raise ValueError(
                f"cell {cell.cell}: limit is a cost per episode, and the options have limit.per = {limit.per!r}: leave "
                f"limit empty and say limit.value in options"
            )
        for seed, run in zip(seeds, made):
            found[seed, cell.cell] = run._replace(name=f"{cell.cell}-s{seed}", group=cell.cell)
    return [found[seed, cell.cell] for seed in seeds for cell in cells]


def reproduce(
    cells: Sequence[benchmark.Cell],
    seeds: Sequence[int],
    folder: str | os.PathLike,
    *,
    workers: int | None = None,
    on: Engine | None = None,
    options: Mapping[str, Any] | None = None,
    episodes: int = 100,
    retry: bool = False,
    together: int = 1,
    states: int = 0,
    console: Console | None = None,
) -> Reproduced:
    """Trains and evaluates what is missing; the same call again continues.

    Args:
      cells: From `jsafe.report.benchmark.read_cells`.
      seeds: Of each cell.
      folder: Where the runs are; other runs may be there.
      workers, on, options: Runs at a time, and where they are trained, as for `jsafe.sweeps.session.run`; they are
        evaluated here.
      episodes: Of each evaluation.
      retry: Also continue the runs that have failed.
      together: At most so many runs in one program, as for `jsafe.sweeps.session.run`: seeds and limits of a method.
      states: In how many states the critics are asked about what will happen; 0: not. A run whose critics cannot be
        asked is passed over with a word.
      console: Where to report; standard error by default.

    Raises:
      ValueError: For a cell that cannot be run, or a folder that holds another run under its name.
      RunError: If the folder is in use or cannot be written.
    """
    folder = Path(folder)
    runs = planned(cells, seeds)
    report = session.run(
        runs,
        folder,
        workers=workers,
        retry=retry,
        on=on,
        options=options,
        shared=True,
        together=together,
        console=console,
    )
    console = console or screen.console()
    scores, folders, critics = [], [], []
    if report.signal is None:
        for run in runs:
            if report.states[run.name] != "finished":
                continue
            path = folder / "runs" / run.name
            try:
                scores.append(score(run.group, path, episodes, console))
            except (RunError, CheckpointError, ValueError) as error:
                report.states[run.name] = "not scored"
                told = f"{run.name}: not scored: {error}; remove {path} to have it trained again"
                console.print(told, highlight=False, soft_wrap=True)
                continue
            folders.append(path)
            if states:
                try:
                    critics += ask(run.group, path, states, console)
                except (RunError, CheckpointError) as error:
                    console.print(f"{run.name}: critics not asked: {error}", highlight=False, soft_wrap=True)
    return Reproduced(report, scores, folders, critics)


def score(cell: str, folder: Path, episodes: int = 100, console: Console | None = None) -> Score:
    """What a finished run of a cell scored on the exact engine, wherever it was trained.

    The evaluation of its last checkpoint is made if there is none.

    Raises:
      RunError, CheckpointError: If it cannot be evaluated.
      ValueError: If it has no learning curve.
    """
    report = _evaluated(folder, episodes, console)
    run = plot.load(folder)
    steps = run.columns["env_steps"]
    nothing = np.full(len(steps), math.nan)

    def late(column: str) -> float:
        values = run.columns.get(column, nothing)[steps > 0.95 * steps[-1]]
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else math.nan

    cost = np.asarray(report["per_episode"]["cost"], float)
    length = np.asarray(report["per_episode"]["length"], float)
    return Score(
        cell=cell,
        seed=run.seed,
        backend=report["backend"],
        env_steps=int(report["env_steps"]),
        episode_return=float(report["return"]["mean"]),
        episode_cost=float(cost.sum() / len(cost)),
        cost_rate=float(cost.sum() / length.sum()),
        success=float(report["success"]),
        episodes=int(report["episodes"]),
        training_return=late("episode/return"),
        training_cost=late("episode/cost"),
        minutes=float(run.columns.get("time/wall_seconds", nothing)[-1] / 60),
        version=jsafe.__version__,
        commit=commit(),
        machine=machine(),
    )


def ask(cell: str, folder: Path, states: int, console: Console | None = None) -> list[Critic]:
    """What the critics of a finished run say of states that it visits, and 16 branches of each; writes its truth.csv.

    Raises:
      RunError, CheckpointError: If they cannot be asked.
    """
    told = truth.tell(folder, states=states, console=console)
    verdicts = {verdict.name: verdict for verdict in told.verdicts}
    alike: dict[str, Any] = {"cell": cell, "seed": read(folder).config.seed}
    alike |= {"rollouts": told.branches.reward.shape[1], "version": jsafe.__version__, "commit": commit()}
    rows = []
    for about in told.calibrations:
        numbers = dataclasses.asdict(about)
        numbers |= {name: getattr(verdicts.get(about.name), name, math.nan) for name in ("unsafe", "missed", "alarmed")}
        known = {name: value for name, value in numbers.items() if name in Critic._fields}
        rows.append(Critic(signal=about.name, **known, **alike))
    return rows


def _evaluated(folder: Path, episodes: int, console: Console | None) -> dict[str, Any]:
    """What `jsafe evaluate` reports; its file if it says the same things that would be asked here."""
    path = evaluation.report_path(folder)
    newest = Checkpoints(folder).list()[-1:]
    config = read(folder).config
    asked = {
        "env": config.env,
        "env_options": dict(config.env_options),
        "backend": "host",
        "deterministic": True,
        "seed": env_seed(config.seed, 1),
        "episodes": episodes,
    }
    try:
        old = json.loads(path.read_text())
        length = [len(old["per_episode"][name]) for name in ("cost", "length")]
        numbers = [old["return"]["mean"], old["success"], *np.ravel(old["per_episode"]["cost"])]
        whole = length == [episodes, episodes] and np.isfinite(np.asarray(numbers, float)).all()
        alike = all(old[name] == value for name, value in asked.items() if name in old or name != "env_options")
        if whole and alike and newest in ([], [old["iteration"]]):  # without checkpoints, what they did is all there is
            return old
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # made anew
    return evaluation.evaluate(folder, episodes=episodes, backend="host", console=console)


def commit() -> str:
    """The commit of this checkout, with `+` where files differ from it; empty outside of one."""
    if not (Path(__file__).parents[2] / ".git").exists():  # installed, perhaps within somebody else's checkout
        return ""
    try:
        words = ["git", "describe", "--always", "--abbrev=9", "--dirty=+", "--exclude=*"]
        done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> str:
    """Processor and number of cores."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:  # another system
        pass
    return f"{name}, {os.cpu_count()} cores"


def merged(folder: Path, made: Reproduced) -> tuple[list[Score], list[Critic]]:
    """The scores and critics of a folder, with what was made in the place of the same runs' earlier ones.

    Raises:
      ValueError: If the earlier ones cannot be read.
    """
    scores = benchmark.merge(benchmark.read_rows(folder / "scores.csv", Score), made.scores)
    critics = benchmark.merge(benchmark.read_rows(folder / "critics.csv", Critic), made.critics)
    return scores, critics


def show(
    folder: Path,
    cells: Sequence[benchmark.Cell],
    scores: Sequence[Score],
    critics: Sequence[Critic],
    published: Path,
) -> list[Path]:
    """Writes scores, critics, the comparison with published results, and return over cost; returns the paths.

    Raises:
      ValueError: If published results cannot be read.
      RunError: If something cannot be written.
    """
    known = benchmark.read_published(published)
    rows = benchmark.table(cells, scores, known)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        benchmark.write_rows(scores, folder / "scores.csv")
        benchmark.write_rows(critics, folder / "critics.csv")
        paths = [path for name in ("scores.csv", "critics.csv") if (path := folder / name).exists()]
        if rows:
            paths += benchmark.write_table(rows, folder)
            paths.append(plot.write(benchmark.pareto(rows, known), folder / "pareto.png"))
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror or error}") from error
    return paths


def record(results: Path, cells: Sequence[benchmark.Cell], made: Reproduced, published: Path) -> list[Path]:
    """Adds what was made to a benchmark's results: scores, critics, slim copies of the runs, the best run's policy of
    each cell as a file for `jsafe.load` (`.npz`, planners `.stablehlo`), and all tables and pictures anew.

    All of it is made beside the results and put among them at the end: an interrupted or failed call changes nothing.
    One at a time; another one waits for up to `PATIENCE` seconds.

    Args:
      results: The folder BENCHMARK/results.
      cells: All of the benchmark.
      made: From `reproduce`.
      published: The folder BENCHMARK/published.

    Returns:
      The tables and pictures; nothing is written where nothing was made.

    Raises:
      ValueError: If earlier scores or published results cannot be read.
      RunError: If something cannot be written, or another process records for too long.
    """
    if not made.scores:
        return []
    try:
        results.mkdir(parents=True, exist_ok=True)
        with _held(results):
            new = results / ".new"
            shutil.rmtree(new, ignore_errors=True)  # of a call that was killed
            try:
                told = _record(results, new, cells, made, published)
                with Signals():  # a signal waits until all files are there
                    _put(new, results)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise RunError(f"cannot write to {results}: {error.strerror or error}") from error
    return [results / path.name for path in told]


PATIENCE = 60.0
"""Seconds that one `record` waits for another."""


@contextlib.contextmanager
def _held(results: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                stack.enter_context(lock(results, "recording"))
                break
            except LockedError as error:
                if time.monotonic() > end:
                    raise RunError(str(error)) from None
                time.sleep(0.1)
        yield


def _record(results: Path, new: Path, cells: Sequence[benchmark.Cell], made: Reproduced, published: Path) -> list[Path]:
    """Writes the files that are to join the results into a folder `new`; returns the tables and pictures."""
    scores, critics = merged(results, made)
    for folder in made.folders:
        keep(folder, new / "runs" / folder.name)
    (new / "policies").mkdir(parents=True)
    runs, touched = made.folders[0].parent, {score.cell for score in made.scores}
    for cell in cells:
        if cell.cell in touched:
            best = benchmark.best([score for score in scores if score.cell == cell.cell], cell.limit)
            folder = runs / f"{cell.cell}-s{best.seed}"
            if Checkpoints(folder).list():  # else it is an earlier one, and its policy is there
                _write_policy(folder, f"{new / 'policies' / cell.cell}")
    paths = show(new, cells, scores, critics, published)
    known = {file.parent.name: file.parent for at in (results, new) for file in (at / "runs").glob("*/config.json")}
    alike: dict[tuple[str, float], list[Path]] = {}
    for _, folder in sorted(known.items()):
        run = read(folder)
        alike.setdefault((run.config.env, run.config.total_steps / 1e6), []).append(folder)
    oracle = published / f"{plot.ORACLE}.csv"
    view = plot.View(published=oracle if oracle.exists() else None)
    for (task, millions), folders in alike.items():
        picture = new / f"curves-{grid.text_of(task)}-{millions:g}M.png"
        paths.append(plot.save(folders, picture, view._replace(smooth=3e4 * millions)))
    return paths


def _put(new: Path, results: Path) -> None:
    """Moves files into the place of those of the same name, and of a policy in another form."""
    for path in sorted(path for path in new.rglob("*") if path.is_file()):
        into = results / path.relative_to(new)
        into.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, into)
        if into.parent.name == "policies":
            for kind in writing.WRITERS:
                if kind != path.suffix:
                    into.with_suffix(kind).unlink(missing_ok=True)


def _write_policy(folder: Path, stem: str) -> None:
    """As `.npz`; what numpy has no words for, such as a planner, as `.stablehlo`."""
    try:
        writing.export(folder, f"{stem}.npz")
    except ValueError:
        writing.export(folder, f"{stem}.stablehlo")


def keep(folder: Path, into: Path) -> None:
    """Copies config and learning curve of a run: the columns of `CURVE`, numbers with five digits.

    Raises:
      OSError: If something cannot be read or written.
      ValueError: If there is no learning curve.
    """
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "config.json", into / "config.json")
    columns = {name: values for name, values in read_progress(folder / "progress.csv").items() if name in CURVE}
    rows = ([_short(number) for number in row] for row in zip(*columns.values()))
    write_whole(into / "progress.csv", table_text(list(columns), rows))


def _short(number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{number:.5g}" if abs(number) < 1e5 else f"{number:.0f}"
