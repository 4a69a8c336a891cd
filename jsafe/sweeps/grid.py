"""Grids of runs from a small TOML file.

algorithm = ["ppo_lag", "cpo"]      # a list is an axis of the grid
env = "SafetyPointGoal1-v0"
seeds = 5                           # 0 ... 4; or a list: seed = [3, 7]
total_steps = 1e6                   # any option of `jsafe train`
cost_limit = [10.0, 25.0]
hidden = [[64, 64]]                 # one value that consists of several numbers

[algorithms.ppo_lag]                # for one algorithm
rule = {kind = "pid", kp = [0.1, 0.2]}
[algorithms.cpo]
target_kl = 0.02

[cluster]                           # for `jsafe sweep --on ray` or `--on slurm`
cpus = 2

A table `search` in the place of axes is for `jsafe.sweeps.search`.

An option of a part is `rule.kp`, or `kp` where no other part has one; a part is its kind, or a table with its `kind`
and options.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsafe import errors, registry
from jsafe.options import check_fields, elsewhere, paths, spellings, type_of
from jsafe.runs.build import Task, build_learner, build_task, check_data, load_modules
from jsafe.runs.config import RunConfig
from jsafe.runs.folder import Run

_KEYS = ("algorithm", "env", "seed", "seeds", "imports", "cluster")
_LONGEST_NAME = 200


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: Name of its folder: algorithm, task, the values on the axes, seed.
      group: The name without the seed: the runs of a group are averaged.
      run: What its folder says.
      axes: The values on the axes.
      given: What the file says about this run; compared when the sweep is continued.
    """

    name: str
    group: str
    run: Run
    axes: dict[str, Any]
    given: dict[str, Any]

    @property
    def algorithm(self) -> str:
        """Its name."""
        return self.run.algorithm

    @property
    def config(self) -> RunConfig:
        """Task, seed, number of steps ..."""
        return self.run.config

    @property
    def options(self) -> Any:
        """Options of the algorithm."""
        return self.run.options


def read(path: str | os.PathLike) -> list[Cell]:
    """The runs that a sweep file describes, checked.

    Raises:
      ValueError: If the file cannot be read, or for what `expand` rejects.
    """
    return expand(load(path))


def cluster_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """The table `cluster` of a sweep file, which says nothing about what is trained.

    Raises:
      ValueError: If it is no table.
    """
    table = data.get("cluster", {})
    if not isinstance(table, dict):
        raise ValueError(f"cluster must be a table of options, got {table!r}")
    return table


def load(path: str | os.PathLike) -> dict[str, Any]:
    """The contents of a sweep file, unchecked.

    Raises:
      ValueError: If it cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"cannot read the sweep file {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error


def expand(data: Mapping[str, Any]) -> list[Cell]:
    """The runs of a sweep, all with the first seed first.

    Args:
      data: `algorithm` and `env` (a name, or a list of names), `seed` or `seeds`, options of runs and of algorithms. A
        list is an axis of the grid. `algorithms` holds a dictionary of options for each algorithm that has its own.

    Raises:
      ValueError: For an unknown algorithm, task or option (with the closest match), a value that does not fit, an empty
        axis, or two runs with the same name.
    """
    shared = dict(data)
    tables = shared.pop("algorithms", {})
    shared.pop("cluster", None)
    if "search" in shared:
        raise ValueError("[search] is not a grid: `jsafe sweep` and jsafe.sweeps.search.run know what to do with it")
    imports = shared.pop("imports", [])
    if not isinstance(imports, list) or not all(isinstance(name, str) for name in imports):
        raise ValueError(f"imports must be a list of modules, got {imports!r}")
    load_modules(tuple(imports))
    algorithms, envs = (_axis(name, shared.pop(name, None)) for name in ("algorithm", "env"))
    seeds = _seeds(shared.pop("seed", None), shared.pop("seeds", None))
    for name in algorithms:
        registry.get(name)
    _check_tables(tables, shared, algorithms)
    cells = []
    for seed, algorithm in itertools.product(seeds, algorithms):
        own = _flat(tables.get(algorithm, {}))
        for env in envs:
            for point, axes in _points(algorithm, algorithms, _flat(shared) | own, own):
                cells.append(_cell(algorithm, env, seed, tuple(imports), point, axes))
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in seen:
            raise ValueError(f"two runs would share the folder {cell.name}: {seen[cell.name].given} and {cell.given}")
        seen[cell.name] = cell
    return _checked(cells)


def _check_tables(tables: Any, shared: Mapping[str, Any], algorithms: Sequence[str]) -> None:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError("algorithms must hold a table for each algorithm: [algorithms.NAME]")
    for name, table in tables.items():
        if name not in algorithms:
            raise ValueError(errors.unknown("algorithm in [algorithms]", name, algorithms))
        if misplaced := [key for key in _KEYS if key in table]:
            raise ValueError(f"{misplaced[0]} belongs to the whole sweep, not into the table [algorithms.{name}]")
    for name, value in shared.items():
        if isinstance(value, dict) and name in registry.names():
            raise ValueError(f"write [algorithms.{name}] for the options of one algorithm, not [{name}]")


def _checked(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, their learners built once, with the names of their costs."""
    tasks: dict[Any, Task] = {}
    built = set()
    checked = []
    for cell in cells:
        where = (cell.config.env, cell.config.env_options, cell.config.costs, cell.config.data)
        if where not in tasks:
            tasks[where] = build_task(cell.config)
        if (cell.algorithm, cell.options, where) not in built:
            check_data(cell.config, cell.algorithm, build_learner(cell.run, task=tasks[where]), tasks[where])
            built.add((cell.algorithm, cell.options, where))
        checked.append(cell._replace(run=cell.run._replace(cost_names=tasks[where].cost_names)))
    return checked


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names; the `kind` of a part is the value of the part."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        full = prefix.rstrip(".") if name == "kind" and prefix else f"{prefix}{name}"
        found |= _flat(value, f"{full}.") if isinstance(value, dict) else {full: value}
    return found


def _points(
    algorithm: str, algorithms: Sequence[str], given: dict[str, Any], own: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every point of the grid with its values on the axes. Presets and parts come first: they decide what there is.

    What is in the algorithm's `own` table counts, also where the whole sweep has the same option by another name.
    """

    def choose(fixed: dict[str, Any], rest: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        chosen = {name: value for name, value in fixed.items() if name != "preset"}
        config = registry.make_config(registry.get(algorithm), fixed.get("preset"), **chosen)
        seams = {name for name, field in paths(config).items() if "seam" in field.metadata}
        for name in rest:
            if name == "preset" or name in seams:
                others = {key: value for key, value in rest.items() if key != name}
                for value in _axis(name, rest[name]):
                    yield from choose(fixed | {name: value}, others)
                return
        hidden = _hidden(config, rest, own)
        rest = {name: value for name, value in rest.items() if name not in hidden}
        _check_twice(config, rest, algorithm)
        hints = {name: _hint(name, config, algorithm, algorithms) for name in rest}
        lists = {name for name, value in given.items() if _is_axis(value, hints.get(name))}
        axes = {name: _axis(name, value) if name in lists else [value] for name, value in rest.items()}
        for values in itertools.product(*axes.values()):
            point = fixed | {name: _coerce(value, hints[name]) for name, value in zip(axes, values)}
            told = [name for name in given if name not in hidden]
            yield {name: point[name] for name in told}, {name: point[name] for name in told if name in lists}

    yield from choose({}, given)


def _hidden(config: Any, names: Iterable[str], own: Iterable[str]) -> set[str]:
    """Names of the whole sweep for nothing but options that the algorithm's own table names otherwise."""
    spelled = spellings(config)
    told = {target for name in own for target in spelled.get(name, ())}
    return {name for name in names if name not in own and name in spelled and told.issuperset(spelled[name])}


def _check_twice(config: Any, names: Iterable[str], algorithm: str) -> None:
    """Refuses two names for one option: of an axis the runs would all be alike."""
    spelled, seen = spellings(config), dict[str, str]()
    for name in names:
        targets = spelled.get(name, ())
        if len(targets) == 1 and (other := seen.setdefault(targets[0], name)) != name:
            raise ValueError(
                f"{other} and {name} are two names of one option of {algorithm}, {targets[0]}: leave one out"
            )


def _hint(name: str, config: Any, algorithm: str, algorithms: Sequence[str]) -> Any:
    run = _run_hints()
    if name in run:
        return run[name]
    if name.startswith("env_options."):
        return str
    if targets := spellings(config).get(name):
        return type_of(config, targets[0])
    having = [other for other in algorithms if other != algorithm and name in spellings(registry.get(other).config)]
    if having:
        raise ValueError(f"{algorithm} has no option {name}; write it into the table [algorithms.{having[0]}]")
    if told := elsewhere(config, name.rpartition(".")[2]):
        raise ValueError(f"option {name!r} of {algorithm} {told}")
    message = errors.unknown("option", name, sorted({*spellings(config), *run, *_KEYS})).partition(" Allowed")[0]
    raise ValueError(f"{message} `jsafe train {algorithm} --help` lists all")


def _run_hints() -> dict[str, Any]:
    hints = typing.get_type_hints(RunConfig)
    return {field.name: hints[field.name] for field in dataclasses.fields(RunConfig) if field.name != "env_options"}


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
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 10**6:
        raise ValueError(f"seeds must be a whole number of at least 1 and at most 1000000, got {count!r}")
    return list(range(seed or 0, (seed or 0) + count))


def _cell(
    algorithm: str, env: str, seed: int, imports: tuple[str, ...], point: dict[str, Any], axes: dict[str, Any]
) -> Cell:
    kind = registry.get(algorithm)
    run = {name: value for name, value in point.items() if name in _run_hints()}
    about_env = {name.removeprefix("env_options."): v for name, v in point.items() if name.startswith("env_options.")}
    changes = {name: v for name, v in point.items() if name not in run and not name.startswith("env_options.")}
    preset = run.get("preset")
    options = registry.make_config(kind, preset, **changes)
    if preset is not None and (steps := kind.presets[preset].total_steps) is not None:
        run = {"total_steps": steps} | run
    given = check_fields(RunConfig, "run", {"env": env, "seed": seed, "imports": imports, **run})
    config = RunConfig(**given, env_options=tuple(about_env.items()))
    group = "-".join([text_of(algorithm), text_of(env), *(f"{name}={text_of(value)}" for name, value in axes.items())])
    if len(group) > _LONGEST_NAME:
        group = f"{group[: _LONGEST_NAME - 9]}-{hashlib.sha256(group.encode()).hexdigest()[:8]}"
    told = {"algorithm": algorithm, "env": env, "seed": seed, **point}
    return Cell(f"{group}-s{seed}", group, Run(config, algorithm, options), axes, told)


def _coerce(value: Any, hint: Any) -> Any:
    """TOML has no None, and 1e6 is not a whole number there."""
    kinds = (hint, *typing.get_args(hint))
    if value == "none" and type(None) in kinds:
        return None
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return value


def text_of(value: Any) -> str:
    """A value as a part of a file name."""
    if isinstance(value, list):
        return "x".join(map(text_of, value))
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.+-]", "_", text)
