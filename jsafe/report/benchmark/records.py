"""The rows of a benchmark's files, and how they are read and written."""

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

from jsafe.curves.csv_table import read_csv
from jsafe.errors import unknown


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
                    limit=float(row.get("limit") or "nan"),
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


def _read(path: str | os.PathLike) -> list[dict[str, str]]:
    try:
        return read_csv(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def write_csv(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: str | os.PathLike, form: str = ".6g"
) -> None:
    """Writes the columns of rows, numbers with a point in this form; "" is exact.

    Raises:
      OSError: If it cannot be written.
    """
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([format(row[c], form) if isinstance(row[c], float) else row[c] for c in columns])
