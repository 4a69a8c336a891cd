"""The picture of a benchmark: return over cost."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jsafe.report import statistics
from jsafe.report.benchmark.records import Cell, Published
from jsafe.report.plot import ORACLE

LABEL = 80
"""Letters in a line of the legend, a column per column of panels."""


def pareto(rows: Sequence[Mapping[str, Any]], published: Mapping[tuple[str, str], Published]) -> Figure:
    """Return over cost, a panel per task: a line joins the limits of one method and length, a dot is a cell with its
    interval.

    Dashed: limits. Grey steps: the front, the cells that no other one beats in return and cost at once. Hollow: what
    others published for the same limit. Star: what a planner reaches that knows the task perfectly.

    Raises:
      ValueError: If there is nothing to draw.
    """
    if not rows:
        raise ValueError("there are no results to draw")
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    methods = list(dict.fromkeys(_line(row) for row in rows))
    colors = {method: f"C{k % 10}" for k, method in enumerate(methods)}
    marks = {method: "os^Dv"[k // 10 % 5] for k, method in enumerate(methods)}
    across = min(len(tasks), 2)
    down = -(-len(tasks) // across)
    words = {method: textwrap.fill(method, LABEL) for method in methods}
    lines = sum(text.count("\n") + 1 for text in words.values())
    fig = Figure(figsize=(5.5 * across, 4.2 * down + 0.5 + 0.17 * lines / across), layout="constrained")
    axes = fig.subplots(down, across, squeeze=False).ravel()
    handles = {}
    for axis, task in zip(axes, tasks):
        here = [row for row in rows if row["task"] == task]
        for method in methods:
            line = sorted(
                (row for row in here if _line(row) == method),
                key=lambda row: row["cost"],
            )
            if not line:
                continue
            spreads = [_whiskers(line, name) for name in ("cost", "return")]
            handles[method] = axis.errorbar(
                [row["cost"] for row in line],
                [row["return"] for row in line],
                xerr=spreads[0],
                yerr=spreads[1],
                color=colors[method],
                marker=marks[method],
                lw=1,
                label=words[method],
            )
            others = {(row["published_cost"], row["published_return"]) for row in line}
            for cost, reward in (point for point in others if math.isfinite(sum(point))):
                axis.plot(cost, reward, marks[method], color=colors[method], mfc="none")
        if (task, ORACLE) in published:
            possible = published[task, ORACLE]
            (star,) = axis.plot(possible.cost_mean, possible.return_mean, "k*", ms=10, ls="none", label=ORACLE)
            handles[ORACLE] = star
        best = statistics.pareto_front([row["return"] for row in here], [row["cost"] for row in here])
        axis.step([here[i]["cost"] for i in best], [here[i]["return"] for i in best], "0.7", where="post", zorder=0)
        for limit in sorted({row["limit"] for row in here if row["limit"] != ""}):
            axis.axvline(limit, color="black", ls="--", lw=0.8)
        axis.set(title=task, xlabel="cost per episode", ylabel="return per episode")
        left, right = axis.get_xlim()
        axis.set_xlim(min(0.0, left), 1.05 * right)
        axis.grid(alpha=0.3)
    for axis in axes[len(tasks) :]:
        axis.remove()
    fig.legend(handles=list(handles.values()), loc="outside lower center", ncols=across, fontsize="small")
    return fig


def _line(row: Mapping[str, Any]) -> str:
    return f"{Cell(*(row[name] for name in Cell._fields)).method}, {row['steps'] / 1e6:g} M"


def _whiskers(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Distances down and up `[2, n]` from the estimates to the bounds; zero where there are none."""
    pairs = [[row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name]] for row in rows]
    return np.maximum(np.nan_to_num(np.array(pairs).T), 0.0)
