"""Learning curves of runs: mean and spread over the seeds of each algorithm, with the cost limit drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jsafe import registry
from jsafe.curves.logging import limits as limits_of
from jsafe.curves.logging import read_progress
from jsafe.options import difference, to_json

_PANELS = {
    "episode/return": "return per episode",
    "episode/success": "success rate",
    "episode/cost_rate": "cost per step",
    "episode/cost": "cost per episode",
}
_LIMITS = ("episode/cost", "episode/cost_rate")  # in the order of `logging.limits`


class Run(NamedTuple):
    """One run folder: what was trained, and the columns of its progress.csv."""

    folder: Path
    algorithm: str
    env: str
    seed: int
    preset: str | None
    options: dict[str, Any]
    columns: dict[str, np.ndarray]


class Curve(NamedTuple):
    """Mean and standard deviation over seeds at `steps`; all `[P]`. `std` is 0 for a single seed."""

    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    seeds: int


def load(folder: str | os.PathLike) -> Run:
    """Reads a run folder.

    Raises:
      ValueError: If it holds no run, or a run without rows.
    """
    folder = Path(folder)
    try:
        data = json.loads((folder / "config.json").read_text())
        columns = read_progress(folder / "progress.csv")
        name, about = data["algorithm"], data["run"]
        options = _defaults(name) | data["config"]  # an option that is younger than the run
        return Run(folder, name, about["env"], about["seed"], about.get("preset"), options, columns)
    except (OSError, KeyError) as error:
        raise ValueError(f"{folder} is not a run folder with a learning curve: {error}") from error


def group(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
    """Runs by task and by label; runs that differ in their seed only share one.

    The label is the algorithm's name. Where an algorithm comes in several forms the preset follows, or the options that
    differ where presets do not tell them apart.
    """
    grouped: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        label = _label(run, [other for other in runs if other.algorithm == run.algorithm])
        grouped.setdefault(run.env, {}).setdefault(label, []).append(run)
    return grouped


def _label(run: Run, forms: Sequence[Run]) -> str:
    differing = {line.split(":")[0] for other in forms for line in difference(forms[0].options, other.options)}
    if not differing:
        return run.algorithm
    first = {other.preset: other for other in reversed(forms)}
    if not any(difference(first[other.preset].options, other.options) for other in forms):
        return f"{run.algorithm} ({run.preset})" if run.preset else run.algorithm
    shown = [f"{name}={_option(run.options, name)}" for name in sorted(differing)]
    return f"{run.algorithm} ({', '.join(shown)})"


def _defaults(name: str) -> dict[str, Any]:
    try:
        return to_json(registry.get(name).config())
    except ValueError:  # an algorithm that is not registered here
        return {}


def curve(runs: Sequence[Run], column: str) -> Curve | None:
    """Mean and spread of a column over runs, on the steps that all of them cover; None where there is no number.

    Runs are interpolated linearly between their rows; rows without a number are left out.
    """
    lines = []
    for run in runs:
        values = run.columns.get(column, np.array([np.nan]))
        good = np.isfinite(values)
        if good.any():
            lines.append((run.columns["env_steps"][good], values[good]))
    if not lines:
        return None
    start, end = max(steps[0] for steps, _ in lines), min(steps[-1] for steps, _ in lines)
    if start > end:
        return None
    steps = np.unique(np.concatenate([steps for steps, _ in lines]))
    steps = steps[(steps >= start) & (steps <= end)]
    values = np.stack([np.interp(steps, *line) for line in lines])
    std = values.std(axis=0, ddof=1) if len(lines) > 1 else np.zeros(len(steps))
    return Curve(steps, values.mean(axis=0), std, len(lines))


def figure(folders: Sequence[str | os.PathLike]) -> Figure:
    """Draws runs: one row of panels per task, one line per algorithm, one standard deviation shaded.

    The panels are return, success, and cost per step; cost per episode where an algorithm has its limit in that unit.
    Limits are dashed.

    Raises:
      ValueError: For a folder without a run or without rows.
    """
    runs = [load(folder) for folder in folders]
    if not runs:
        raise ValueError("name at least one run folder")
    grouped = group(runs)
    labels = sorted({label for lines in grouped.values() for label in lines})
    colors_of = dict(zip(labels, _colors(len(labels))))
    panels = [name for name in _PANELS if _wanted(name, runs)]
    width, height = 4.2 * len(panels), 3.3 * len(grouped)
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(len(grouped), len(panels), squeeze=False)
    for row, (env, lines) in zip(axes, sorted(grouped.items())):
        for axis, column in zip(row, panels):
            limits: dict[float, set[str]] = {}
            for label in sorted(lines):
                color = colors_of[label]
                for limit in {_limit(run, column) for run in lines[label]} - {None}:
                    limits.setdefault(limit, set()).add(color)
                if (drawn := curve(lines[label], column)) is None:
                    continue
                name = label if drawn.seeds == 1 else f"{label} ({drawn.seeds} runs)"
                axis.plot(drawn.steps, drawn.mean, color=color, label=name)
                if drawn.seeds > 1:
                    axis.fill_between(
                        drawn.steps, drawn.mean - drawn.std, drawn.mean + drawn.std, color=color, alpha=0.2, lw=0
                    )
            for limit, colors in sorted(limits.items()):
                color = min(colors) if len(limits) > 1 and len(colors) == 1 else "black"
                axis.axhline(limit, color=color, ls="--", lw=1, label=f"limit {limit:g}")
            axis.set(title=env, xlabel="environment steps", ylabel=_PANELS[column])
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.grid(alpha=0.3)
            if column == "episode/success":
                axis.set_ylim(-0.03, 1.03)
            elif column != "episode/return":
                top = axis.get_ylim()[1]
                axis.set_ylim(-0.03 * top, 1.05 * top)
            if drawn_limits := [line for line in axis.lines if line.get_label().startswith("limit")]:
                axis.legend(handles=drawn_limits, fontsize="small")
    named = {
        line.get_label(): line for row in axes for line in row[0].lines if not line.get_label().startswith("limit")
    }
    if named:
        columns = max(1, min(len(named), 4, 40 * len(panels) // max(map(len, named))))
        fig.legend(handles=list(named.values()), loc="outside lower center", ncols=columns, fontsize="small")
        fig.set_size_inches(width, height + 0.2 * -(-len(named) // columns))  # the panels keep their size
    return fig


def _colors(count: int) -> list[str]:
    """Distinct colours: matplotlib's ten, or as many as are needed from around the colour circle."""
    if count <= 10:
        return [f"C{k}" for k in range(count)]
    shades = ((0.9, 0.8), (0.6, 0.95), (1.0, 0.5))
    return [to_hex(hsv_to_rgb((k / count, *shades[k % len(shades)]))) for k in range(count)]


def save(folders: Sequence[str | os.PathLike], output: str | os.PathLike) -> Path:
    """Draws runs into a file (png, pdf, svg).

    Raises:
      ValueError: For a folder without a run, a file type that cannot be drawn, or a file that cannot be written.
    """
    output = Path(output)
    drawn = figure(folders)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(output, dpi=150)
    except OSError as error:
        raise ValueError(f"cannot write {output}: {error}") from error
    return output


def _wanted(column: str, runs: Sequence[Run]) -> bool:
    episodic = any(_limit(run, "episode/cost") is not None for run in runs)
    if column == "episode/cost":
        return episodic
    if column == "episode/cost_rate":
        return not episodic or any(_limit(run, column) is not None for run in runs)
    if column == "episode/success":
        return any(np.nan_to_num(run.columns.get(column, np.zeros(1))).any() for run in runs)
    return True


def _limit(run: Run, column: str) -> float | None:
    """The last limit that a run reports in the unit of a panel; of several costs the sum, as the panel shows theirs."""
    if column not in _LIMITS:
        return None
    last = {name: float(values[-1]) for name, values in run.columns.items()}
    limits = dict(zip(_LIMITS, limits_of(last)))[column]
    return sum(limits) if limits and np.isfinite(limits).all() else None


def _option(options: dict[str, Any], name: str) -> Any:
    value: Any = options
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
