"""Learning curves of runs: mean and spread over the seeds of each algorithm and preset, each cost with its limit."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jsafe import registry
from jsafe.curves import vocabulary
from jsafe.curves.csv_table import read_progress
from jsafe.curves.vocabulary import Unit
from jsafe.errors import unknown
from jsafe.options import completed, difference


class Run(NamedTuple):
    """One run folder: what was trained, and the columns of its progress.csv by the names of today."""

    folder: Path
    algorithm: str
    env: str
    seed: int
    preset: str | None
    options: dict[str, Any]
    columns: dict[str, np.ndarray]
    cost_names: tuple[str, ...] = ()
    offline: bool = False
    backend: str = "host"


class Curve(NamedTuple):
    """Mean and standard deviation over seeds at `steps`; all `[P]`. `std` is 0 for a single seed."""

    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    seeds: int


class View(NamedTuple):
    """How to draw.

    Attributes:
      x: `steps` of the environment, or `wall` time in hours.
      smooth: Environment steps over which values are averaged, looking back; 0: as they are.
      metrics: Columns to draw in the place of return and costs (`loss/*`, `cost/0/multiplier` ...).
      published: A csv file of published results (`read_published`), drawn as bands; rows of the algorithm `oracle` as
        a line, what is possible.
    """

    x: Literal["steps", "wall"] = "steps"
    smooth: float = 0.0
    metrics: tuple[str, ...] = ()
    published: Path | None = None

    @property
    def column(self) -> str:
        """What is on the horizontal axis."""
        return "env_steps" if self.x == "steps" else "time/wall_seconds"


AS_IS = View()
ORACLE = "oracle"
"""The algorithm of published results that is none: what a planner reaches that knows the task perfectly."""
TOLD = ("limit", "published", "possible")
"""How the labels of lines begin that are no run's."""

Published = dict[tuple[str, str], tuple[float, float, float, float]]
"""By task and algorithm: return, its standard deviation, cost per episode, its standard deviation."""


def read_published(path: str | os.PathLike) -> Published:
    """A csv file with the columns env, algorithm, return_mean, return_std, cost_mean, cost_std; an empty cell is NaN.

    Raises:
      ValueError: If it cannot be read, or lacks a column.
    """
    names = ("return_mean", "return_std", "cost_mean", "cost_std")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        found: Published = {}
        for row in rows:
            mean, std, cost, cost_std = (float(row[name] or "nan") for name in names)
            found[row["env"], row["algorithm"]] = mean, std, cost, cost_std
        return found
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError) as error:
        columns = ", ".join(("env", "algorithm", *names))
        raise ValueError(f"{path} must have the columns {columns}, with numbers: {error}") from error


class Panel(NamedTuple):
    """What one axis shows: a column (of each run its own name for it), a limit in the same unit.

    Attributes:
      label: Of the vertical axis.
      column: One for all runs, or None for a cost.
      cost: Name of a cost, or None.
      unit: Of the cost.
    """

    label: str
    column: str | None
    cost: str | None = None
    unit: Unit = "episode"

    def of(self, run: Run) -> str | None:
        """The column of a run; None if it has no such cost."""
        if self.column is not None:
            return self.column
        index = self._index(run)
        return None if index is None else vocabulary.measured_column(run.columns, index, self.unit)

    def limit(self, run: Run) -> float | None:
        """The last limit that a run reports in the unit of the panel."""
        index = self._index(run)
        values = None if index is None else run.columns.get(vocabulary.limit_column(index, self.unit))
        return None if values is None or not np.isfinite(values[-1]) else float(values[-1])

    def _index(self, run: Run) -> int | None:
        names = _cost_names(run)
        return names.index(self.cost) if self.cost in names else None


def load(folder: str | os.PathLike) -> Run:
    """Reads a run folder, of jsafe 0.1 too.

    Raises:
      ValueError: If it holds no run, or a run without rows.
    """
    folder = Path(folder)
    try:
        data = json.loads((folder / "config.json").read_text())
        columns = read_progress(folder / "progress.csv")
        if "env_steps" not in columns:
            raise ValueError(
                f"{folder} is not a run folder with a learning curve: progress.csv has no column env_steps"
            )
        name, about = data["algorithm"], data["run"]
        if _is_first_version(data):
            columns = _of_all_environments(columns, data["config"].get("num_envs", 1))
        names = tuple(map(str, data.get("cost_names", ())))
        options = _completed(name, data)
        offline = about.get("data") is not None
        preset, backend = about.get("preset"), about.get("backend", "host")
        return Run(folder, name, about["env"], about["seed"], preset, options, columns, names, offline, backend)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} is not a run folder with a learning curve: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder} is not a run folder with a learning curve: config.json: {error}") from error


def _is_first_version(data: dict[str, Any]) -> bool:
    return str(data.get("jsafe", "")).startswith("0.1.")


def _of_all_environments(columns: dict[str, np.ndarray], num_envs: int) -> dict[str, np.ndarray]:
    """Without the means over the first episodes to finish: those are the short ones, where a goal ends them."""
    early = np.cumsum(np.nan_to_num(columns.get("episode/count", np.full(1, np.inf)))) < num_envs
    means = [name for name in columns if name.startswith("episode/") and name != "episode/count"]
    return columns | {name: np.where(early, np.nan, columns[name]) for name in means}


def _completed(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """The options, with those that are younger than the run."""
    if _is_first_version(data):  # other names and another layout of options
        return data["config"]
    try:
        return completed(type(registry.get(name).config), data["config"])
    except ValueError:  # an algorithm that is not registered here
        return data["config"]


def group(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
    """Runs by task and by label; runs that differ in their seed only share one.

    The label is the algorithm's name, with the preset and the backend where its runs have several, and the options in
    which runs of one preset differ.
    """
    grouped: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        label = _label(run, [other for other in runs if other.algorithm == run.algorithm])
        grouped.setdefault(run.env, {}).setdefault(label, []).append(run)
    return grouped


def _label(run: Run, forms: Sequence[Run]) -> str:
    alike = [other for other in forms if other.preset == run.preset and _layout(other) == _layout(run)]
    differing = {line.split(":")[0] for other in alike for line in difference(alike[0].options, other.options)}
    shown = [run.preset] if run.preset and len({other.preset for other in forms}) > 1 else []
    shown += [run.backend] if len({other.backend for other in forms}) > 1 else []
    words = [name.rpartition(".")[2] for name in differing]
    for name, word in sorted(zip(differing, words)):
        shown.append(f"{word if words.count(word) == 1 else name}={_option(run.options, name)}")
    return f"{run.algorithm} ({', '.join(shown)})" if shown else run.algorithm


def _layout(run: Run) -> bool:
    """Whether the options of a run have parts: two layouts cannot be compared."""
    return any(isinstance(value, dict) and "kind" in value for value in run.options.values())


def _option(options: dict[str, Any], name: str) -> Any:
    value: Any = options
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value.get("kind", value) if isinstance(value, dict) else value


def curve(runs: Sequence[Run], column: str | Panel, view: View = AS_IS) -> Curve | None:
    """Mean and spread of a column over runs, on the steps that all of them cover; None where there is no number.

    Runs are interpolated linearly between their rows; rows without a number are left out, as are runs without the
    column. `steps` are seconds where the view has wall time on its axis.
    """
    lines = []
    for run in runs:
        name = column.of(run) if isinstance(column, Panel) else column
        values, across = run.columns.get(name or ""), run.columns.get(view.column)
        if values is None or across is None:
            continue
        good = np.isfinite(values) & np.isfinite(across)
        if good.any():
            values = smoothed(run.columns["env_steps"][good], values[good], view.smooth)
            lines.append((across[good], values))
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


def smoothed(steps: np.ndarray, values: np.ndarray, window: float) -> np.ndarray:
    """At each step the mean of the values in `(step - window, step]`; with a window of 0 the values themselves."""
    first = np.searchsorted(steps, steps - window, side="right")
    first = np.minimum(first, np.arange(len(steps)))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[1:] - sums[first]) / (np.arange(1, len(steps) + 1) - first) if window > 0 else values


def panels(runs: Sequence[Run], metrics: Sequence[str] = ()) -> list[Panel]:
    """What to draw of runs: return, success where there is any, and each cost in the unit of its limits.

    Args:
      runs: Of one task.
      metrics: Columns to draw instead; `*` stands for one word (`loss/*`).

    Raises:
      ValueError: For a metric that no run has; the message names the closest match.
    """
    if metrics:
        known = list(dict.fromkeys(name for run in runs for name in run.columns))
        chosen: list[str] = []
        for metric in metrics:
            pattern = re.escape(metric).replace(r"\*", "[^/]+")
            if not (names := [name for name in known if re.fullmatch(pattern, name)]):
                raise ValueError(unknown("metric", metric, known))
            chosen += names
        return [Panel(_metric_label(name), name) for name in dict.fromkeys(chosen)]
    found = [Panel(_axis_label("episode/return"), "episode/return")]
    if any(np.nan_to_num(run.columns.get("episode/success", np.zeros(1))).any() for run in runs):
        found.append(Panel(_axis_label("episode/success"), "episode/success"))
    for name in dict.fromkeys(name for run in runs for name in _cost_names(run)):
        units: dict[Unit, Panel] = {}
        for unit in ("episode", "step"):
            about = vocabulary.describe(f"cost/0/{'episodic' if unit == 'episode' else 'per_step'}")
            title = about.label if name == "cost" else f"{about.title} {name.removeprefix('cost ')} {about.unit}"
            units[unit] = Panel(f"{title} {_arrow(about.better)}".rstrip(), None, name, unit)
        limited = [panel for panel in units.values() if any(panel.limit(run) is not None for run in runs)]
        found += limited or [units["episode"]]
    return found


def _cost_names(run: Run) -> list[str]:
    count = vocabulary.num_costs(run.columns)
    return [vocabulary.cost_name(i, run.cost_names, count) for i in range(count)]


def _named(runs: Sequence[Run]) -> list[Run]:
    """The runs of jsafe 0.1, which did not write down what their costs are called, with the names that others give."""
    known = {(run.env, len(run.cost_names)): run.cost_names for run in runs}
    return [
        run if run.cost_names else run._replace(cost_names=known.get((run.env, len(_cost_names(run))), ()))
        for run in runs
    ]


def _axis_label(column: str) -> str:
    about = vocabulary.describe(column)
    return f"{about.label} {_arrow(about.better)}".rstrip()


def _metric_label(column: str) -> str:
    """Of a column that somebody has asked for: several may have one title."""
    return column if "/" in column and vocabulary.METRICS.get(column) is None else _axis_label(column)


def _arrow(better: int) -> str:
    return {1: "↑", -1: "↓"}.get(better, "")


def figure(folders: Sequence[str | os.PathLike], view: View = AS_IS) -> Figure:
    """Draws runs: one row of panels per task, one line per algorithm and preset, one standard deviation shaded.

    The panels are return, success, and each cost by name with its limits dashed. An arrow says which way is better.

    Raises:
      ValueError: For a folder without a run or without rows, a metric that no run has, or published results that cannot
        be read.
    """
    published = {} if view.published is None else read_published(view.published)
    runs = [load(folder) for folder in {Path(folder).resolve(): folder for folder in folders}.values()]  # each once
    if not runs:
        raise ValueError("name at least one run folder")
    grouped = group(_named(runs))
    labels = sorted({label for lines in grouped.values() for label in lines})
    colors_of = dict(zip(labels, _colors(len(labels))))
    shown = {
        env: panels([run for line in lines.values() for run in line], view.metrics) for env, lines in grouped.items()
    }
    across = max(map(len, shown.values()))
    width, height = 4.2 * across, 3.3 * len(grouped)
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(len(grouped), across, squeeze=False)
    for row, (env, lines) in zip(axes, sorted(grouped.items())):
        for axis, panel in zip(row, shown[env]):
            _draw(
                axis,
                panel,
                lines,
                colors_of,
                view,
                {name: row for (task, name), row in published.items() if task == env},
            )
            axis.set_title(env)
        for axis in row[len(shown[env]) :]:
            axis.remove()
    named = {line.get_label(): line for row in axes for line in row[0].lines if not line.get_label().startswith(TOLD)}
    if named:
        columns = max(1, min(len(named), 4, 40 * across // max(map(len, named))))
        fig.legend(handles=list(named.values()), loc="outside lower center", ncols=columns, fontsize="small")
        fig.set_size_inches(width, height + 0.2 * -(-len(named) // columns))  # the panels keep their size
    return fig


def _draw(
    axis: Axes,
    panel: Panel,
    lines: dict[str, list[Run]],
    colors_of: dict[str, str],
    view: View,
    published: dict[str, tuple[float, float, float, float]],
) -> None:
    limits: dict[float, set[str]] = {}
    for label in sorted(lines):
        color = colors_of[label]
        for limit in {limit for run in lines[label] if (limit := panel.limit(run)) is not None}:
            limits.setdefault(limit, set()).add(color)
        _draw_published(axis, panel, published.get(lines[label][0].algorithm), color)
        if (drawn := curve(lines[label], panel, view)) is None:
            continue
        if view.x == "wall":
            drawn = drawn._replace(steps=drawn.steps / 3600)
        name = label if drawn.seeds == 1 else f"{label} ({drawn.seeds} runs)"
        axis.plot(drawn.steps, drawn.mean, marker="o" if len(drawn.steps) == 1 else "", color=color, label=name)
        if drawn.seeds > 1:
            axis.fill_between(drawn.steps, drawn.mean - drawn.std, drawn.mean + drawn.std, color=color, alpha=0.2, lw=0)
    possible = published.get(ORACLE, (np.nan,))[0]
    if np.isfinite(possible) and panel.column == "episode/return":
        axis.axhline(possible, color="black", ls="-.", lw=1, label=f"possible {possible:g}")
    for limit, colors in sorted(limits.items()):
        color = min(colors) if len(limits) > 1 and len(colors) == 1 else "black"
        axis.axhline(limit, color=color, ls="--", lw=1, label=f"limit {limit:g}")
    offline = all(run.offline for runs in lines.values() for run in runs)
    title = "gradient updates" if offline else vocabulary.describe("env_steps").title
    axis.set(xlabel=title if view.x == "steps" else "wall time in hours", ylabel=panel.label)
    if view.x == "steps":
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.grid(alpha=0.3)
    if panel.column == "episode/success":
        axis.set_ylim(-0.03, 1.03)
    elif panel.cost is not None:
        top = axis.get_ylim()[1]
        axis.set_ylim(-0.03 * top, 1.05 * top)
    named = [line for line in axis.lines if str(line.get_label()).startswith(TOLD)]
    if named:
        axis.legend(handles=named, fontsize="small")


def _draw_published(axis: Axes, panel: Panel, row: tuple[float, float, float, float] | None, color: str) -> None:
    """A published mean, dotted, and one standard deviation around it as a band."""
    if row is None or not (panel.column == "episode/return" or (panel.cost is not None and panel.unit == "episode")):
        return
    mean, std = row[:2] if panel.column is not None else row[2:]
    if not np.isfinite(mean):
        return
    if np.isfinite(std):
        axis.axhspan(mean - std, mean + std, color=color, alpha=0.08, lw=0)
    axis.axhline(mean, color=color, ls=":", lw=1.2, label=f"published {mean:g}")


def _colors(count: int) -> list[str]:
    """Distinct colours: matplotlib's ten, or as many as are needed from around the colour circle."""
    if count <= 10:
        return [f"C{k}" for k in range(count)]
    shades = ((0.9, 0.8), (0.6, 0.95), (1.0, 0.5))
    colors = hsv_to_rgb([(k / count, *shades[k % len(shades)]) for k in range(count)])
    return [to_hex((red, green, blue)) for red, green, blue in colors]


def save(folders: Sequence[str | os.PathLike], output: str | os.PathLike, view: View = AS_IS) -> Path:
    """Draws runs into a file (png, pdf, svg); see `figure`.

    Raises:
      ValueError: For a folder without a run, a file type that cannot be drawn, or a file that cannot be written.
    """
    check_output(output)
    return write(figure(folders, view), output)


def check_output(output: str | os.PathLike) -> None:
    """Raises ValueError unless a figure can be drawn into a file of this name."""
    known = Figure().canvas.get_supported_filetypes()
    if Path(output).suffix[1:].lower() not in known:
        raise ValueError(f"output must end in one of {', '.join(sorted(known))}, got {str(output)!r}")


def write(drawn: Figure, output: str | os.PathLike) -> Path:
    """Draws a figure into a file, and makes its folder.

    Raises:
      ValueError: For a file type that cannot be drawn, or a file that cannot be written.
    """
    check_output(output)
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(output, dpi=150)
    except OSError as error:
        raise ValueError(f"cannot write {output}: {error.strerror or error}") from error
    return output
