"""The rows of a benchmark's files, and how they are read and written."""

from __future__ import annotations

import csv
import fnmatch
import io
import math
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jsafe.curves.csv_table import table_text, write_whole
from jsafe.errors import unknown

_SEEDS = "seeds are told to `jsafe reproduce`"
_LONGEST_NAME = 200
_OWNED = {
    "algorithm": "it has a column",
    "env": "the column is task",
    "preset": "it has a column",
    "total_steps": "the column is steps",
    "backend": "it has a column",
    "seed": _SEEDS,
    "seeds": _SEEDS,
}
"""Options of a run that a cell says elsewhere, and where."""


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
        """Algorithm, preset and options (those of the task as `jsafe train` has them, `env.KEY`) in a few words: what
        one line of a picture is."""
        about = ", ".join(filter(None, (self.preset, self.options.replace("env_options.", "env."))))
        return f"{self.algorithm} ({about})" if about else self.algorithm

    def given(self) -> dict[str, Any]:
        """The options, read.

        Raises:
          ValueError: If they are no TOML, or hold what has a column of its own.
        """
        try:
            read = tomllib.loads(f"options = {{{self.options}}}")
        except tomllib.TOMLDecodeError:
            read = {}
        if list(read) != ["options"]:
            raise ValueError(f"options must be TOML such as 'passes = 4, rule.kp = 0.1', got {self.options!r}")
        owned = _OWNED | ({} if self.limit is None else {"cost_limit": "the column is limit"})
        for name in read["options"]:
            if name in owned:
                raise ValueError(f"options must not hold {name}: {owned[name]}")
        return read["options"]


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
      limit: Cost per episode that was asked for.
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
    limit: float


_PUBLISHED = (*Published._fields[2:6], "success_low", "success_high", "violations_per_1000_steps", "limit")
"""Columns of published results that are numbers, or empty."""


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
      training_return, training_cost: Of training episodes (sampled actions) in the last 5 % of the steps; NaN where
        none ended, or there were none (data sets).
      minutes: Wall time of the training, with whatever else the machine did; of a run that shared its program
        (`together`), of all of them.
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


Row = TypeVar("Row", Score, Critic)


def read_cells(path: str | os.PathLike) -> list[Cell]:
    """The cells of a file, UTF-8 text.

    Raises:
      ValueError: If it cannot be read or has no cells, a row lacks something or holds what does not fit, or two share a
        name; the message names file, line and column.
    """
    cells: dict[str, Cell] = {}
    for line, row in _read(path, Cell._fields):
        try:
            cell = _cell(row)
            if cell.cell in cells:
                raise ValueError(f"there is a cell {cell.cell!r} already")
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        cells[cell.cell] = cell
    if not cells:
        raise ValueError(f"{path} has no cells: a row for each, under {', '.join(Cell._fields)}")
    return list(cells.values())


def _cell(row: Mapping[str, str]) -> Cell:
    values = {name: row[name].strip() for name in Cell._fields}
    for name in ("cell", "task", "algorithm"):
        if not values[name]:
            raise ValueError(f"{name} is empty")
    name = values["cell"]
    if name[0] in ".-" or not name.isprintable() or set(name) & {"/", "\\"} or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"cell must be a name for folders, at most {_LONGEST_NAME} bytes, no slash, neither point nor dash in "
            f"front, got {name!r}"
        )
    limit = _number(values["limit"]) if values["limit"] else None
    if limit is not None and not 0 <= limit < math.inf:
        raise ValueError(f"limit must be empty or a number of at least 0, got {values['limit']}")
    steps = _number(values["steps"])
    if not 1 <= steps < math.inf or steps != int(steps):
        raise ValueError(f"steps must be a whole number of at least 1, got {values['steps'] or 'nothing'}")
    cell = Cell(**values | {"limit": limit, "steps": int(steps)})  # type: ignore[arg-type]
    cell.given()
    return cell


def _number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def choose(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """The cells that are named, or whose name fits a pattern (`*` and `?` as in a shell), in the order of the file.

    Raises:
      ValueError: For a pattern that fits none; the message names the closest match.
    """

    def fits(cell: Cell, pattern: str) -> bool:
        return cell.cell == pattern or fnmatch.fnmatchcase(cell.cell, pattern)

    for pattern in patterns:
        if not any(fits(cell, pattern) for cell in cells):
            raise ValueError(unknown("cell", pattern, [cell.cell for cell in cells]))
    return [cell for cell in cells if any(fits(cell, pattern) for pattern in patterns)]


def read_published(folder: str | os.PathLike) -> dict[tuple[str, str], Published]:
    """Published results by task and algorithm, from all csv files of a folder.

    Rows that are about a variant or a certain data set are for people: there may be several of one algorithm on one
    task.

    Raises:
      ValueError: If a file cannot be read or lacks a column, a cell is no number, or a deviation is below 0.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.csv")):
        for line, row in _read(path, ("env", "algorithm")):
            if row.get("data") or row.get("variant"):
                continue
            try:
                numbers = {name: float(row.get(name) or "nan") for name in _PUBLISHED}
                runs = int(row.get("runs") or 0)
                for name in ("return_std", "cost_std"):
                    if numbers[name] < 0:
                        raise ValueError(f"{name} must be at least 0, got {row[name]}")
            except ValueError as error:
                raise ValueError(f"{path}, line {line}: {error}") from error
            found[row["env"], row["algorithm"]] = Published(
                env=row["env"],
                algorithm=row["algorithm"],
                **{name: numbers[name] for name in Published._fields[2:6]},
                success=(numbers["success_low"] + numbers["success_high"]) / 2,
                cost_rate=numbers["violations_per_1000_steps"] / 1000,
                runs=runs,
                source=row.get("source") or path.stem,
                limit=numbers["limit"],
            )
    return found


def read_rows(path: str | os.PathLike, kind: type[Row]) -> list[Row]:
    """Scores or critics that `write_rows` has written; none if there is no file.

    Raises:
      ValueError: If it cannot be read, lacks a column, or holds what is no number.
    """
    if not Path(path).exists():
        return []
    kinds = typing.get_type_hints(kind)
    rows = []
    for line, row in _read(path, kind._fields):
        try:
            rows.append(kind(**{name: read(row[name]) for name, read in kinds.items()}))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    return rows


def write_rows(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """Writes scores or critics, by cell and seed, exactly: the same run compared with itself shows no difference.

    Raises:
      OSError: If it cannot be written.
    """
    if rows:
        write_csv([row._asdict() for row in sorted(rows, key=_run)], rows[0]._fields, path, "")


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


def _read(path: str | os.PathLike, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows, each with its line, of a file that people may have written.

    Raises:
      ValueError: If it cannot be read, lacks a column or has one twice, or a row has more or fewer cells than columns.
    """
    try:
        text = Path(path).read_text("utf-8-sig")  # spreadsheets put a mark in front
        rows = csv.reader(io.StringIO(text, newline=""))
        names = [name.strip() for name in next(rows, [])]
        found = [(rows.line_num, row) for row in rows if row]
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no csv file in UTF-8: {error}") from error
    for name in columns:
        if names.count(name) != 1:
            how = "it is there twice" if name in names else "it is not there"
            raise ValueError(f"{path} must have the columns {', '.join(columns)}, but for {name}: {how}")
    for line, row in found:
        if len(row) != len(names):
            raise ValueError(
                f"{path}, line {line}: {len(row)} cells under {len(names)} columns; what holds a comma stands in quotes"
            )
    return [(line, dict(zip(names, row))) for line, row in found]


def write_csv(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: str | os.PathLike, form: str = ".6g"
) -> None:
    """Writes the columns of rows, numbers with a point in this form; "" is exact.

    Raises:
      OSError: If it cannot be written.
    """
    formed = ([format(row[c], form) if isinstance(row[c], float) else row[c] for c in columns] for row in rows)
    write_whole(Path(path), table_text(columns, formed))
