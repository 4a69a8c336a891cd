"""`jsafe plot`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jsafe.cli import parse
from jsafe.options import Options, number


@dataclasses.dataclass(frozen=True)
class Plot(Options):
    """Draws learning curves: a line per algorithm and preset, mean and spread over its seeds, limits dashed."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("curves.png")
    """Picture to write (png, pdf, svg)."""
    x: Literal["steps", "wall"] = "steps"
    """Environment steps, or wall time."""
    smooth: float = number(0.0, low=0)
    """Environment steps over which values are averaged, looking back."""
    metric: tuple[str, ...] = ()
    """Columns of progress.csv to draw instead of return and costs: --metric cost/0/multiplier 'loss/*'."""
    published: Path | None = None
    """A csv file of published results, drawn as bands: env, algorithm, return_mean, return_std, cost_mean, cost_std.
    Rows of the algorithm `oracle` are a line for all: what is possible."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    given = parse.parse(Plot, arguments, "jsafe plot")
    if not given.runs:
        raise ValueError("name at least one run folder: jsafe plot RUN... [-o curves.png]")
    from jsafe.report import plot

    view = plot.View(given.x, given.smooth, given.metric, given.published)
    print(plot.save(given.runs, given.output, view))
    return 0
