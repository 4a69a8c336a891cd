"""`jsafe sweep`."""

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
class Sweep(Options):
    """Trains a grid of runs from a TOML file, or searches (its table `search`); the same command again continues."""

    config: tyro.conf.Positional[Path]
    """The sweep file."""
    folder: Path | None = None
    """Folder of the sweep (default: sweeps/NAME of the file)."""
    workers: Annotated[int | None, tyro.conf.arg(aliases=["-j"])] = number(None, low=1, high=4096)
    """Runs at a time, each in its own process. Here 1 by default, and the cores are divided among them; on a cluster as
    many as it has room for."""
    on: Literal["ray", "slurm", "slurm-local"] | None = None
    """A cluster, in place of this machine: that of Ray (`RAY_ADDRESS`, or the one started here), Slurm, or Slurm's
    stand-in on this machine. All nodes see the same folder; the table `cluster` of the file is for it. A run whose
    worker is lost goes on elsewhere from its newest checkpoint."""
    together: int = number(1, low=1, high=4096)
    """At most so many new runs in one program, where they differ in seeds, limits, rates and the like alone: on an
    accelerator many cost little more than one."""
    retry: bool = False
    """Also continue runs that have failed."""
    dry_run: bool = False
    """Check the file and list its runs; start nothing."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    import jax

    from jsafe.sweeps import grid, search, session

    given = parse.parse(Sweep, arguments, "jsafe sweep")
    jax.config.update("jax_platforms", "cpu")  # an accelerator is for the workers
    data = grid.load(given.config)
    searching = search.read(data)
    if searching is None:
        cells = grid.expand(data)
    else:  # what can be known before anything was trained, which checks the names of options, too
        cells = search.cells_of(data, search.draw(searching, 0))
    if given.dry_run:
        print("\n".join(cell.name for cell in cells))
        if searching is not None:
            print(f"... an example: {searching.method} search, {searching.trials} trials of {len(cells)} runs")
        return 0
    folder = given.folder or Path("sweeps") / given.config.stem
    options = grid.cluster_options(data)

    def sweep(cells: list[grid.Cell]) -> session.Report:
        return session.run(
            cells,
            folder,
            workers=given.workers,
            retry=given.retry,
            on=given.on,
            options=options,
            together=given.together,
        )

    trials = None
    if searching is None:
        report = sweep(cells)
    else:
        report, trials = search.run(data, folder, sweep, given.workers or 1)
    again = f"jsafe sweep {given.config}" + (f" --folder {given.folder}" if given.folder else "")
    again += f" --on {given.on}" if given.on else ""
    if report.files:
        _show(report.files[1].read_text())
        print("\n".join(map(str, report.files)))
    if trials is not None:
        best = search.best(trials)
        told = "none has kept the limit" if best is None else f"{best.values}: {best.result:.4g}"
        print(f"best of {sum(trial.result is not None for trial in trials)} trials: {told}")
    if report.signal is not None:
        print(f"interrupted; continue with: {again}", file=sys.stderr)
        return 128 + report.signal
    bad = {state: [name for name, each in report.states.items() if each == state] for state in report.states.values()}
    if bad.get("failed"):
        print(f"failed: {', '.join(bad['failed'])}\ntry them again with: {again} --retry", file=sys.stderr)
    if bad.get("interrupted"):
        print(f"interrupted: {', '.join(bad['interrupted'])}\ncontinue with: {again}", file=sys.stderr)
    return 0 if set(report.states.values()) == {"finished"} else 1


def _show(markdown: str) -> None:
    """A table drawn on a terminal, as it is elsewhere."""
    if not sys.stdout.isatty():
        print(markdown)
        return
    from rich.markdown import Markdown

    screen.console(stderr=False).print(Markdown(markdown))
