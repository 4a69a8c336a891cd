"""`jsafe plot`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jsafe.cli import parse


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draws learning curves: a line per algorithm and preset, mean and spread over its seeds, limits dashed."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("curves.png")
    """Picture to write (png, pdf, svg)."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    given = parse.parse(Plot, arguments, "jsafe plot")
    if not given.runs:
        raise ValueError("name at least one run folder: jsafe plot RUN... [-o curves.png]")
    from jsafe.report import plot

    print(plot.save(given.runs, given.output))
    return 0
