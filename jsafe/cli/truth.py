"""`jsafe truth`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.options import Options, number
from jsafe.runs.compiled import keep_programs


@dataclasses.dataclass(frozen=True)
class Truth(Options):
    """Asks the critics of a run about states that its policy visits, then finds out by branched rollouts.

    Writes RUN/truth.csv (a row per state) and RUN/truth.png.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    states: int = number(64, low=2, high=10**5)
    """States that are asked about."""
    rollouts: int = number(16, low=2, high=10**5)
    """Branches per state."""
    length: int | None = number(None, low=1, high=10**6)
    """Steps of a branch; by default until less than 1 % of a discounted sum is left."""
    deterministic: bool = False
    """Take the most likely actions; critics know the values of sampled ones."""
    seed: int | None = number(None, low=0, high=2**32 - 1)
    """Of environments and actions; by default one that the training never used."""
    num_threads: int | None = number(None, low=1, high=4096)
    """Threads that step the environments."""
    output: Path | None = None
    """Picture to write in place of RUN/truth.png."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    _, words = parse.take_imports(arguments)
    given = parse.parse(Truth, words, "jsafe truth", ["--import"])
    parse.run_folder(given.run)
    from jsafe.report import plot, truth

    output = given.output or given.run / "truth.png"
    plot.check_output(output)
    keep_programs()
    report = truth.tell(
        given.run,
        states=given.states,
        rollouts=given.rollouts,
        length=given.length,
        deterministic=given.deterministic,
        seed=given.seed,
        num_threads=given.num_threads,
        console=screen.console(),
    )
    path = truth.draw(report, output)
    title = f"critics of {report.algorithm} on {report.env}: {given.states} states, {given.rollouts} branches of each"
    files = [("files", f"{given.run / 'truth.csv'}, {path}")]
    screen.console(stderr=False).print(screen.summary(title, [*rows(report), *files]))
    return 0


def rows(report: Any) -> list[tuple[str, str]]:
    """What to print."""
    pairs = [("steps of a branch", f"{report.length} ({report.branches.cut.mean():.0%} cut by the end of an episode)")]
    for about in report.calibrations:
        pairs += [
            (f"{about.name}: truth, critic", f"{about.truth:.4g} ± {about.noise:.2g}, {about.estimate:.4g}"),
            (f"{about.name}: bias, rms error", f"{about.bias:+.3g}, {about.rmse:.3g}"),
            (f"{about.name}: correlation, slope", f"{about.correlation:.3f}, {about.slope:.3f}"),
        ]
    for verdict in report.verdicts:
        pairs += [
            (f"{verdict.name}: states above {verdict.bound:.3g}", f"{verdict.unsafe:.1%}"),
            (f"{verdict.name}: missed, false alarms", f"{verdict.missed:.1%}, {verdict.alarmed:.1%}"),
            (f"{verdict.name}: states with a branch without cost", f"{verdict.free:.1%}"),
        ]
    return pairs
