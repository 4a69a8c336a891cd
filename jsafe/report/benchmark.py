"""A benchmark as data: its cells, what others published, what our runs scored; tables and pictures made from them.

    BENCHMARK/cells.csv          what can be rerun: a row is a cell
    BENCHMARK/published/*.csv    means and standard deviations of others
    BENCHMARK/results/scores.csv what our runs scored: a row is a run, evaluated with its most likely actions
    BENCHMARK/results/critics.csv what their critics say beside what happens: a row is a signal of a run

`jsafe reproduce` runs cells (`jsafe.sweeps.reproduce`); here is only what reads and shows.
"""

from __future__ import annotations

import csv
import fnmatch
import math
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import Figure

from jsafe.curves import markdown as tables
from jsafe.curves.csv_table import read_csv
from jsafe.errors import unknown
from jsafe.report import statistics
from jsafe.report.plot import ORACLE
from jsafe.report.statistics import Interval


class Cell(NamedTuple):
    """What a row of cells.csv says: one algorithm with one set of options on one task, whatever the seed.

    Attributes:
      cell: Its name.
      family: `on_policy`, `off_policy` ..., to choose by.
      task: Id of the environment.
      algorithm: Its name.
      preset: Of the algorithm; empty for the defaults.
      options: Further options as TOML, `passes = 4, rule.kp = 0.1`.
      limit: Cost per episode, or None.
      steps: Environment steps of a run.
      backend: `host` or `device`.
    """

    cell: str
    family: str
    task: str
    algorithm: str
    preset: str
    options: str
    limit: float | None
    steps: int
    backend: str

    @property
    def method(self) -> str:
        """Algorithm, preset and options in a few words: what one line of a picture is."""
        about = ", ".join(filter(None, (self.preset, self.options)))
        return f"{self.algorithm} ({about})" if about else self.algorithm

    def given(self) -> dict[str, Any]:
        """The options, read."""
        return tomllib.loads(f"options = {{{self.options}}}")["options"]


class Published(NamedTuple):
    """What others report of an algorithm on a task; NaN where they say nothing.

    Attributes:
      env: Id of the task.
      algorithm: By our name.
      return_mean, return_std: Over `runs` runs.
      cost_mean, cost_std: Per episode.
      success: Share of episodes.
      cost_rate: Cost per step.
      runs: How many the deviations are over.
      source: Where it stands.
    """

    env: str
    algorithm: str
    return_mean: float
    return_std: float
    cost_mean: float
    cost_std: float
    success: float
    cost_rate: float
    runs: int
    source: str


class Score(NamedTuple):
    """What one run scored. Returns, costs and success are means over evaluation episodes with most likely actions.

    Attributes:
      cell: Name of its cell.
      seed: Of the run.
      backend: Where it was evaluated: `host`, the exact engine (`device` in results from before that was so).
      env_steps: That it was trained for.
      episode_return, episode_cost: Per episode; costs are summed over all kinds.
      cost_rate: Cost per step.
      success: Share of episodes.
      episodes: That were evaluated.
      training_return, training_cost: Of training episodes (sampled actions) in the last 5 % of the steps.
      minutes: Wall time of the training, with whatever else the machine did.
      version, commit, machine: Of the program that evaluated, and where.
    """

    cell: str
    seed: int
    backend: str
    env_steps: int
    episode_return: float
    episode_cost: float
    cost_rate: float
    success: float
    episodes: int
    training_return: float
    training_cost: float
    minutes: float
    version: str
    commit: str
    machine: str


class Critic(NamedTuple):
    """What the critics of one run say of one signal, and what happens (`jsafe.report.truth`): means over S states.

    Attributes:
      cell: Name of its cell.
      seed: Of the run.
      signal: `reward`, or the cost's name.
      states, rollouts: S, and branches of each.
      truth, estimate: Discounted sums: of the branches, and by the critic.
      noise: Standard error of one state's truth.
      rmse: Of the critic, without that noise.
      correlation, slope: Over states; of truth against estimate.
      unsafe: Share of states whose cost is more than the limit allows; NaN for the reward, and without a limit.
      missed, alarmed: Share of states that are so by truth alone, by the critic alone.
      version, commit: Of the program that asked.
    """

    cell: str
    seed: int
    signal: str
    states: int
    rollouts: int
    truth: float
    noise: float
    estimate: float
    rmse: float
    correlation: float
    slope: float
    unsafe: float
    missed: float
    alarmed: float
    version: str
    commit: str


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


Row = TypeVar("Row", Score, Critic)


# ---- files -----------------------------------------------------------------------------------------------------------


def read_cells(path: str | os.PathLike) -> list[Cell]:
    """The cells of a file.

    Raises:
      ValueError: If it cannot be read, a row lacks something or holds what does not fit, or two share a name.
    """
    cells: dict[str, Cell] = {}
    for line, row in enumerate(_read(path), start=2):
        try:
            values = {name: (row[name] or "").strip() for name in Cell._fields}
            limit = float(values["limit"]) if values["limit"] else None
            steps = float(values["steps"])
            cell = Cell(**values | {"limit": limit, "steps": int(steps)})  # type: ignore[arg-type]
            cell.given()
        except KeyError as error:
            raise ValueError(f"{path} must have the columns {', '.join(Cell._fields)}; there is no {error}") from None
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        if steps != cell.steps or steps < 1:
            raise ValueError(f"{path}, line {line}: steps must be a whole number of at least 1, got {values['steps']}")
        for name in ("cell", "task", "algorithm"):
            if not values[name]:
                raise ValueError(f"{path}, line {line}: {name} is empty")
        if cell.cell in cells:
            raise ValueError(f"{path}, line {line}: there is a cell {cell.cell!r} already")
        cells[cell.cell] = cell
    return list(cells.values())


def choose(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells whose name fits one of the patterns (`*` and `?` as in a shell), in the order of the file.

    Raises:
      ValueError: For a pattern that fits none; the message names the closest match.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(cell.cell, pattern) for cell in cells):
            raise ValueError(unknown("cell", pattern, [cell.cell for cell in cells]))
    return [cell for cell in cells if any(fnmatch.fnmatchcase(cell.cell, pattern) for pattern in patterns)]


def read_published(folder: str | os.PathLike) -> dict[tuple[str, str], Published]:
    """Published results by task and algorithm, from all csv files of a folder.

    Rows that are about a variant or a certain data set are for people: there may be several of one algorithm on one
    task.

    Raises:
      ValueError: If a file cannot be read or lacks a column, or a cell is no number.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.csv")):
        try:
            for row in _read(path):
                if row.get("data") or row.get("variant"):
                    continue
                low, high = (float(row.get(f"success_{side}") or "nan") for side in ("low", "high"))
                mean, std, cost, cost_std = (float(row.get(name) or "nan") for name in Published._fields[2:6])
                found[row["env"], row["algorithm"]] = Published(
                    env=row["env"],
                    algorithm=row["algorithm"],
                    return_mean=mean,
                    return_std=std,
                    cost_mean=cost,
                    cost_std=cost_std,
                    success=(low + high) / 2,
                    cost_rate=float(row.get("violations_per_1000_steps") or "nan") / 1000,
                    runs=int(row.get("runs") or 0),
                    source=row.get("source") or path.stem,
                )
        except KeyError as error:
            raise ValueError(f"{path} has no column {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return found


def read_rows(path: str | os.PathLike, kind: type[Row]) -> list[Row]:
    """Scores or critics that `write_rows` has written; none if there is no file.

    Raises:
      ValueError: If it cannot be read, lacks a column, or holds what is no number.
    """
    if not Path(path).exists():
        return []
    kinds = typing.get_type_hints(kind)
    try:
        return [kind(**{name: read(row[name]) for name, read in kinds.items()}) for row in _read(path)]
    except KeyError as error:
        raise ValueError(f"{path} has no column {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def write_rows(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """Writes scores or critics, by cell and seed, exactly: the same run compared with itself shows no difference.

    Raises:
      OSError: If it cannot be written.
    """
    if rows:
        _write([row._asdict() for row in sorted(rows, key=_run)], rows[0]._fields, path, "")


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Both; the new rows of a run in the place of its old ones."""
    new = list(new)
    again = {_run(row) for row in new}
    return [row for row in old if _run(row) not in again] + new


def best(scores: Iterable[Score], limit: float | None) -> Score:
    """The run that keeps the limit with the highest return; where none keeps it, the one with the lowest cost.

    Raises:
      ValueError: If there are no scores.
    """
    bound = math.inf if limit is None else limit
    return max(
        scores,
        key=lambda s: (s.episode_cost <= bound, s.episode_return if s.episode_cost <= bound else -s.episode_cost),
    )


def _run(row: Score | Critic) -> tuple[str, int]:
    return row.cell, row.seed


def _read(path: str | os.PathLike) -> list[dict[str, str]]:
    try:
        return read_csv(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def _write(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: str | os.PathLike, form: str = ".6g"
) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([format(row[c], form) if isinstance(row[c], float) else row[c] for c in columns])


# ---- comparisons -----------------------------------------------------------------------------------------------------


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
      the bounds of the bootstrap interval (`return_low` ...; NaN for a single run); `kept`, whether the cost is within
      the limit ("" without one); `oracle`, what is possible within a limit (NaN where nobody has looked); the
      published numbers; ours less the published one (`return_gap` and its Welch bounds) and the `verdict` on it, the
      same for costs.
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
        row["kept"] = "" if cell.limit is None else "yes" if row["cost"] <= cell.limit else "no"
        row["oracle"] = published[cell.task, ORACLE].return_mean if (cell.task, ORACLE) in published else math.nan
        other = published.get((cell.task, cell.algorithm))
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
    heads = ["method", "runs", "steps", "return", "success", "cost", "limit", "kept", "possible"]
    heads += ["published", "return, ours less theirs", "cost, ours less theirs"]
    heads = ["task", *heads] if task else heads
    lines = []
    for row in rows:
        cell = Cell(*(row[name] for name in Cell._fields))
        limit = "-" if row["limit"] == "" else f"{row['limit']:g}"
        line = [f"`{cell.method}`", str(row["runs"]), f"{row['steps'] / 1e6:g} M"]
        line += [_interval(row, "return"), f"{row['success']:.2f}", _interval(row, "cost"), limit, row["kept"] or "-"]
        line.append(f"{row['oracle']:.1f}" if math.isfinite(row["oracle"]) else "-")
        if math.isfinite(row["published_return"]):
            theirs = [f"{row[f'published_{n}']:.4g} ± {row[f'published_{n}_std']:.2g}" for n in ("return", "cost")]
            line.append(" at ".join(theirs))
            line += [f"{_interval(row, f'{n}_gap')}: {row[f'{n}_verdict']}" for n in ("return", "cost")]
        elif math.isfinite(row["published_success"]):
            rate = 1000 * row["published_cost_rate"]
            line += [f"success {row['published_success']:.2f} at {rate:.2g} per 1000 steps", "-", "-"]
        else:
            line += ["-", "-", "-"]
        lines.append([row["task"], *line] if task else line)
    return tables.table(heads, lines)


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
    _write(rows, list(rows[0]), paths[0])
    paths[1].write_text(heading + markdown(rows))
    return paths


# ---- pictures --------------------------------------------------------------------------------------------------------


def pareto(rows: Sequence[Mapping[str, Any]], published: Mapping[tuple[str, str], Published]) -> Figure:
    """Return over cost, a panel per task: a line joins the limits of one method and length, a dot is a cell with its
    interval.

    Dashed: limits. Grey steps: the front, the cells that no other one beats in return and cost at once. Hollow: what
    others published. Star: what a planner reaches that knows the task perfectly.

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
    fig = Figure(figsize=(5.5 * across, 4.2 * down + 0.25 * -(-len(methods) // (2 * across))), layout="constrained")
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
                label=method,
            )
            other = published.get((task, line[0]["algorithm"]))
            if other is not None and math.isfinite(other.return_mean + other.cost_mean):
                axis.plot(other.cost_mean, other.return_mean, marks[method], color=colors[method], mfc="none")
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
    fig.legend(handles=list(handles.values()), loc="outside lower center", ncols=2 * across, fontsize="small")
    return fig


def _line(row: Mapping[str, Any]) -> str:
    return f"{Cell(*(row[name] for name in Cell._fields)).method}, {row['steps'] / 1e6:g} M"


def _whiskers(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Distances down and up `[2, n]` from the estimates to the bounds; zero where there are none."""
    pairs = [[row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name]] for row in rows]
    return np.maximum(np.nan_to_num(np.array(pairs).T), 0.0)
