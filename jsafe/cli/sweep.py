"""`jsafe sweep`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.options import Options, number


@dataclasses.dataclass(frozen=True)
class Sweep(Options):
    """Trains a grid of runs from a TOML file; the same command again continues."""

    config: tyro.conf.Positional[Path]
    """The sweep file."""
    folder: Path | None = None
    """Folder of the sweep (default: sweeps/NAME of the file)."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = number(1, low=1, high=4096)
    """Runs at a time, each in its own process; the cores are divided among them."""
    retry: bool = False
    """Also continue runs that have failed."""
    dry_run: bool = False
    """Check the file and list its runs; start nothing."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    import jax

    from jsafe.sweeps import grid, session

    given = parse.parse(Sweep, arguments, "jsafe sweep")
    jax.config.update("jax_platforms", "cpu")  # an accelerator is for the workers
    cells = grid.read(given.config)
    if given.dry_run:
        print("\n".join(cell.name for cell in cells))
        return 0
    folder = given.folder or Path("sweeps") / given.config.stem
    report = session.run(cells, folder, workers=given.workers, retry=given.retry)
    again = f"jsafe sweep {given.config}" + (f" --folder {given.folder}" if given.folder else "")
    if report.files:
        _show(report.files[1].read_text())
        print("\n".join(map(str, report.files)))
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
