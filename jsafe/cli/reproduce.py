"""`jsafe reproduce`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.options import Options, number


@dataclasses.dataclass(frozen=True)
class Reproduce(Options):
    """Reruns cells of a benchmark: trains what is missing, evaluates it, sets it beside earlier and published results.

    Without a cell it lists those that there are. The same command again continues.
    """

    cells: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of cells, or patterns such as 'SafetyPointGoal1-*'."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each cell."""
    benchmark: Path = Path("experiments/benchmark")
    """Folder with cells.csv, published/ and results/."""
    folder: Path = Path("reproduced")
    """Where the runs are; a run that `jsafe train` made as FOLDER/runs/CELL-sSEED is taken in if it is the cell's."""
    workers: Annotated[int | None, tyro.conf.arg(aliases=["-j"])] = number(None, low=1, high=4096)
    """Runs at a time, each in its own process. Here 1 by default, and the cores are divided among them; on a cluster as
    many as it has room for."""
    on: Literal["ray", "slurm", "slurm-local"] | None = None
    """A cluster that trains, in place of this machine, as for `jsafe sweep`; runs are evaluated here."""
    cluster: Path | None = None
    """TOML file whose table `cluster` is for it, as in a sweep file."""
    episodes: int = number(100, low=1, high=10**6)
    """Episodes of the evaluation of each run, with most likely actions."""
    together: int = number(1, low=1, high=4096)
    """At most so many new runs in one program, where they differ in seeds, limits, rates and the like alone: on an
    accelerator many cost little more than one."""
    retry: bool = False
    """Also continue runs that have failed."""
    truth: int = number(0, low=0, high=10**5)
    """Ask the critics of each run in that many states, at least 2, beside what happens (`jsafe truth`); 0: do not."""
    record: bool = False
    """Add what comes out to BENCHMARK/results, and make its tables and pictures anew."""
    dry_run: bool = False
    """Check the cells and list their runs; start nothing."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    import jax

    given = parse.parse(Reproduce, arguments, "jsafe reproduce")
    from jsafe.report import benchmark

    known = benchmark.read_cells(given.benchmark / "cells.csv")
    old = benchmark.read_rows(given.benchmark / "results" / "scores.csv", benchmark.Score)
    if not given.cells:
        for cell in known:
            done = [str(score.seed) for score in old if score.cell == cell.cell]
            told = f"seeds {', '.join(done)} in the results" if done else "no results yet"
            print(f"{cell.cell:48} {cell.family:12} {cell.steps:.1e} steps  {told}")
        return 0
    cells = benchmark.choose(known, given.cells)
    published = given.benchmark / "published"
    others = benchmark.read_published(published)  # all that joins the runs is read before they take hours
    for folder in (given.folder, *([given.benchmark / "results"] if given.record else [])):
        benchmark.read_rows(folder / "scores.csv", benchmark.Score)
        benchmark.read_rows(folder / "critics.csv", benchmark.Critic)
    if not given.seeds or len(set(given.seeds)) != len(given.seeds) or min(given.seeds) < 0:
        raise ValueError(f"--seeds must be different whole numbers of at least 0, got {given.seeds}")
    if given.truth == 1:
        raise ValueError("--truth must be 0 or at least 2, got 1")
    jax.config.update("jax_platforms", "cpu")  # an accelerator is for the workers
    from jsafe.runs.compiled import keep_programs
    from jsafe.sweeps import grid, reproduce

    if given.cluster is not None and given.on is None:
        raise ValueError("--cluster is for a cluster: say which by --on")
    options = grid.cluster_options(grid.load(given.cluster)) if given.cluster is not None else {}
    if given.dry_run:
        print("\n".join(run.name for run in reproduce.planned(cells, given.seeds)))
        return 0
    keep_programs()
    made = reproduce.reproduce(
        cells,
        given.seeds,
        given.folder,
        workers=given.workers,
        on=given.on,
        options=options,
        episodes=given.episodes,
        retry=given.retry,
        together=given.together,
        states=given.truth,
        console=screen.console(),
    )
    again = "the same command again continues"
    if made.report.signal is not None:
        print(f"interrupted; {again}", file=sys.stderr)
        return 128 + made.report.signal
    paths = reproduce.show(given.folder, known, *reproduce.merged(given.folder, made), published)
    if made.scores:
        print(benchmark.markdown(benchmark.table(cells, made.scores, others)))
    compared = benchmark.against(cells, made.scores, old)
    if compared:
        print(compared)
    if made.critics:
        print(benchmark.critics_markdown(cells, made.critics))
    if given.record:
        paths += reproduce.record(given.benchmark / "results", known, made, published)
    print("\n".join(map(str, paths)))
    bad = [f"{name} ({state})" for name, state in made.report.states.items() if state != "finished"]
    if bad:
        print(f"not finished: {', '.join(bad)}; {again} (--retry: with the failed ones)", file=sys.stderr)
    return 1 if bad else 0
