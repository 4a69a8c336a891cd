"""Grids of runs from a small TOML file, and the table of what came out of them.

algorithm = ["ppo_lag", "cpo"]      # a list is an axis of the grid
env = "SafetyPointGoal1-v0"
seeds = 5                           # 0 ... 4; or a list: seed = [3, 7]
total_steps = 1e6                   # any option of `jsafe train`
cost_limit = [10.0, 25.0]
hidden = [[64, 64]]                 # one value that consists of several numbers

[cpo]                               # for one algorithm
target_kl = 0.02
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
import statistics
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsafe import errors, registry
from jsafe.curves import logging
from jsafe.options import check_fields
from jsafe.runs.build import make_learner
from jsafe.runs.config import RunConfig

_KEYS = ("algorithm", "env", "seed", "seeds")
_QUANTITIES = ("return", "cost", "cost_rate", "success")


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: Name of its folder: algorithm, task, the values on the axes, seed.
      group: The name without the seed: the runs of a group are averaged.
      algorithm: Name of the algorithm.
      config: Task, seed, number of steps ...
      options: Options of the algorithm.
      axes: The values on the axes.
      given: What the file says about this run; compared when the sweep is continued.
    """

    name: str
    group: str
    algorithm: str
    config: RunConfig
    options: Any
    axes: dict[str, Any]
    given: dict[str, Any]


def read(path: str | os.PathLike) -> list[Cell]:
    """The runs that a sweep file describes, checked.

    Raises:
      ValueError: If the file cannot be read, or for what `expand` rejects.
    """
    try:
        data = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"cannot read the sweep file {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    return expand(data)


def expand(data: Mapping[str, Any]) -> list[Cell]:
    """The runs of a sweep, all with the first seed first.

    Args:
      data: `algorithm` and `env` (a name, or a list of names), `seed` or `seeds`, options of runs and of algorithms. A
        list is an axis of the grid. A dictionary named like an algorithm holds options for that one alone.

    Raises:
      ValueError: For an unknown algorithm, task or option (with the closest match), a value that does not fit, an empty
        axis, or two runs with the same name.
    """
    tables = {name: value for name, value in data.items() if isinstance(value, dict)}
    shared = {name: value for name, value in data.items() if name not in tables}
    algorithms, envs = (_axis(name, shared.pop(name, None)) for name in ("algorithm", "env"))
    seeds = _seeds(shared.pop("seed", None), shared.pop("seeds", None))
    for name in algorithms:
        registry.get(name)
    for name, table in tables.items():
        if name not in algorithms:
            raise ValueError(errors.unknown("table", name, algorithms))
        if misplaced := [key for key in _KEYS if key in table]:
            raise ValueError(f"{misplaced[0]} belongs to the whole sweep, not into the table [{name}]")
    cells = []
    for seed, algorithm in itertools.product(seeds, algorithms):
        given = shared | tables.get(algorithm, {})
        _check_keys(given, algorithm, algorithms)
        hints = _fields(registry.get(algorithm).config) | _fields(RunConfig)
        axes = {name: _axis(name, values) for name, values in given.items() if _is_axis(values, hints[name])}
        for env, *values in itertools.product(envs, *axes.values()):
            point = dict(zip(axes, values))
            cells.append(_cell(algorithm, env, seed, given | point, point))
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in seen:
            raise ValueError(f"two runs would share the folder {cell.name}: {seen[cell.name].given} and {cell.given}")
        seen[cell.name] = cell
    for key in dict.fromkeys((cell.algorithm, cell.options, cell.config.env, cell.config.costs) for cell in cells):
        make_learner(*key)
    return cells


def _is_axis(values: Any, hint: Any) -> bool:
    """Whether a value of the file is a list of values: for an option that is a list itself, a list of lists."""
    if not isinstance(values, list):
        return False
    return typing.get_origin(hint) is not tuple or not values or any(isinstance(value, list) for value in values)


def _axis(name: str, values: Any) -> list[Any]:
    values = values if isinstance(values, list) else [values]
    if not values:
        raise ValueError(f"{name} is an empty list; an axis needs at least one value")
    if name in ("algorithm", "env"):
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"{name} must be a name or a list of names, got {value!r}")
    return values


def _seeds(seed: Any, count: Any) -> list[int]:
    if count is None:
        return _axis("seed", 0 if seed is None else seed)
    if isinstance(seed, list):
        raise ValueError("give a list of seeds (seed = [0, 1]) or their number (seeds = 2), not both")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"seeds must be a whole number of at least 1, got {count!r}")
    return list(range(seed or 0, (seed or 0) + count))


def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check_keys(given: Mapping[str, Any], algorithm: str, algorithms: Sequence[str]) -> None:
    known = {name: {*_fields(registry.get(name).config), *_fields(RunConfig)} for name in algorithms}
    for key in given:
        if key in known[algorithm]:
            continue
        if having := [name for name in algorithms if key in known[name]]:
            raise ValueError(f"{algorithm} has no option {key}; write it into the table [{having[0]}]")
        message = errors.unknown("option", key, sorted({*known[algorithm], *_KEYS})).partition(" Allowed")[0]
        raise ValueError(f"{message} `jsafe train {algorithm} --help` lists all")


def _cell(algorithm: str, env: str, seed: int, given: dict[str, Any], axes: dict[str, Any]) -> Cell:
    kind = registry.get(algorithm)
    hints = _fields(kind.config) | _fields(RunConfig)
    values = {"env": env, "seed": seed} | {name: _coerce(value, hints[name]) for name, value in given.items()}
    run = {name: value for name, value in values.items() if name in _fields(RunConfig)}
    preset = run.get("preset")
    if preset in kind.total_steps:
        run = {"total_steps": kind.total_steps[preset]} | run
    options = registry.make_config(kind, preset, **{name: value for name, value in values.items() if name not in run})
    config = RunConfig(**check_fields(RunConfig, "run", run))
    group = "-".join([_text(algorithm), _text(env), *(f"{name}={_text(value)}" for name, value in axes.items())])
    told = {"algorithm": algorithm, "env": env, "seed": seed, **given}
    return Cell(f"{group}-s{seed}", group, algorithm, config, options, axes, told)


def _coerce(value: Any, hint: Any) -> Any:
    """TOML has no None, and 1e6 is not a whole number there."""
    kinds = (hint, *typing.get_args(hint))
    if value == "none" and type(None) in kinds:
        return None
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return value


def _text(value: Any) -> str:
    """A value as a part of a file name."""
    if isinstance(value, list):
        return "x".join(map(_text, value))
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.+-]", "_", text)


def table(finished: Sequence[tuple[Cell, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each group of runs that differ in their seed only.

    Every run counts with the last row of its learning curve: means over its last 100 episodes.

    Args:
      finished: Runs, and the columns of their progress.csv.

    Returns:
      Rows with the same keys: `algorithm`, `env`, the axes, `runs` (their number), `env_steps` (of each), mean and
      standard deviation over the runs of `return`, `cost`, `cost_rate` and `success`, the limit in the unit in which
      the algorithm has it (of several costs the sum), and `within_limit`, the share of runs that keep to it. Empty
      where there is no such number.
    """
    groups: dict[str, list[tuple[Cell, dict[str, float]]]] = {}
    for cell, columns in finished:
        last = {name: float(values[-1]) for name, values in columns.items()}
        groups.setdefault(cell.group, []).append((cell, last))
    axes = list(dict.fromkeys(name for cell, _ in finished for name in cell.axes))
    return [_row(members, axes) for members in groups.values()]


def _row(members: Sequence[tuple[Cell, dict[str, float]]], axes: Sequence[str]) -> dict[str, Any]:
    cell, curves = members[0][0], [values for _, values in members]
    row: dict[str, Any] = {"algorithm": cell.algorithm, "env": cell.config.env}
    row |= {name: _text(cell.axes[name]) if name in cell.axes else "" for name in axes if name not in row}
    row |= {"runs": len(members), "env_steps": min(int(values["env_steps"]) for values in curves)}
    for name in _QUANTITIES:
        numbers = [values.get(f"episode/{name}", math.nan) for values in curves]
        numbers = [number for number in numbers if math.isfinite(number)]
        row[f"{name}_mean"] = statistics.fmean(numbers) if numbers else ""
        row[f"{name}_std"] = statistics.stdev(numbers) if len(numbers) > 1 else ""
    kept = []
    for unit, (name, quantity) in enumerate((("limit_per_episode", "cost"), ("limit_per_step", "cost_rate"))):
        limits = [sum(logging.limits(values)[unit]) for values in curves if logging.limits(values)[unit]]
        row[name] = statistics.fmean(limits) if limits else ""
        if limits:
            kept += [values.get(f"episode/{quantity}", math.nan) <= limit for values, limit in zip(curves, limits)]
    return row | {"within_limit": sum(kept) / len(kept) if kept else ""}


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
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in shown)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: Any, std: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} ± {std:.2g}" if isinstance(std, float) else text
