"""`jsafe train`."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from jsafe import registry
from jsafe.cli import algorithm as words_of
from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.curves.vocabulary import costs
from jsafe.options import Options, number, spellings
from jsafe.runs.compiled import keep_programs
from jsafe.runs.config import RunConfig
from jsafe.scale.processes import JobConfig, LostProcessError, Team, connect


@dataclasses.dataclass(frozen=True)
class Resume(Options):
    """Continues a run exactly where it was saved."""

    resume: Path
    """Run folder."""
    total_steps: int | None = number(None, low=1)
    """Train up to this many environment steps in this session, instead of the number the run was started with."""
    num_threads: int | None = number(None, low=1)
    """Threads that step the environments. Results do not depend on it."""
    data: str | None = None
    """Where the data set is now, if it has been moved."""
    job: Annotated[JobConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=JobConfig)


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    if parse.peek(arguments, "--resume") is not None or "--resume" in arguments:
        return _resume(arguments)
    if not arguments or arguments[0].startswith("-"):
        print("usage: jsafe train NAME --env ID [options], jsafe train NAME --data FILE [options] on a data set,")
        print("       or jsafe train --resume RUN")
        print(f"NAME is one of: {', '.join(registry.names())}. `jsafe train NAME --help` lists its options.")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    name, *rest = arguments
    parse.take_imports(rest)
    algorithm = registry.get(name)
    given = words_of.read(algorithm, rest)
    given = given._replace(run=words_of.with_task(given.run))
    alone = given.many == words_of.Many()
    if given.run.depth and (not alone or given.job.distributed):
        raise ValueError("--depth 1 is for a run by itself, without --seeds, --cost-limits and --distributed")
    if not alone and given.job.distributed:
        raise ValueError("--seeds and --cost-limits train in one process; leave --distributed out")
    keep_programs()
    return _one(algorithm, given) if alone else _several(algorithm, given)


def _resume(arguments: list[str]) -> int:
    imports, rest = parse.take_imports(arguments)
    del imports
    given = parse.parse(Resume, rest, "jsafe train", ["--import"])
    parse.run_folder(given.resume)
    keep_programs()
    options = {name: getattr(given, name) for name in ("total_steps", "num_threads", "data")}
    return _run(given.resume, connect(given.job), options)


def _one(algorithm: registry.Algorithm, given: words_of.Given) -> int:
    import jsafe.runs.session  # noqa: F401  # now: once the folder is made, Ctrl-C is noted at once
    from jsafe.runs.folder import RunError, start, undo

    folder = given.place.run_dir or default_folder(algorithm.name, given.run)
    team = connect(given.job)
    problem = None
    if team.index == 0:
        try:
            folder = start(given.run, algorithm.name, given.options, folder)
        except (ValueError, RunError) as error:
            problem = error
    folder, problem = team.gather((folder, problem))[0]
    if problem is not None:
        raise problem
    try:
        return _run(folder, team)
    except Exception:
        if team.index == 0:
            undo(folder)
        raise


def _run(folder: Path, team: Team, options: dict[str, Any] | None = None) -> int:
    from jsafe.runs.session import train

    try:
        outcome = train(folder, team=team, **(options or {}))
    except LostProcessError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)  # the usual way out would wait for the process that is gone
    status = screen.tell(outcome, quiet=team.index > 0)
    if outcome.offline and outcome.status == "finished":
        _show_final(folder)
    return status


def _show_final(folder: Path, episodes: int = 20) -> None:
    """Evaluates what a data set has taught, where there is a task to try it on: the last state, and no better one."""
    from jsafe.cli import interruptible
    from jsafe.cli.evaluate import rows
    from jsafe.runs.build import NO_ENV
    from jsafe.runs.evaluation import evaluate
    from jsafe.runs.folder import read

    if read(folder).config.env == NO_ENV:
        return
    interruptible()
    report = evaluate(folder, episodes=episodes, console=screen.console())
    title = f"{report['algorithm']} on {report['env']} at the end, most likely actions (± standard error of the mean)"
    file = [("file", str(folder / "evaluation.json"))]
    screen.console(stderr=False).print(screen.summary(title, [*rows(report), *file]))


def _several(algorithm: registry.Algorithm, given: words_of.Given) -> int:
    from jsafe.runs.folder import check_free, start, undo
    from jsafe.runs.many import train_many

    planned = []
    limits: list[float | None] = [*given.many.limits()]
    for limit in limits or [None]:
        options = given.options if limit is None else _with_limit(algorithm, given.options, limit)
        for seed in range(given.run.seed, given.run.seed + given.many.seeds):
            name = f"s{seed}" if limit is None else f"c{limit:g}-s{seed}"
            folder = given.place.run_dir
            where = default_folder(algorithm.name, given.run, name) if folder is None else folder / name
            planned.append((dataclasses.replace(given.run, seed=seed), algorithm.name, options, where))
    for *_, where in planned:  # before the first one is made
        check_free(where)
    try:
        folders = [start(*plan) for plan in planned]
        outcomes = train_many(folders)
    except Exception:
        for *_, where in planned:
            undo(where)
        raise
    table = Table(title="Summary", title_justify="left")
    for column in ("run folder", "ended", "return", "success", "cost"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        numbers = [outcome.values.get(f"episode/{name}", math.nan) for name in ("return", "success")]
        known = [f"{value:.4g}" if math.isfinite(value) else "" for value in numbers]
        told = ", ".join(value for name, value in screen.headline(outcome.values) if name in _names(outcome))
        table.add_row(str(outcome.folder), outcome.status, *known, told)
    screen.console(stderr=False).print(table)
    for outcome in outcomes:
        if outcome.message:
            screen.console().print(f"{outcome.folder}: {outcome.message}", soft_wrap=True)
    if any(outcome.status == "interrupted" for outcome in outcomes):
        return 128 + max(outcome.signal or 0 for outcome in outcomes)
    return 0 if all(outcome.status == "finished" for outcome in outcomes) else 1


def _names(outcome: Any) -> set[str]:
    return {cost.name for cost in costs(outcome.values)}


def _with_limit(algorithm: registry.Algorithm, options: Any, limit: float) -> Any:
    """The options with another limit, in the unit that they have it in.

    Raises:
      ValueError: If costs have no say in what is learnt.
    """
    from jsafe.options import replace

    if "limit.value" not in spellings(options) or not getattr(options, "constrained", True):
        raise ValueError(f"--cost-limits: {algorithm.name} has no cost limit to keep")
    return replace(options, {"limit.value": limit}, algorithm.name)


def default_folder(name: str, config: RunConfig, suffix: str | None = None) -> Path:
    """A new folder `runs/ALGORITHM-ENV-sSEED`, numbered where that exists; a name that every file system takes."""
    stem = f"{name}-{config.env}-{suffix or f's{config.seed}'}"
    stem = re.sub(r"[^\w.+=-]+", "-", stem, flags=re.ASCII)[-150:].lstrip("-.")
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return folder
