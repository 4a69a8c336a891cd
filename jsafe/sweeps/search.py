"""Search in place of a grid: values drawn at random, or suggested by Optuna from what the runs before them brought.

[search]
method = "optuna"                   # or "random"
trials = 40
seed = 0
batch = 4                           # optuna: trials of a round, side by side (default: workers)
metric = "episode/return"           # column of progress.csv, its last value; more is better
[search.space]
learning_rate = {low = 1e-5, high = 1e-3, log = true}
"rule.learning_rate" = {low = 0.01, high = 0.1}
"step.passes" = {low = 1, high = 40, integer = true}
gamma = [0.98, 0.99, 0.995]          # one of these

A trial is a point for all seeds of the file; it counts with the mean over them, and one whose mean cost is above its
limit comes after all that keep it. Trials and results are in SWEEP/search.json, so that the same command continues.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsafe import errors
from jsafe.curves import vocabulary
from jsafe.curves.csv_table import write_whole
from jsafe.runs.folder import RunError
from jsafe.sweeps import grid
from jsafe.sweeps.grid import Cell

_KEYS = ("method", "trials", "seed", "batch", "metric", "space")
_DIGITS = 4
"""Significant digits of a value: it is a part of a folder's name."""


class Axis(NamedTuple):
    """One axis of the space: a range, or choices."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()


class Search(NamedTuple):
    """What the table `search` of a sweep file says."""

    method: str
    trials: int
    seed: int
    batch: int | None
    metric: str
    space: dict[str, Axis]


class Trial(NamedTuple):
    """One point: its values, and how good it was (None: not known yet).

    Attributes:
      values: By option.
      result: Mean of the metric over the seeds; None before its runs have finished; NaN where they have failed.
      above: How far each mean cost is above its limit, negative where it keeps it.
    """

    values: dict[str, Any]
    result: float | None = None
    above: tuple[float, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether no cost is above its limit."""
        return all(value <= 0 for value in self.above)


def read(data: Mapping[str, Any]) -> Search | None:
    """The search that the contents of a sweep file ask for; None for a grid.

    Raises:
      ValueError: For a value that does not fit.
    """
    table = data.get("search")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ValueError(f"search must be a table, got {table!r}")
    for name in table:
        if name not in _KEYS:
            raise ValueError(errors.unknown("option of [search]", name, _KEYS))
    for name in ("algorithm", "env"):
        if isinstance(data.get(name), list) and len(data[name]) != 1:
            raise ValueError(f"a search is for one {name}, got {data[name]!r}")
    method, metric = table.get("method", "random"), table.get("metric", "episode/return")
    if method not in ("random", "optuna"):
        raise ValueError(errors.unknown("search.method", method, ("random", "optuna")))
    if not isinstance(metric, str):
        raise ValueError(f"search.metric must be a column of progress.csv, got {metric!r}")
    space = table.get("space")
    if not isinstance(space, dict) or not space:
        raise ValueError("search.space must be a table with a range or choices for each option")
    whole: dict[str, Any] = {"trials": 20, "seed": 0, "batch": None}
    whole |= {name: table[name] for name in whole if name in table}
    for name, low in {"trials": 1, "seed": 0, "batch": 1}.items():
        value = whole[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
            raise ValueError(f"search.{name} must be a whole number of at least {low}, got {value!r}")
    axes = {name: _axis(name, given) for name, given in _flat(space).items()}
    return Search(method, whole["trials"], whole["seed"], whole["batch"], metric, axes)


def _flat(space: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`rule.learning_rate` written as a table is an option, too."""
    found: dict[str, Any] = {}
    for name, value in space.items():
        inner = isinstance(value, dict) and "low" not in value and "high" not in value
        found |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def _axis(name: str, given: Any) -> Axis:
    if isinstance(given, list) and given:
        return Axis(choices=tuple(given))
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log", "integer"}:
        raise ValueError(f"search.space.{name} must be a list of choices or {{low, high, log, integer}}, got {given!r}")
    axis = Axis(**given)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (axis.low, axis.high))
    if not numbers or not axis.low < axis.high or (axis.log and axis.low <= 0):
        raise ValueError(f"search.space.{name}: low must be below high (and above 0 with log), got {given!r}")
    return axis


def draw(search: Search, number: int) -> dict[str, Any]:
    """The values of trial `number` at random, by the seed."""
    rng = np.random.default_rng([search.seed, number])
    values: dict[str, Any] = {}
    for name, axis in search.space.items():
        if axis.choices:
            values[name] = axis.choices[int(rng.integers(len(axis.choices)))]
        elif axis.integer:
            ends = np.log([axis.low, axis.high + 1]) if axis.log else np.array([axis.low, axis.high + 1])
            value = rng.uniform(*ends)
            values[name] = min(int(axis.high), int(math.exp(value) if axis.log else value))
        else:
            value = rng.uniform(*(np.log([axis.low, axis.high]) if axis.log else (axis.low, axis.high)))
            values[name] = rounded(math.exp(value) if axis.log else value, axis)
    return values


def rounded(value: float, axis: Axis) -> float:
    """With few digits, and inside the range."""
    return min(max(float(f"{value:.{_DIGITS}g}"), axis.low), axis.high)


def suggest(search: Search, trials: Sequence[Trial], count: int) -> list[dict[str, Any]]:
    """The values of the next trials, by Optuna, from those that are known.

    Raises:
      ValueError: If Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ValueError("optuna is not installed: pip install 'jsafe[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def distribution(axis: Axis) -> Any:
        if axis.choices:
            return optuna.distributions.CategoricalDistribution([json.dumps(choice) for choice in axis.choices])
        if axis.integer:
            return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)

    space = {name: distribution(axis) for name, axis in search.space.items()}
    # The sampler starts anew in each round: its seed counts the trials, so that a continued search suggests the same.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna 5 has another word for constraints, which 4 does not know
        sampler = optuna.samplers.TPESampler(
            seed=search.seed + len(trials), constant_liar=True, constraints_func=lambda trial: trial.user_attrs["above"]
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        if trial.result is None or not math.isfinite(trial.result):
            continue
        params = {
            name: json.dumps(value) if search.space[name].choices else value for name, value in trial.values.items()
        }
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=space,
                value=trial.result,
                user_attrs={"above": list(trial.above)},
                system_attrs={"constraints": list(trial.above)},
            )
        )

    def plain(axis: Axis, value: Any) -> Any:
        if axis.choices:
            return json.loads(value)
        return value if axis.integer else rounded(value, axis)

    asked = [study.ask(space).params for _ in range(count)]
    return [{name: plain(axis, params[name]) for name, axis in search.space.items()} for params in asked]


def cells_of(data: Mapping[str, Any], values: Mapping[str, Any]) -> list[Cell]:
    """The runs of a trial: the file with these values, all seeds."""
    plain = {name: value for name, value in data.items() if name != "search"}
    axes = {name: [value] for name, value in values.items()}  # a list: it is in the name of the folder
    (name,) = plain["algorithm"] if isinstance(plain.get("algorithm"), list) else (plain.get("algorithm"),)
    tables = plain.get("algorithms")
    if isinstance(tables, dict) and isinstance(tables.get(name), dict):  # what is searched counts before its own table
        return grid.expand({**plain, "algorithms": {**tables, name: {**tables[name], **axes}}})
    return grid.expand({**plain, **axes})


def run(
    data: Mapping[str, Any], folder: str | os.PathLike, sweep: Callable[[list[Cell]], Any], workers: int = 1
) -> tuple[Any, list[Trial]]:
    """Searches until all trials are done, or a session was interrupted.

    Args:
      data: The contents of a sweep file, with its table `search`.
      folder: Of the sweep.
      sweep: Trains the cells that it is given, all those so far (`jsafe.sweeps.session.run` with its other arguments).
      workers: Trials of a round, where the file does not say.

    Returns:
      The report of the last session, and the trials.

    Raises:
      ValueError: If the file asks for nothing that can be done, or the folder holds another search.
      RunError: If `search.json` cannot be read or written.
    """
    search = read(data)
    if search is None:
        raise ValueError("the file has no table [search]")
    path = Path(folder) / "search.json"
    trials, report = _load(path, search), None
    while True:
        new = [] if any(trial.result is None for trial in trials) else _next(search, trials, workers)
        if not new and report is not None:
            return report, trials
        trials += [Trial(values) for values in new]
        cells = [cells_of(data, trial.values) for trial in trials]
        Path(folder).mkdir(parents=True, exist_ok=True)
        _save(path, search, trials)
        report = sweep([cell for group in cells for cell in group])
        trials = [judge(search, trial, group, report.states, Path(folder)) for trial, group in zip(trials, cells)]
        _save(path, search, trials)
        if any(trial.result is None for trial in trials):  # interrupted
            return report, trials


def _next(search: Search, trials: Sequence[Trial], workers: int) -> list[dict[str, Any]]:
    """The values of the next round: none twice; none at all when the search, or the space, is at its end."""
    count = search.trials - len(trials)
    if count <= 0:
        return []
    if search.method == "random":
        found = [draw(search, number) for number in range(len(trials), search.trials)]
    else:
        found = suggest(search, trials, min(count, search.batch or workers))
    new: list[dict[str, Any]] = []
    for values in found:
        if values not in new and all(values != trial.values for trial in trials):
            new.append(values)
    return new


def judge(search: Search, trial: Trial, cells: Sequence[Cell], states: Mapping[str, str], folder: Path) -> Trial:
    """The trial with its result, if its runs have ended.

    Raises:
      ValueError: If the curves have no such metric.
    """
    from jsafe.curves.csv_table import read_progress

    ended = [states[cell.name] for cell in cells]
    if "failed" in ended:
        return trial._replace(result=math.nan)
    if set(ended) != {"finished"}:
        return trial
    results, above = [], []
    for cell in cells:
        columns = read_progress(folder / "runs" / cell.name / "progress.csv")
        if search.metric not in columns:
            raise ValueError(errors.unknown("search.metric", search.metric, sorted(columns)))
        told = columns[search.metric][np.isfinite(columns[search.metric])]
        results.append(float(told[-1]) if len(told) else math.nan)
        last = {name: float(values[-1]) for name, values in columns.items()}
        costs = vocabulary.costs(last, cell.run.cost_names)
        above.append([cost.measured - cost.bound for cost in costs if cost.kept is not None])
    means = tuple(statistics.fmean(each) for each in zip(*above))
    return trial._replace(result=statistics.fmean(results), above=means)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest result among those that keep their limits; None if there is none."""
    known = [trial for trial in trials if trial.result is not None and math.isfinite(trial.result) and trial.kept]
    return max(known, key=lambda trial: trial.result or 0.0, default=None)


def _load(path: Path, search: Search) -> list[Trial]:
    if not path.exists():
        return []
    try:
        stored = json.loads(path.read_text())
        space = stored["space"]
        trials = [Trial(each["values"], each["result"], tuple(each["above"])) for each in stored["trials"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if space != _plain(search):
        raise ValueError(f"{path} is of another search (method, seed, metric or space differ); name another --folder")
    return trials


def _save(path: Path, search: Search, trials: Sequence[Trial]) -> None:
    data = {"space": _plain(search), "trials": [trial._asdict() for trial in trials]}
    try:
        write_whole(path, json.dumps(data, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error


def _plain(search: Search) -> Any:
    """What must not change between sessions: all but the number of trials and of those side by side."""
    fixed = {name: value for name, value in search._asdict().items() if name not in ("trials", "batch", "space")}
    return json.loads(json.dumps({**fixed, "space": {name: axis._asdict() for name, axis in search.space.items()}}))
