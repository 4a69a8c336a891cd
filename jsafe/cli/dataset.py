"""`jsafe dataset record | info | filter | import | export | evaluate`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.errors import unknown
from jsafe.options import Options, number

USAGE = """usage: jsafe dataset COMMAND ...

  jsafe dataset record RUN... -o FILE --steps 1e5   record the policies of runs (RUN@ITERATION, or random) on their task
  jsafe dataset info FILE [--plot out.png]          what is in it; cost against return
  jsafe dataset filter FILE... -o FILE --safe 25    some of the episodes, of one file or of several
  jsafe dataset import FILE -o FILE --env ID        from OmniSafe's npz, DSRL's hdf5 or Minari's folders
  jsafe dataset export FILE -o FILE --format dsrl   the reverse
  jsafe dataset evaluate RUN FILE                   what a run's policy is worth, from the data alone

`jsafe dataset COMMAND --help` lists the options. Train on a file with `jsafe train NAME --data FILE`."""

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclasses.dataclass(frozen=True)
class Record(Options):
    """Records whole episodes of the policies of runs, with each constraint's cost and the states of the engine.

    `--env.KEY VALUE` gives the environment's constructor an option, `--import MODULE` imports a module first.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run folders: RUN for the newest checkpoint, RUN@ITERATION for another one, or `random`."""
    output: Output
    """File to write."""
    steps: int | None = number(None, low=1, high=10**10)
    """Steps of all policies together, at the least: every episode is a whole one."""
    episodes: int | None = number(None, low=1, high=10**8)
    """Episodes of each policy, in the place of steps."""
    shares: str | None = None
    """Share of each policy: .25,.75. Equal ones by default."""
    deterministic: bool = False
    """Take the most likely actions; by default they are sampled as in training."""
    env: str | None = None
    """The task; by default that of the first run."""
    seed: int = number(0, low=0, high=2**31 - 1)
    """Seed of environments and actions."""
    num_envs: int = number(16, low=1, high=10**5)
    """Environments side by side."""
    num_threads: int | None = number(None, low=1, high=4096)
    """Threads that step the environments."""
    half: bool = False
    """Store observations in float16."""


@dataclasses.dataclass(frozen=True)
class Info(Options):
    """What is in a data set, of any layout."""

    file: tyro.conf.Positional[Path]
    """The file, or a folder of Minari's."""
    format: Literal["native", "omnisafe", "dsrl", "minari"] | None = None
    """Its layout; by default what it looks like."""
    plot: Path | None = None
    """Draw cost against return here (png, pdf, svg)."""
    limits: str = "25"
    """Limits to draw: 20,40,80."""
    replay: int = number(0, low=0, high=10**8)
    """Do so many episodes over again in the engine, and compare them bit for bit."""
    json: bool = False
    """Print everything, for programs."""


@dataclasses.dataclass(frozen=True)
class Filter(Options):
    """Writes some of the episodes of one data set, or of several of the same task, in the order of the options here."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Data sets in our own layout."""
    output: Output
    """File to write."""
    safe: float | None = number(None, low=0)
    """Episodes whose cost is at most this."""
    risky: float | None = number(None, low=0)
    """Episodes whose cost is at least twice this."""
    boundary: float | None = number(None, low=0)
    """Episodes whose cost is between 1/2 and 3/2 of this."""
    frontier: bool = False
    """Episodes near the best return for their cost."""
    costs: str | None = None
    """Episodes whose cost is within LOW:HIGH."""
    returns: str | None = None
    """Episodes whose return is within LOW:HIGH."""
    finished: bool = False
    """Episodes that were recorded to their end."""
    grid: str | None = None
    """Thin on a grid of so many cells of cost x return: 10x8. See per-cell, at-least and target."""
    per_cell: int | None = number(None, low=1)
    """Episodes of each cell at most."""
    at_least: int = number(1, low=1)
    """Cells with fewer episodes are dropped."""
    target: int | None = number(None, low=1)
    """Episodes in the end: one of each cell, then of random ones."""
    episodes: int | None = number(None, low=1)
    """Number of episodes, drawn at random."""
    fraction: float = number(1.0, above=0, high=1)
    """Share of the episodes, drawn at random."""
    seed: int = number(0, low=0, high=2**31 - 1)
    """Of what is drawn."""


@dataclasses.dataclass(frozen=True)
class Import(Options):
    """Writes a data set of others in our own layout.

    `--env.KEY VALUE` gives the environment's constructor an option, `--import MODULE` imports a module first.
    """

    file: tyro.conf.Positional[Path]
    """The file; or Minari's folder, or the name of a data set there."""
    output: Output
    """File to write."""
    format: Literal["omnisafe", "dsrl", "minari"] | None = None
    """Its layout; by default what it looks like."""
    env: str | None = None
    """The task it was recorded on: names, sizes and horizon are taken from it. Without it they are made up from the
    numbers, and the horizon is the longest episode."""
    cost_key: str | None = None
    """Name of the cost (dsrl: costs; minari: cost, among the infos)."""
    clip: bool = False
    """Clip actions to their bounds, as the environment did."""


@dataclasses.dataclass(frozen=True)
class Export(Options):
    """Writes a data set in the layout of others."""

    file: tyro.conf.Positional[Path]
    """Data set in our own layout."""
    output: Output
    """File to write, or the folder for Minari (NAME-v0)."""
    format: Literal["omnisafe", "dsrl", "minari"]
    """The layout."""


@dataclasses.dataclass(frozen=True)
class EvaluateData(Options):
    """Fitted Q evaluation: what the policy of a run is worth, from the data alone, beside what is known of it."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    file: tyro.conf.Positional[Path]
    """Data set of the same task."""
    updates: int = number(100_000, low=1, high=10**9)
    """Gradient updates."""
    batch_size: int = number(256, low=1, high=10**7)
    """Transitions of each."""
    gamma: float = number(0.99, low=0, below=1)
    """Discount."""
    seed: int = number(0, low=0, high=2**31 - 1)
    """Of parameters and minibatches."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in _COMMANDS:
        raise ValueError(unknown("dataset command", name, _COMMANDS))
    imports, words = parse.take_imports(rest)
    env_options, words = parse.take_env_options(words) if name in ("record", "import") else ({}, words)
    kind, run = _COMMANDS[name]
    given = parse.parse(kind, words, f"jsafe dataset {name}", ["--import"])
    return run(given, env_options, imports)


def _record(given: Record, env_options: dict[str, Any], imports: tuple[str, ...]) -> int:
    from jsafe.data import datasets
    from jsafe.runs import recording
    from jsafe.runs.compiled import keep_programs

    _check_output(given.output)
    shares = None if given.shares is None else _numbers("shares", given.shares)
    keep_programs()
    episodes = recording.record(
        given.runs,
        steps=given.steps,
        episodes=given.episodes,
        shares=shares,
        deterministic=given.deterministic,
        env=given.env,
        env_options=env_options,
        imports=imports,
        seed=given.seed,
        num_envs=given.num_envs,
        num_threads=given.num_threads,
        half=given.half,
        console=screen.console(),
    )
    datasets.write(episodes, given.output)
    _show(episodes, given.output)
    return 0


def _info(given: Info, *_: Any) -> int:
    from jsafe.data import datasets
    from jsafe.report import dataset as report
    from jsafe.report.plot import check_output

    limits = _numbers("limits", given.limits)
    if given.plot is not None:
        check_output(given.plot)
    episodes = datasets.read(given.file, given.format)
    if given.json:
        print(json.dumps(report.describe(episodes), indent=1))
    else:
        _show(episodes, given.file)
    if given.plot is not None:
        report.save(episodes, given.plot, limits)
        print(f"picture: {given.plot}", file=screen.console(stderr=given.json).file)
    return _replay(episodes, given.replay) if given.replay else 0


def _replay(episodes: Any, count: int) -> int:
    import functools

    from jsafe import envs
    from jsafe.data.datasets.replay import differing

    about = episodes.about
    make_env = functools.partial(envs.make, about.env, 1, **dict(about.env_options))
    chosen = np.unique(np.linspace(0, len(episodes) - 1, min(count, len(episodes))).astype(int))
    bad = {int(i): line for i in chosen if (line := differing(episodes, make_env, int(i))) is not None}
    for i, line in bad.items():
        print(f"episode {i} differs when it is done over again: {line}")
    print(f"{len(chosen) - len(bad)} of {len(chosen)} episodes done over again are the same bit for bit")
    return 1 if bad else 0


def _filter(given: Filter, *_: Any) -> int:
    from jsafe.data import datasets
    from jsafe.data.datasets.select import between

    if not given.files:
        raise ValueError("name at least one data set: jsafe dataset filter FILE... -o FILE")
    _check_output(given.output, *given.files)
    ranges = {name: _range(name, getattr(given, name)) for name in ("costs", "returns")}
    cells = None if given.grid is None else _cells(given.grid)
    if cells is None and given.target is None and (given.per_cell is not None or given.at_least > 1):
        raise ValueError("per-cell and at-least are about the cells of a grid: give --grid, or --target")
    parts = [datasets.read(file) for file in given.files]
    episodes = parts[0] if len(parts) == 1 else datasets.concatenate(parts)
    before, rng = len(episodes), np.random.default_rng(given.seed)
    for name in ("safe", "risky", "boundary"):
        if (limit := getattr(given, name)) is not None:
            episodes = episodes.take(datasets.choose(episodes, name, limit))
    if given.frontier:
        episodes = episodes.take(datasets.frontier(episodes))
    for name, bounds in ranges.items():
        if bounds is not None:
            values = episodes.returns if name == "returns" else episodes.costs.max(axis=1)
            told = f"--{name} {getattr(given, name)}: theirs are {values.min():.4g} to {values.max():.4g}"
            episodes = _taken(episodes, between(values, *bounds), told)
    if given.finished:
        episodes = _taken(episodes, episodes.finished, "--finished: the recording of all was stopped")
    if cells is not None or given.target is not None:
        root = max(1, math.isqrt(given.target or len(episodes)))
        options = {"per_cell": given.per_cell, "at_least": given.at_least, "target": given.target}
        episodes = episodes.take(datasets.grid(episodes, cells or (root, root), rng, **options))  # type: ignore[arg-type]
    count = min(given.episodes or len(episodes), max(1, round(given.fraction * len(episodes))))
    if count < len(episodes):
        episodes = episodes.take(np.sort(rng.permutation(len(episodes))[:count]))
    datasets.write(episodes, given.output)
    print(f"{len(episodes)} of {before} episodes are kept")
    _show(episodes, given.output)
    return 0


def _taken(episodes: Any, mask: np.ndarray, told: str) -> Any:
    """The episodes in a mask; an error that says what has left none."""
    if not mask.any():
        raise ValueError(f"none of {len(episodes)} episodes is left by {told}")
    return episodes.take(mask)


def _import(given: Import, env_options: dict[str, Any], imports: tuple[str, ...]) -> int:
    from jsafe.data import datasets

    _check_output(given.output, given.file)
    about = None if given.env is None else _about(given.env, env_options, imports)
    options: dict[str, Any] = {} if given.cost_key is None else {"cost_key": given.cost_key}
    layout = given.format or datasets.layout_of(given.file)
    if layout == "native":
        given.file.stat()  # one that is not there looks like ours, too
        raise ValueError(f"{given.file} is in our own layout already")
    episodes = datasets.read(given.file, layout, about, clip=given.clip, **options)
    known = dataclasses.replace(episodes.about, source=layout)
    datasets.write(dataclasses.replace(episodes, about=known), given.output)
    _show(episodes, given.output)
    return 0


def _about(env: str, env_options: dict[str, Any], imports: tuple[str, ...]) -> Any:
    """What a task says about itself."""
    from jsafe.data.datasets import About
    from jsafe.runs.build import build_task
    from jsafe.runs.config import RunConfig

    task = build_task(RunConfig(env, env_options=tuple(env_options.items()), imports=imports))
    spec = task.spec
    return About(spec.obs, spec.action, spec.horizon, env, tuple(env_options.items()), task.cost_names)


def _export(given: Export, *_: Any) -> int:
    from jsafe.data import datasets

    _check_output(given.output, given.file, suffix=None)
    datasets.write(datasets.read(given.file, "native"), given.output, given.format)
    print(given.output)
    return 0


def _evaluate(given: EvaluateData, *_: Any) -> int:
    from jsafe.data import datasets
    from jsafe.runs import fitted
    from jsafe.runs.compiled import keep_programs

    parse.run_folder(given.run)
    episodes = datasets.read(given.file)
    keep_programs()
    progress = screen.Progress(screen.console(), given.updates, plain_seconds=10.0, unit="updates")
    try:
        found = fitted.evaluate(
            given.run,
            episodes,
            updates=given.updates,
            batch_size=given.batch_size,
            gamma=given.gamma,
            seed=given.seed,
            on_update=lambda count: progress.update(count, {}),
        )
    finally:
        progress.close()
    known = _true(given.run)
    rows = []
    for i, (J, per_episode) in enumerate(zip(found.J_discounted, found.J_episodic)):
        name = "return" if not i else f"cost {i - 1}" if len(found.J_discounted) > 2 else "cost"
        true = f"; measured in the environment {known[i]:.4g}" if i < len(known) else ""
        rows.append((f"{name} per episode", f"{per_episode:.4g} (discounted {J:.4g}){true}"))
    title = f"{given.run} on {given.file}, fitted Q evaluation, discount {given.gamma:g}"
    screen.console(stderr=False).print(screen.summary(title, rows))
    return 0


def _true(run: Path) -> list[float]:
    """Return and costs of the run's last evaluation in the environment, if there was one."""
    try:
        report = json.loads((run / "evaluation.json").read_text())
        return [report["return"]["mean"], *(cost["mean"] for cost in report["costs"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []


_COMMANDS: dict[str, Any] = {
    "record": (Record, _record),
    "info": (Info, _info),
    "filter": (Filter, _filter),
    "import": (Import, _import),
    "export": (Export, _export),
    "evaluate": (EvaluateData, _evaluate),
}
COMMANDS = {name: kind for name, (kind, _) in _COMMANDS.items()}
"""Options of each command, for the documentation."""


# ---- shown -----------------------------------------------------------------------------------------------------------


def _show(episodes: Any, path: Path) -> None:
    from jsafe.report.dataset import describe

    found = describe(episodes)
    unfinished = found["episodes"] - found["finished"]
    rows = [
        ("task", f"{found['env'] or 'unknown'}, up to {found['horizon']} steps"),
        ("episodes", f"{found['episodes']}" + (f", {unfinished} of them unfinished" if unfinished else "")),
        ("steps", f"{screen.count(found['steps'])} ({found['bytes'] / 2**20:.1f} MiB in memory)"),
        ("observations", "{shape} {dtype}, {low:.3g} to {high:.3g}".format(**found["obs"])),
        ("actions", "{shape}, {low:.3g} to {high:.3g}".format(**found["action"])),
    ]
    for name, quantiles in found["quantiles"].items():
        least, low, _, middle, _, high, most = quantiles.values()
        told = f"{least:.4g} to {most:.4g}, mean {found['mean'][name]:.4g}, median {middle:.4g}"
        rows.append((f"{name} per episode" if name != "length" else name, f"{told}, 10 % {low:.4g}, 90 % {high:.4g}"))
    within = ", ".join(f"{limit}: {share:.0%}" for limit, share in found["within"].items())
    rows.append(("within a limit of", within))
    for each in found["behaviours"]:
        who = each.get("run") or each.get("algorithm") or "somebody"
        mode = "most likely" if each.get("deterministic") else "sampled"
        at = f"@{each['iteration']}" if each.get("iteration") is not None else ""
        told = f"{each['episodes']} episodes, {mode} actions, return {each['return']:.4g}, cost {each['cost']:.4g}"
        rows.append((f"{who}{at}", told))
    if found["term_names"]:
        rows.append(("costs one by one", ", ".join(found["term_names"])))
    rows += [("sha256", found["sha256"]), ("file", str(path))]
    screen.console(stderr=False).print(screen.summary("Data set", rows))


# ---- words -----------------------------------------------------------------------------------------------------------


def _check_output(path: Path, *inputs: Path, suffix: str | None = ".npz") -> None:
    if suffix is not None and path.suffix != suffix:
        raise ValueError(f"output must end in {suffix}, got {str(path)!r}")
    if path.exists() and any(path.samefile(each) for each in inputs if each.exists()):
        raise ValueError(f"output must be another file than what is read, got {str(path)!r}")


def _numbers(name: str, text: str) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be numbers separated by commas, got {text!r}") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{name} must be finite, got {text!r}")
    return found


def _range(name: str, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (
            float(word) if word else default
            for word, default in zip(text.split(":"), (-math.inf, math.inf), strict=True)
        )
    except ValueError:
        raise ValueError(f"{name} must be LOW:HIGH, got {text!r}") from None
    if not low <= high:
        raise ValueError(f"{name} must be LOW:HIGH with LOW at most HIGH, got {text!r}")
    return low, high


def _cells(text: str) -> tuple[int, int]:
    try:
        one, other = (int(word) for word in text.lower().split("x"))
    except ValueError:
        raise ValueError(f"grid must be two whole numbers, as in 10x8, got {text!r}") from None
    return one, other
