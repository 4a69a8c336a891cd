"""`jsafe evaluate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jsafe.cli import parse
from jsafe.curves import screen
from jsafe.curves.csv_table import table_text, write_whole
from jsafe.curves.vocabulary import cost_name
from jsafe.options import Options, number
from jsafe.runs.compiled import keep_programs


@dataclasses.dataclass(frozen=True)
class Evaluate(Options):
    """Runs a trained policy on fresh episodes: that of a run (and writes RUN/evaluation.json), of a file, of the zoo.

    `--env.KEY VALUE` gives the environment's constructor an option, `--import MODULE` imports a module first.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FILE|zoo:NAME")]
    """Run folder, a file of `jsafe export`, or a policy of the zoo (`jsafe list policies`)."""
    episodes: int = number(100, low=1, high=10**7)
    """Number of whole episodes."""
    checkpoint: str | None = None
    """`best` (the highest return of the evaluations that kept the limit: `jsafe train --eval-interval`), or an
    iteration. By default the newest checkpoint of the run folder."""
    stochastic: bool = False
    """Sample actions as in training; by default the most likely ones are taken."""
    video: Path | None = None
    """Also write a video here, for example out.mp4."""
    video_episodes: int = number(1, low=1, high=10**4)
    """Episodes in the video."""
    camera: str | None = None
    """Camera of the video; the task's default one otherwise."""
    env: str | None = None
    """Evaluate on another task with the same observations and actions."""
    backend: Literal["host", "device"] | None = None
    """Where the environments run: `host`, the exact engine, or `device`, in the program; by default where the run was
    trained. On the other one, both are run and compared."""
    seed: int | None = number(None, low=0, high=2**32 - 1)
    """Seed of the environments; by default one that the training never used."""
    num_threads: int | None = number(None, low=1, high=4096)
    """Threads that step the environments."""
    csv: Path | None = None
    """Also write a row for each episode here: return, length, success, each cost by name."""
    scores: Literal["dsrl"] | None = None
    """Add scores of a benchmark: `dsrl`, its normalised return, and the cost as a multiple of the limit."""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status."""
    from jsafe.deploy import evaluation as of_file
    from jsafe.report import film, video
    from jsafe.runs import evaluation

    _, words = parse.take_imports(arguments)
    env_options, words = parse.take_env_options(words)
    given = parse.parse(Evaluate, words, "jsafe evaluate", ["--import"])
    file = parse.policy(given.run)
    checkpoint = parse.checkpoint(given.checkpoint, file)
    if file and given.stochastic:
        raise ValueError(f"--stochastic: {given.run} knows the most likely actions only; samples need the run folder")
    if given.video is not None:
        video.check_output(given.video)
    keep_programs()
    options: dict[str, Any] = {
        "episodes": given.episodes,
        "seed": given.seed,
        "num_threads": given.num_threads,
        "env": given.env,
        "env_options": env_options,
        "console": screen.console(),
    }
    if file:
        report = of_file.evaluate(given.run, **options)
    else:
        options |= {"deterministic": not given.stochastic, "backend": given.backend, "checkpoint": checkpoint}
        report = evaluation.evaluate(given.run, **options)
    scores = _scores(report, given.scores)
    mode = "most likely" if report["deterministic"] else "sampled"
    title = f"{report['algorithm']} on {report['env']}, {mode} actions (± standard error of the mean)"
    written = [] if file else [("file", str(evaluation.report_path(given.run, checkpoint)))]
    screen.console(stderr=False).print(screen.summary(title, [*rows(report), *compared(report), *scores, *written]))
    if given.csv is not None:
        write_csv(report, given.csv)
        print(f"episodes: {given.csv}")
    if given.video is not None:
        film.record(
            given.run,
            given.video,
            episodes=given.video_episodes,
            deterministic=not given.stochastic,
            seed=given.seed,
            camera=given.camera,
            env=report["env"],
            env_options=env_options,
            checkpoint=checkpoint,
        )
        print(f"video: {given.video}")
    return 0


def _scores(report: dict[str, Any], benchmark: str | None) -> list[tuple[str, str]]:
    """What to print of a benchmark's scores.

    Raises:
      ValueError: If it has none for the task, or there is no limit.
    """
    if benchmark is None:
        return []
    from jsafe.data.datasets import score

    if len(report["costs"]) != 1 or report["costs"][0].get("per") != "episode":
        raise ValueError("--scores dsrl is for a single cost with a limit per episode")
    cost = report["costs"][0]
    found = score(report["env"], report["return"]["mean"], cost["mean"], cost["limit"])
    return [
        ("DSRL: normalised return", f"{found.total_return:.3f}"),
        ("DSRL: cost / limit", f"{found.cost:.3f} ({'safe' if found.cost <= 1 else 'not safe'})"),
    ]


def write_csv(report: dict[str, Any], path: Path) -> None:
    """A row for each episode of an evaluation.

    Raises:
      OSError: If it cannot be written.
    """
    each, names = report["per_episode"], [cost["name"] for cost in report["costs"]]
    costs = [f"cost/{cost_name(i, names, len(names))}" if len(names) > 1 else "cost" for i in range(len(names))]
    episodes = zip(each["return"], each["length"], each["success"], each["cost"], strict=True)
    rows = ([i, *row[:2], int(row[2]), *row[3]] for i, row in enumerate(episodes))
    write_whole(path, table_text(["episode", "return", "length", "success", *costs], rows))


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What to print of an evaluation: return, length, success, and each cost against its limit."""
    unit = "updates" if report.get("offline") else "steps"
    pairs = [("trained for", f"{screen.count(report['env_steps'])} {unit}"), ("episodes", str(report["episodes"]))]
    for name in ("return", "length"):
        pairs.append((name, _mean(np.asarray(report["per_episode"][name], float))))
    pairs.append(("success", f"{report['success']:.3f}"))
    for i, cost in enumerate(report["costs"]):
        name = cost_name(i, [each["name"] for each in report["costs"]], len(report["costs"]))
        pairs.append((f"{name} per episode", _with_error(cost["mean"], cost["error"])))
        pairs.append((f"{name} per step", f"{cost['per_step']:.3g}"))
        pairs.append((f"{name}: 95th percentile, worst", f"{cost['p95']:.4g}, {cost['worst']:.4g}"))
        if "limit" in cost:
            measured = cost["mean"] if cost["per"] == "episode" else cost["per_step"]
            verdict = f"limit {cost['limit']:g}: {'kept' if cost['kept'] else 'broken'} ({measured:.3g})"
            pairs.append((f"{name} per {cost['per']}", verdict))
            pairs.append((f"episodes above the limit of {name}", f"{cost['above']:.1%}"))
    return pairs


def compared(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return and costs of the other backend beside those of the run's, with the differences in standard errors."""
    if "trained_on" not in report:
        return []
    there = report["trained_on"]
    both = f"{report['backend']} beside {there['backend']}"
    values = {"return": [np.asarray(each["per_episode"]["return"], float) for each in (report, there)]}
    for m in range(len(report["costs"])):
        name = cost_name(m, [each["name"] for each in report["costs"]], len(report["costs"]))
        values[f"{name} per episode"] = [
            np.asarray(each["per_episode"]["cost"], float)[:, m] for each in (report, there)
        ]
    pairs = []
    for name, (one, other) in values.items():
        error = np.sqrt(_squared_error(one) + _squared_error(other))
        difference = abs(one.mean() - other.mean())
        apart = 0.0 if difference == 0 else float(np.divide(difference, error))
        told = f": {apart:.1f} standard errors" if not np.isnan(apart) else ""
        pairs.append((f"{name}, {both}", f"{_mean(one)} and {_mean(other)}{told}"))
    return pairs


def _squared_error(values: np.ndarray) -> float:
    """Of the mean; nan for a single value."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else float("nan")


def _mean(values: np.ndarray) -> str:
    return _with_error(values.mean(), np.sqrt(_squared_error(values)))


def _with_error(mean: float, error: float | None) -> str:
    """A mean and its standard error, where there is one: a single episode has none."""
    return f"{mean:.4g}" if error is None or not np.isfinite(error) else f"{mean:.4g} ± {error:.2g}"
