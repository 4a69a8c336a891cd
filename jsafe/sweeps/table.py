"""What came out of a sweep: a row for each group of runs that differ in their seed only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsafe.curves import markdown as tables
from jsafe.curves import vocabulary
from jsafe.curves.csv_table import table_text, write_whole
from jsafe.runs.folder import RunError
from jsafe.sweeps.grid import Cell, text_of
from jsafe.sweeps.store import Store
from jsafe.sweeps.worker import History, history


def summarize(store: Store) -> list[Path]:
    """Writes table.csv, table.md and curves.png of the runs that have finished; none if there are none."""
    from jsafe.report import plot

    finished = [cell for cell in store.cells if store.ended.get(cell.name) == "finished"]
    if not finished:
        return []
    rows = table([(cell, plot.load(store.path(cell)).columns) for cell in finished])
    _add_histories(rows, finished, [history(store.path(cell)) for cell in finished])
    path = store.folder / "table"
    try:
        write_whole(path.with_suffix(".csv"), table_text(list(rows[0]), (row.values() for row in rows)))
        write_whole(path.with_suffix(".md"), markdown(rows))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error
    drawn = plot.save([store.path(cell) for cell in finished], store.folder / "curves.png")
    return [path.with_suffix(".csv"), path.with_suffix(".md"), drawn]


def _add_histories(rows: list[dict[str, Any]], cells: Sequence[Cell], histories: Sequence[History]) -> None:
    """Adds to the row of each group how many `workers` it has had, how many of them were `lost`, and their `hosts`."""
    groups: dict[str, list[History]] = {}
    for cell, each in zip(cells, histories):
        groups.setdefault(cell.group, []).append(each)
    for row, members in zip(rows, groups.values()):
        hosts = dict.fromkeys(host for each in members for host in each.hosts)
        row |= {"workers": sum(each.workers for each in members), "lost": sum(each.lost for each in members)}
        row["hosts"] = " ".join(hosts)


def table(finished: Sequence[tuple[Cell, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each group of runs that differ in their seed only.

    Every run counts with the last row of its learning curve: means over its last 100 episodes.

    Args:
      finished: Runs, and the columns of their progress.csv.

    Returns:
      Rows with the same keys: `algorithm`, `env`, the axes, `runs` (their number), `env_steps` (of each), mean and
      standard deviation over the runs of `return` and `success`, and for each cost `cost` (per episode) and `cost_rate`
      (per step), its limit in the unit in which the algorithm has it, and `within_limit`, the share of runs that keep
      to it; of several costs each with its name in front. Empty where there is no such number.
    """
    groups: dict[str, list[tuple[Cell, dict[str, float]]]] = {}
    for cell, columns in finished:
        last = {name: float(values[-1]) for name, values in columns.items()}
        groups.setdefault(cell.group, []).append((cell, last))
    axes = list(dict.fromkeys(name for cell, _ in finished for name in cell.axes))
    rows = [_row(members, axes) for members in groups.values()]
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


def _row(members: Sequence[tuple[Cell, dict[str, float]]], axes: Sequence[str]) -> dict[str, Any]:
    cell, curves = members[0][0], [values for _, values in members]
    row: dict[str, Any] = {"algorithm": cell.algorithm, "env": cell.config.env}
    row |= {name: text_of(cell.axes[name]) if name in cell.axes else "" for name in axes if name not in row}
    row |= {"runs": len(members), "env_steps": min(int(values["env_steps"]) for values in curves)}
    for name in ("return", "success"):
        row |= _spread(name, [values.get(f"episode/{name}", math.nan) for values in curves])
    for costs in zip(*(vocabulary.costs(values, cell.run.cost_names) for values in curves)):
        name = f"{costs[0].name}_" if vocabulary.num_costs(curves[0]) > 1 else ""
        row |= _spread(f"{name}cost", [cost.per_episode for cost in costs])
        row |= _spread(f"{name}cost_rate", [cost.per_step for cost in costs])
        for column, limits in (
            ("limit_per_episode", [cost.limit for cost in costs]),
            ("limit_per_step", [cost.limit_per_step for cost in costs]),
        ):
            known = [limit for limit in limits if math.isfinite(limit)]
            row[f"{name}{column}"] = statistics.fmean(known) if known else ""
        kept = [cost.kept for cost in costs if cost.kept is not None]
        row[f"{name}within_limit"] = sum(kept) / len(kept) if kept else ""
    return row


def _spread(name: str, numbers: Sequence[float]) -> dict[str, Any]:
    known = [number for number in numbers if math.isfinite(number)]
    mean = statistics.fmean(known) if known else ""
    return {f"{name}_mean": mean, f"{name}_std": statistics.stdev(known) if len(known) > 1 else ""}


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `table` for people: mean ± standard deviation over the runs; columns without a number left out."""
    shown = [
        {
            name.removesuffix("_mean"): _number(value, row.get(name.removesuffix("_mean") + "_std", ""))
            for name, value in row.items()
            if not name.endswith("_std")
        }
        for row in rows
    ]
    names = [name for name in shown[0] if any(row[name] for row in shown)]
    return tables.table(names, ([row[name] for name in names] for row in shown))


def _number(value: Any, std: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} ± {std:.2g}" if isinstance(std, float) else text
