"""`jsafe export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jsafe.cli import parse


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the trained policy to a file that needs neither the run nor the environment: its most likely actions.

    Actions are in the environment's units and within its bounds. `jsafe.load(FILE)` reads every kind; an `.npz` is read
    by `jsafe/deploy/policy_file.py`, too, which needs numpy alone and can be copied.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("policy.npz")
    """The file: .npz, .onnx (extra `export`) or .stablehlo."""
    checkpoint: str | None = None
    """`best` (the highest return of the evaluations that kept the limit: `jsafe train --eval-interval`), or an
    iteration. By default the newest checkpoint of the run folder."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    given = parse.parse(Export, arguments, "jsafe export")
    parse.run_folder(given.run)
    from jsafe.deploy import writing

    path = writing.export(given.run, given.output, parse.checkpoint(given.checkpoint))
    print(f"{path} ({path.stat().st_size / 1000:.1f} kB)")
    return 0
