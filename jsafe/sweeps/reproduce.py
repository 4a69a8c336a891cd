"""Reruns the cells of a benchmark: trains what is missing, evaluates it, and says what it scored.

Training is a sweep (`jsafe.sweeps.session`) in a folder that several commands, and `jsafe train`, may share:

    FOLDER/runs/CELL-sSEED/              an ordinary run folder, evaluated
    FOLDER/scores.csv                    what the runs scored
    FOLDER/critics.csv                   what their critics say beside what happens, where that was asked for
    FOLDER/comparison.csv, comparison.md beside published results
    FOLDER/pareto.png, curves.png        return over cost; learning curves
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

import jsafe
from jsafe.curves import screen
from jsafe.deploy import writing
from jsafe.report import benchmark, plot, truth
from jsafe.report.benchmark import Critic, Score
from jsafe.runs import evaluation
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.folder import RunError, read
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
      report: Of the sweep.
      scores: Of the runs that have finished.
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
      ValueError: For what `jsafe.sweeps.grid.expand` rejects, with the name of the cell, or options that are several
        values.
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
            raise ValueError(f"cell {cell.cell}: options must have one value each, got {cell.options}")
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
            if report.states[run.name] == "finished":
                folders.append(folder / "runs" / run.name)
                scores.append(score(run.group, folders[-1], episodes, console))
                if states:
                    try:
                        critics += ask(run.group, folders[-1], states, console)
                    except RunError as error:
                        console.print(f"{run.name}: critics not asked: {error}")
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
    late = steps > 0.95 * steps[-1]
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
        training_return=float(np.nanmean(run.columns["episode/return"][late])),
        training_cost=float(np.nanmean(run.columns["episode/cost"][late])),
        minutes=float(run.columns["time/wall_seconds"][-1] / 60),
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
    path = folder / "evaluation.json"
    newest = Checkpoints(folder).list()[-1:]
    if path.exists():
        try:
            old = json.loads(path.read_text())
            fits = old["backend"] == "host" and old["deterministic"] and old["episodes"] == episodes
            if fits and [old["iteration"]] == newest:
                return old
        except (OSError, ValueError, KeyError, TypeError):
            pass  # made anew
    return evaluation.evaluate(folder, episodes=episodes, backend="host", console=console)


def commit() -> str:
    """The commit of this checkout, with `+` where files differ from it; empty outside of one."""
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

    Args:
      results: The folder BENCHMARK/results.
      cells: All of the benchmark.
      made: From `reproduce`.
      published: The folder BENCHMARK/published.

    Raises:
      ValueError: If earlier scores or published results cannot be read.
      RunError: If something cannot be written.
    """
    scores = benchmark.merge(benchmark.read_rows(results / "scores.csv", Score), made.scores)
    critics = benchmark.merge(benchmark.read_rows(results / "critics.csv", Critic), made.critics)
    try:
        for folder in made.folders:
            keep(folder, results / "runs" / folder.name)
        (results / "policies").mkdir(exist_ok=True)
        for cell in cells:
            here = [score for score in scores if score.cell == cell.cell]
            name = f"{cell.cell}-s{benchmark.best(here, cell.limit).seed}" if here else ""
            for folder in made.folders:
                if folder.name == name:
                    _write_policy(folder, f"{results / 'policies' / cell.cell}")
        paths = show(results, cells, scores, critics, published)
        alike: dict[tuple[str, float], list[Path]] = {}
        for file in sorted((results / "runs").glob("*/config.json")):
            run = read(file.parent)
            alike.setdefault((run.config.env, run.config.total_steps / 1e6), []).append(file.parent)
        oracle = published / f"{plot.ORACLE}.csv"
        view = plot.View(published=oracle if oracle.exists() else None)
        for (task, millions), folders in alike.items():
            picture = results / f"curves-{grid.text_of(task)}-{millions:g}M.png"
            paths.append(plot.save(folders, picture, view._replace(smooth=3e4 * millions)))
    except OSError as error:
        raise RunError(f"cannot write to {results}: {error.strerror or error}") from error
    return paths


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
    """
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "config.json", into / "config.json")
    with open(folder / "progress.csv", newline="") as source, open(into / "progress.csv", "w", newline="") as file:
        rows = csv.DictReader(source)
        writer = csv.writer(file, lineterminator="\n")
        names = [name for name in rows.fieldnames or () if name in CURVE]
        writer.writerow(names)
        for row in rows:
            writer.writerow([_short(row[name]) for name in names])


def _short(text: str) -> str:
    if text.isdigit() or not text:
        return text
    number = float(text)
    return f"{number:.5g}" if abs(number) < 1e5 else f"{number:.0f}"
