"""Runs beside runs: what a cell scored beside what others published and beside earlier scores, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsafe.curves import markdown as tables
from jsafe.curves.csv_table import write_whole
from jsafe.report import statistics
from jsafe.report.benchmark.records import Cell, Critic, Published, Score, write_csv
from jsafe.report.plot import ORACLE
from jsafe.report.statistics import Interval


class Comparison(NamedTuple):
    """Two sets of runs, by one number.

    Attributes:
      ours, theirs: Interquartile means.
      difference: Of these, with its bootstrap interval.
      probability: That a run of ours scores more, with its bootstrap interval.
      p: Of the permutation test.
    """

    ours: float
    theirs: float
    difference: Interval
    probability: Interval
    p: float


def compare(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Comparison:
    """Two sets of runs, each a number per run: interquartile means, their difference, and who scores more.

    Raises:
      ValueError: If a set is empty.
    """
    iqm = statistics.interquartile_mean

    def gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return iqm(x) - iqm(y)

    return Comparison(
        float(iqm(np.asarray(ours, float))),
        float(iqm(np.asarray(theirs, float))),
        statistics.bootstrap(gap, ours, theirs, seed=seed),
        statistics.bootstrap(statistics.probability_of_improvement, ours, theirs, seed=seed),
        statistics.permutation_test(ours, theirs, seed=seed),
    )


def verdict(difference: Interval) -> str:
    """`more` or `less` where the interval of a difference is on one side of zero, else `alike`; `?` without one."""
    if math.isnan(difference.low):
        return "?"
    return "alike" if 0.0 in difference else "more" if difference.value > 0 else "less"


def table(
    cells: Iterable[Cell], scores: Iterable[Score], published: Mapping[tuple[str, str], Published]
) -> list[dict[str, Any]]:
    """A row for each cell that has been run.

    Returns:
      Rows with the same keys: the cell; `runs`; interquartile mean of `return`, `cost` and `success` over the runs with
      the bounds of the bootstrap interval (`return_low` ...; NaN for a single run); `training_return` and
      `training_cost`, those of the last episodes of training, with sampled actions; `kept`, whether the cost is within
      the limit ("" without one); `oracle`, what is possible within a limit (NaN where nobody has looked); the
      published numbers, of the same limit; ours less the published one (`return_gap` and its Welch bounds) and the
      `verdict` on it, the same for costs.
    """
    by_cell: dict[str, list[Score]] = {}
    for score in scores:
        by_cell.setdefault(score.cell, []).append(score)
    rows = []
    for cell in cells:
        runs = by_cell.get(cell.cell, [])
        if not runs:
            continue
        row: dict[str, Any] = cell._asdict() | {"limit": "" if cell.limit is None else cell.limit, "runs": len(runs)}
        values = {
            "return": [run.episode_return for run in runs],
            "cost": [run.episode_cost for run in runs],
            "success": [run.success for run in runs],
        }
        for name, numbers in values.items():
            found = statistics.bootstrap(statistics.interquartile_mean, numbers)
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        for name in ("training_return", "training_cost"):
            told = [number for run in runs if math.isfinite(number := getattr(run, name))]
            row[name] = float(statistics.interquartile_mean(np.array(told))) if told else math.nan
        row["kept"] = "" if cell.limit is None else "yes" if row["cost"] <= cell.limit else "no"
        row["oracle"] = published[cell.task, ORACLE].return_mean if (cell.task, ORACLE) in published else math.nan
        other = published.get((cell.task, cell.algorithm))
        if other is not None and cell.limit is not None and abs(cell.limit - other.limit) > 0:  # not of NaN
            other = None
        for name in ("return", "cost"):
            mean = getattr(other, f"{name}_mean", math.nan)
            std = getattr(other, f"{name}_std", math.nan)
            known = other is not None and other.runs > 1 and math.isfinite(mean + std)
            gap = (
                statistics.against_summary(values[name], mean, std, other.runs)
                if known and other is not None
                else Interval(math.nan, math.nan, math.nan)
            )
            row |= {f"published_{name}": mean, f"published_{name}_std": std}
            row |= {f"{name}_gap": gap.value, f"{name}_gap_low": gap.low, f"{name}_gap_high": gap.high}
            row[f"{name}_verdict"] = verdict(gap) if known else ""
        for name in ("success", "cost_rate"):
            row[f"published_{name}"] = getattr(other, name, math.nan)
        row["source"] = other.source if other is not None else ""
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], task: bool = True) -> str:
    """The rows of `table` for people; `task` says whether there is a column for it."""
    heads = ["method", "runs", "steps", "return", "success", "cost", "in training", "limit", "kept", "possible"]
    heads += ["published", "return, ours less theirs", "cost, ours less theirs"]
    heads = ["task", *heads] if task else heads
    lines = []
    for row in rows:
        cell = Cell(*(row[name] for name in Cell._fields))
        limit = "-" if row["limit"] == "" else f"{row['limit']:g}"
        line = [f"`{cell.method}`", str(row["runs"]), f"{row['steps'] / 1e6:g} M"]
        line += [_interval(row, "return"), f"{row['success']:.2f}", _interval(row, "cost")]
        trained = f"{row['training_return']:.1f} at {row['training_cost']:.1f}"
        line += ["-" if "nan" in trained else trained, limit, row["kept"] or "-"]
        line.append(f"{row['oracle']:.1f}" if math.isfinite(row["oracle"]) else "-")
        if math.isfinite(row["published_return"]):
            line.append(" at ".join(_published(row, n) for n in ("return", "cost")))
            gaps = [(f"{n}_gap", row[f"{n}_verdict"]) for n in ("return", "cost")]
            line += [f"{_interval(row, name)}: {told}" if told else "-" for name, told in gaps]
        elif math.isfinite(row["published_success"]):
            rate = 1000 * row["published_cost_rate"]
            line += [f"success {row['published_success']:.2f} at {rate:.2g} per 1000 steps", "-", "-"]
        else:
            line += ["-", "-", "-"]
        lines.append([row["task"], *line] if task else line)
    return tables.table(heads, lines)


def _published(row: Mapping[str, Any], name: str) -> str:
    mean, std = row[f"published_{name}"], row[f"published_{name}_std"]
    return "?" if math.isnan(mean) else f"{mean:.4g}" if math.isnan(std) else f"{mean:.4g} ± {std:.2g}"


def _interval(row: Mapping[str, Any], name: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    text = f"{value:.1f}"
    return text if math.isnan(low) else f"{text} [{low:.1f}, {high:.1f}]"


def against(cells: Iterable[Cell], new: Sequence[Score], old: Sequence[Score]) -> str:
    """New scores beside earlier ones of the same cells, as a table for people; empty where no cell has both."""
    heads = ["cell", "number", "runs", "new", "earlier", "difference", "chance of more", "p"]
    lines = []
    for cell in cells:
        pairs = [[score for score in scores if score.cell == cell.cell] for scores in (new, old)]
        if not all(pairs):
            continue
        for name in ("episode_return", "episode_cost"):
            ours, theirs = ([getattr(score, name) for score in scores] for scores in pairs)
            found = compare(ours, theirs)
            gap, chance = found.difference, found.probability
            shown = [f"{found.ours:.2f}", f"{found.theirs:.2f}"]
            for each, digits in ((gap, 2), (chance, 2)):
                bounds = "" if math.isnan(each.low) else f" [{each.low:.{digits}f}, {each.high:.{digits}f}]"
                shown.append(f"{each.value:.{digits}f}{bounds}")
            counts = f"{len(pairs[0])} and {len(pairs[1])}"
            lines.append([cell.cell, name.removeprefix("episode_"), counts, *shown, f"{found.p:.2g}"])
    return tables.table(heads, lines) if lines else ""


def critics_markdown(cells: Iterable[Cell], critics: Sequence[Critic]) -> str:
    """What critics say, as a table for people: a row for each signal of each run; empty where there is none."""
    heads = ["method", "task", "seed", "signal", "truth", "critic", "rms error", "correlation", "slope"]
    heads += ["above the limit", "missed", "false alarms"]
    lines = []
    for cell in cells:
        for row in critics:
            if row.cell == cell.cell:
                line = [f"`{cell.method}`", cell.task, str(row.seed), row.signal, f"{row.truth:.3g} ± {row.noise:.1g}"]
                line += [f"{x:.3g}" for x in (row.estimate, row.rmse)]
                line += [f"{x:.2f}" for x in (row.correlation, row.slope)]
                line += ["-" if math.isnan(x) else f"{x:.0%}" for x in (row.unsafe, row.missed, row.alarmed)]
                lines.append(line)
    return tables.table(heads, lines) if lines else ""


def write_table(rows: Sequence[Mapping[str, Any]], folder: Path, heading: str = "") -> list[Path]:
    """Writes comparison.csv and comparison.md; returns their paths.

    Raises:
      OSError: If they cannot be written.
    """
    paths = [folder / "comparison.csv", folder / "comparison.md"]
    write_csv(rows, list(rows[0]), paths[0])
    write_whole(paths[1], heading + markdown(rows))
    return paths
