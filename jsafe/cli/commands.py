"""The command line: `jsafe train | sweep | evaluate | play | plot | list`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from jsafe import errors, registry
from jsafe.runs.config import RunConfig
from jsafe.scale.processes import JobConfig, LostProcessError, Team, connect

USAGE = """usage: jsafe COMMAND ...

  jsafe train NAME --env ID [options]   train an algorithm on a task
  jsafe train --resume RUN              continue a run exactly where it was saved
  jsafe sweep FILE [options]            train a grid of runs, several at a time; one table and one plot
  jsafe evaluate RUN [options]          run the trained policy, write evaluation.json (and a video)
  jsafe play ID [options]               film a task: a run's policy, or random actions
  jsafe plot RUN... [-o curves.png]     draw learning curves: mean and spread over seeds, cost limits
  jsafe list                            algorithms with their papers, tasks

`jsafe train NAME --help` lists the options of an algorithm. Exit status: 0 when done, 1 after a failure,
2 for wrong arguments, 130 or 143 when a signal ended the run (which is then saved and can be resumed)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "sweep": _sweep,
        "evaluate": _evaluate,
        "play": _play,
        "plot": _plot,
        "list": _list,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        import jsafe

        print(jsafe.__version__)
        return 0
    if name not in commands:
        return _fail(errors.unknown("command", name, commands))
    from jsafe.runs.checkpoint import CheckpointError
    from jsafe.runs.folder import RunError

    try:
        status = commands[name](rest)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of our output, `head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ValueError as error:
        return _fail(str(error))
    except (RunError, CheckpointError) as error:
        return _fail(str(error), 1)


def _fail(message: str, status: int = 2) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _parse(kind: Any, arguments: list[str], prog: str, **options: Any) -> Any:
    """tyro, with whole numbers also in the form 5e6."""
    numbers = tyro.constructors.ConstructorRegistry()
    numbers.primitive_rule(_whole_numbers)
    return tyro.cli(kind, args=arguments, prog=prog, registry=numbers, **options)


def _whole_numbers(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    if info.type is not int:
        return None

    def parse(words: list[str]) -> int:
        try:
            return int(words[0])
        except ValueError:
            value = float(words[0])
            if value != int(value):
                raise ValueError(f"{words[0]} is not a whole number") from None
            return int(value)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


@dataclasses.dataclass(frozen=True)
class _Resume:
    """Continues a run exactly where it was saved."""

    resume: Path
    """Run folder."""
    total_steps: int | None = None
    """Train up to this many environment steps instead of the number the run was started with."""
    num_threads: int | None = None
    """Threads that step the environments. Results do not depend on it."""
    job: Annotated[JobConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=JobConfig)


@dataclasses.dataclass(frozen=True)
class _Many:
    """Several runs in one program."""

    seeds: int = 1
    """Number of runs, with the seeds SEED, SEED + 1 ..., side by side in one program."""
    cost_limits: str | None = None
    """Cost limits to train for, side by side: 10,25,50. In the unit of the algorithm's own option."""

    def __post_init__(self):
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if len(set(self.limits())) < len(self.limits()):
            raise ValueError(f"cost_limits names a limit twice: {self.cost_limits}")

    def limits(self) -> list[float]:
        """The numbers of `cost_limits`; none if there are none."""
        try:
            return [float(word) for word in self.cost_limits.split(",")] if self.cost_limits else []
        except ValueError:
            raise ValueError(f"cost_limits must be numbers separated by commas, got {self.cost_limits!r}") from None


def _train(arguments: list[str]) -> int:
    from jsafe.runs.folder import RunError, start

    if any(word == "--resume" or word.startswith("--resume=") for word in arguments):
        given = _parse(_Resume, arguments, "jsafe train")
        _use_compilation_cache()
        options = {"total_steps": given.total_steps, "num_threads": given.num_threads}
        return _run(given.resume, connect(given.job), options)
    if not arguments or arguments[0].startswith("-"):
        print("usage: jsafe train NAME --env ID [options], or jsafe train --resume RUN")
        print(f"NAME is one of: {', '.join(registry.names())}. `jsafe train NAME --help` lists its options.")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    name, *rest = arguments
    algorithm = registry.get(name)
    config, options, folder, job, many = _train_options(algorithm, rest)
    _use_compilation_cache()
    if config.depth and (many != _Many() or job.distributed):
        raise ValueError("--depth 1 is for a run by itself, without --seeds, --cost-limits and --distributed")
    if many != _Many():
        if job.distributed:
            raise ValueError("--seeds and --cost-limits train in one process; leave --distributed out")
        return _train_many(algorithm, config, options, folder, many)
    team = connect(job)
    if team is None:
        return _run(start(config, name, options, folder or _default_folder(name, config)), None)
    problem = None
    if team.index == 0:
        try:
            folder = start(config, name, options, folder or _default_folder(name, config))
        except (ValueError, RunError) as error:
            problem = error
    folder, problem = team.gather((folder, problem))[0]
    if problem is not None:
        raise problem
    return _run(folder, team)


def _train_many(
    algorithm: registry.Algorithm, config: RunConfig, options: Any, folder: Path | None, many: _Many
) -> int:
    from jsafe.runs.folder import check_free, start
    from jsafe.runs.many import train_many

    names = [field.name for field in dataclasses.fields(options) if field.name.startswith("cost_limit")]
    limit = next((name for name in names if getattr(options, name) is not None), None)
    if many.limits() and (limit is None or not getattr(options, "constrained", True)):
        raise ValueError(f"--cost-limits: {algorithm.name} has no cost limit to keep")
    planned = []
    for value in many.limits() or [None]:
        chosen = options if value is None else dataclasses.replace(options, **{limit: value})
        for seed in range(config.seed, config.seed + many.seeds):
            name = f"s{seed}" if value is None else f"c{value:g}-s{seed}"
            where = _default_folder(algorithm.name, config, name) if folder is None else folder / name
            planned.append((dataclasses.replace(config, seed=seed), algorithm.name, chosen, where))
    for *_, where in planned:  # before the first one is made
        check_free(where)
    folders = [start(*plan) for plan in planned]
    outcomes = train_many(folders)
    table = Table(title="Summary", title_justify="left")
    for column in ("run folder", "ended", "return", "cost", "success"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        values = [outcome.values.get(f"episode/{name}", math.nan) for name in ("return", "cost", "success")]
        table.add_row(str(outcome.folder), outcome.status, *(f"{value:.4g}" for value in values))
    Console().print(table)
    for outcome in outcomes:
        if outcome.message:
            print(f"{outcome.folder}: {outcome.message}", file=sys.stderr)
    if any(outcome.status == "interrupted" for outcome in outcomes):
        return 128 + max(outcome.signal or 0 for outcome in outcomes)
    return 0 if all(outcome.status == "finished" for outcome in outcomes) else 1


def _sweep(arguments: list[str]) -> int:
    from jsafe.sweeps import session as sweep

    return sweep.main(_parse(sweep.Options, arguments, "jsafe sweep"))


def _run(folder: Path, team: Team | None, options: dict[str, Any] | None = None) -> int:
    from jsafe.runs.session import train

    try:
        outcome = train(folder, team=team, **(options or {}))
    except LostProcessError as error:
        _fail(str(error))
        sys.stdout.flush()
        os._exit(1)  # the usual way out would wait for the process that is gone
    return _report(outcome, quiet=team is not None and team.index > 0)


def _train_options(
    algorithm: registry.Algorithm, arguments: list[str]
) -> tuple[RunConfig, Any, Path | None, JobConfig, _Many]:
    """The run's and the algorithm's fields as one flat set of options; a preset moves the defaults."""
    preset = _peek(arguments, "--preset")
    defaults = registry.make_config(algorithm, preset)
    if preset in algorithm.total_steps and _peek(arguments, "--total-steps") is None:
        arguments = [*arguments, "--total-steps", str(algorithm.total_steps[preset])]
    shared = {field.name for kind in (RunConfig, JobConfig, _Many) for field in dataclasses.fields(kind)} | {"run_dir"}
    clash = shared & {field.name for field in dataclasses.fields(algorithm.config)}
    if clash:
        raise ValueError(f"{algorithm.name} has options that every run has too: {', '.join(sorted(clash))}")
    flat = tyro.conf.arg(name="")
    run_dir = tyro.conf.arg(help="Run folder (default: runs/ALGORITHM-ENV-sSEED, numbered where it exists).")
    kind = dataclasses.make_dataclass(
        "Options",
        [
            ("run", Annotated[RunConfig, flat]),
            ("run_dir", Annotated[Path | None, run_dir], None),
            ("config", Annotated[algorithm.config, flat], dataclasses.field(default=defaults)),
            ("job", Annotated[JobConfig, flat], JobConfig()),
            ("many", Annotated[_Many, flat], _Many()),
        ],
        frozen=True,
    )
    _check_options(arguments, kind, algorithm.name)
    description = f"{algorithm.summary} {algorithm.paper}. Presets: {', '.join(algorithm.presets) or 'none'}."
    given = _parse(kind, arguments, f"jsafe train {algorithm.name}", description=description)
    return given.run, given.config, given.run_dir, given.job, given.many


def _check_options(arguments: list[str], kind: type, name: str) -> None:
    """Names the closest option for an unknown one; tyro does so for few of them."""
    known = {"--help"}
    for field in dataclasses.fields(kind):
        hint = typing.get_args(field.type)[0]
        flat = dataclasses.is_dataclass(hint)
        known |= set(_flags(hint, "--") if flat else [f"--{field.name.replace('_', '-')}"])
    for word in arguments:
        option = word.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known:
            close = difflib.get_close_matches(option, sorted(known), n=1, cutoff=0.4)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise ValueError(f"unknown option {option}{hint} `jsafe train {name} --help` lists all")


def _flags(kind: type, prefix: str) -> list[str]:
    """The options that a config type becomes: dashes for underscores, dots for nesting."""
    hints, flags = typing.get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        flag = prefix + field.name.replace("_", "-")
        flags.append(flag)
        if hints[field.name] is bool:
            flags.append(f"{prefix}no-{flag.removeprefix(prefix)}")
        if dataclasses.is_dataclass(hints[field.name]):
            flags += _flags(hints[field.name], f"{flag}.")
    return flags


def _peek(arguments: list[str], option: str) -> str | None:
    value = None
    for i, word in enumerate(arguments):
        if word == option and i + 1 < len(arguments):
            value = arguments[i + 1]
        elif word.startswith(option + "="):
            value = word.partition("=")[2]
    return value


def _default_folder(name: str, config: RunConfig, suffix: str | None = None) -> Path:
    stem = Path("runs") / f"{name}-{config.env}-{suffix or f's{config.seed}'}"
    folder, number = stem, 1
    while folder.exists():
        number += 1
        folder = stem.with_name(f"{stem.name}-{number}")
    return folder


def _use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache folder."""
    import jax

    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jsafe" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _report(outcome: Any, quiet: bool = False) -> int:
    from jsafe.curves.logging import count, duration, headline, limits, summary

    values = outcome.values
    pairs = [("ended", outcome.status), ("environment steps", count(outcome.env_steps))]
    if values:
        pairs.append(("wall time", duration(values["time/wall_seconds"])))
        shown = {"return": "return", "success": "success", "cost": "cost per episode", "cost_rate": "cost per step"}
        pairs += [
            (f"{label} (last 100 episodes)", f"{values[f'episode/{name}']:.4g}")
            for name, label in shown.items()
            if math.isfinite(values.get(f"episode/{name}", math.nan))
        ]
        for unit, numbers in zip(("episode", "step"), limits(values)):
            if numbers:
                pairs.append((f"cost limit per {unit}", ", ".join(f"{number:.3g}" for number in numbers)))
        pairs += [pair for pair in headline(values) if pair[0] == "multiplier"]
    Console(quiet=quiet).print(summary("Summary", [*pairs, ("run folder", str(outcome.folder))]))
    if outcome.message and not quiet:
        print(outcome.message if outcome.status == "interrupted" else f"error: {outcome.message}", file=sys.stderr)
    if outcome.status == "interrupted":
        return 128 + outcome.signal
    return 0 if outcome.status == "finished" else 1


@dataclasses.dataclass(frozen=True)
class _EvaluateOptions:
    """Runs the trained policy on fresh episodes, and writes RUN/evaluation.json."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    episodes: int = 100
    """Number of whole episodes."""
    stochastic: bool = False
    """Sample actions as in training; by default the most likely ones are taken."""
    video: Path | None = None
    """Also write a video here, for example out.mp4."""
    video_episodes: int = 1
    """Episodes in the video."""
    camera: str | None = None
    """Camera of the video; the task's default one otherwise."""
    env: str | None = None
    """Evaluate on another task with the same observations and actions."""
    seed: int | None = None
    """Seed of the environments; by default one that the training never used."""
    num_threads: int | None = None
    """Threads that step the environments."""


def _evaluate(arguments: list[str]) -> int:
    from jsafe.curves.logging import count, summary
    from jsafe.report import film
    from jsafe.runs import evaluation

    given = _parse(_EvaluateOptions, arguments, "jsafe evaluate")
    _use_compilation_cache()
    report = evaluation.evaluate(
        given.run,
        episodes=given.episodes,
        deterministic=not given.stochastic,
        seed=given.seed,
        num_threads=given.num_threads,
        env=given.env,
        console=Console(stderr=True),
    )
    pairs = [("trained for", f"{count(report['env_steps'])} steps"), ("episodes", str(report["episodes"]))]
    for name in ("return", "cost", "length"):
        pairs.append((name, f"{report[name]['mean']:.4g} ± {report[name]['std']:.2g}"))
    pairs += [("success", f"{report['success']:.3f}"), ("cost rate (per step)", f"{report['cost_rate']:.3g}")]
    mode = "most likely" if report["deterministic"] else "sampled"
    pairs.append(("file", str(given.run / "evaluation.json")))
    Console().print(summary(f"{report['algorithm']} on {report['env']}, {mode} actions (± over episodes)", pairs))
    if given.video is not None:
        film.record(
            given.run,
            given.video,
            episodes=given.video_episodes,
            deterministic=not given.stochastic,
            seed=given.seed,
            camera=given.camera,
        )
        print(f"video: {given.video}")
    return 0


@dataclasses.dataclass(frozen=True)
class _PlayOptions:
    """Writes a video of a task in real time, with what the robot's lidars see and its costs drawn in."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")]
    """The task, for example SafetyPointGoal1-v0."""
    policy: str = "random"
    """Run folder, for the policy of its newest checkpoint; or `random`."""
    video: Path | None = None
    """File to write (default: ID.mp4)."""
    episodes: int = 1
    """Number of episodes."""
    steps: int | None = None
    """End after so many steps at the latest."""
    stochastic: bool = False
    """Sample actions as in training; by default the most likely ones are taken."""
    seed: int | None = None
    """Seed of the environment; by default one that the training never used (random: 0)."""
    camera: str | None = None
    """track (follows the robot), vision (on the robot), fixednear, fixedfar or free."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""


def _play(arguments: list[str]) -> int:
    from jsafe.report import film

    given = _parse(_PlayOptions, arguments, "jsafe play")
    _use_compilation_cache()
    output = given.video or Path(f"{given.env.replace(':', '-').replace('/', '-')}.mp4")
    options = dataclasses.asdict(given)
    deterministic = not options.pop("stochastic")
    for name in ("env", "video"):
        del options[name]
    made = film.play(given.env, output, deterministic=deterministic, console=Console(stderr=True), **options)
    for number, episode in enumerate(made.episodes, 1):
        totals = f"return {episode['return']:.4g}, cost {episode['cost']:.4g}, {episode['length']} steps"
        print(f"episode {number}: {totals}")
    print(f"video: {made.path} ({made.frames} frames)")
    return 0


@dataclasses.dataclass(frozen=True)
class _PlotOptions:
    """Draws learning curves: one line per algorithm, mean and one standard deviation over its seeds, limits dashed."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("curves.png")
    """Picture to write (png, pdf, svg)."""


def _plot(arguments: list[str]) -> int:
    given = _parse(_PlotOptions, arguments, "jsafe plot")
    from jsafe.report import plot

    print(plot.save(given.runs, given.output))
    return 0


def _list(arguments: list[str]) -> int:
    if arguments:
        return _fail(f"jsafe list takes no options, got {' '.join(arguments)}")
    from jsafe import envs

    console = Console()
    table = Table(title="Algorithms", title_justify="left")
    for column in ("name", "family", "presets", "paper"):
        table.add_column(column)
    for name in registry.names():
        algorithm = registry.get(name)
        table.add_row(name, algorithm.family, ", ".join(algorithm.presets), algorithm.paper)
    console.print(table)
    console.print("Tasks")
    for env in envs.list_ids():
        console.print(f"  {env}", highlight=False)
    return 0
