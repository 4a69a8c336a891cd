"""What critics say beside what happens, over rollouts that are branched from the states that a policy visits."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jsafe.components.limits import limit_of
from jsafe.curves.csv_table import table_text, write_whole
from jsafe.curves.vocabulary import cost_name
from jsafe.data import coroutine as acting
from jsafe.runs import branching, evaluation
from jsafe.runs.build import build_env, on_host
from jsafe.runs.config import env_seed
from jsafe.runs.folder import RunError, read
from jsafe.types import Learner

REST = 0.01
"""Share of a discounted sum that may lie beyond the length of a branch."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Estimates of one signal beside the truth, over S states.

    Attributes:
      name: `reward`, or the cost's.
      states: S.
      truth, estimate: Means over states.
      bias: Mean of estimate minus truth.
      rmse: Root of its mean square, the noise of the truth taken off.
      noise: Standard error of the truth, root of its mean square.
      correlation: Between estimates and truth over states.
      slope: Of the least-squares line of truth against estimate; 1 for a calibrated critic.
    """

    name: str
    states: int
    truth: float
    estimate: float
    bias: float
    rmse: float
    noise: float
    correlation: float
    slope: float


def calibrate(name: str, estimate: np.ndarray, rollouts: np.ndarray) -> Calibration:
    """Compares estimates `[S]` with branches `[S, n]`, n at least 2."""
    truth, n = rollouts.mean(axis=1), rollouts.shape[1]
    variance = rollouts.var(axis=1, ddof=1) / n
    gap = estimate - truth
    flat = estimate.std() < 1e-12 or truth.std() < 1e-12
    covariance = np.mean((estimate - estimate.mean()) * (truth - truth.mean()))
    return Calibration(
        name=name,
        states=len(truth),
        truth=float(truth.mean()),
        estimate=float(estimate.mean()),
        bias=float(gap.mean()),
        rmse=float(math.sqrt(max(np.square(gap).mean() - variance.mean(), 0.0))),
        noise=float(math.sqrt(variance.mean())),
        correlation=math.nan if flat else float(covariance / (estimate.std() * truth.std())),
        slope=math.nan if flat else float(covariance / estimate.var()),
    )


class Verdict(NamedTuple):
    """How critics judge whether a state costs too much, as shares of all states.

    A state costs too much if its discounted cost is above what the limit allows in the critics' unit, as if costs came
    evenly: `limit / (horizon (1 - gamma))`, or `limit / (1 - gamma)` for a limit per step. Without a discount there is
    no end to the sum, and the steps of a branch stand for `1 / (1 - gamma)`.
    """

    name: str
    bound: float
    unsafe: float
    missed: float
    alarmed: float
    free: float


def judge(name: str, bound: float, estimate: np.ndarray, rollouts: np.ndarray, spent: np.ndarray) -> Verdict:
    """Shares of states: unsafe, unsafe by truth alone, by the critic alone, and those with a branch without any cost.

    Args:
      name: Of the cost.
      bound: In the critics' unit.
      estimate: `[S]`.
      rollouts: `[S, n]`, discounted.
      spent: `[S, n]`, undiscounted.
    """
    above, said = rollouts.mean(axis=1) > bound, estimate > bound
    return Verdict(
        name,
        bound,
        unsafe=float(above.mean()),
        missed=float((above & ~said).mean()),
        alarmed=float((said & ~above).mean()),
        free=float((spent.min(axis=1) <= 0).mean()),
    )


class Report(NamedTuple):
    """What `tell` found: one calibration per signal, one verdict per cost with a limit, and what they rest on."""

    algorithm: str
    env: str
    calibrations: list[Calibration]
    verdicts: list[Verdict]
    branches: branching.Branches
    places: np.ndarray
    length: int
    cost_names: tuple[str, ...]


def tell(
    folder: str | os.PathLike,
    *,
    states: int = 64,
    rollouts: int = 16,
    length: int | None = None,
    deterministic: bool = False,
    seed: int | None = None,
    num_threads: int | None = None,
    console: Console | None = None,
) -> Report:
    """Asks the critics of a run about states that its policy visits, and finds out; writes RUN/truth.csv.

    Args:
      folder: The run folder; its newest checkpoint is taken.
      states: Number of states S.
      rollouts: Branches per state n, at least 2.
      length: Steps of a branch; by default so many that the rest of a discounted sum is below 1 %, the horizon at most.
      deterministic: Take the most likely actions; critics know the values of sampled ones.
      seed: By default one that the training never used.
      num_threads: Threads that step the environments.
      console: Where to show progress.

    Raises:
      RunError: If there is no run, its critics cannot be asked, its task cannot be branched, or the file cannot be
        written.
      CheckpointError: If there is no readable checkpoint.
      ValueError: For a number that is too small.
    """
    for name, value, low in (("states", states, 2), ("rollouts", rollouts, 2), ("length", length or 1, 1)):
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    run = read(folder)
    learner, loaded = evaluation.restore(folder)
    if learner.estimate is None:
        raise RunError(f"the critics of {run.algorithm} cannot be asked about a state, with these options at least")
    seed = env_seed(run.config.seed, 1) if seed is None else seed
    env = build_env(on_host(run.config), min(64, states), seed, num_threads)
    with contextlib.ExitStack() as stack:
        stack.callback(env.close)
        branching.check_branches(env)
        evaluation.check_fit(env, learner.spec)
        length = length or min(env.spec.horizon, steps_until_rest(learner, loaded.state, env))
        n, horizon = env.num_envs, env.spec.horizon
        total = (horizon + -(-states * rollouts // n) * length) * n
        on_step = evaluation.show_progress(stack, console, total)
        keys = jax.random.split(jax.random.key(seed))
        policy_state = learner.policy(loaded.state)
        starts = branching.visited(env, learner, policy_state, states, keys[0], deterministic, on_step)
        after = None if on_step is None else lambda step: on_step(horizon * n + step)
        found = branching.cost_to_go(
            env, learner, loaded.state, starts, rollouts, length, keys[1], deterministic, on_step=after
        )
        names = tuple(cost_name(i, env.spec.cost_names, env.spec.num_costs) for i in range(env.spec.num_costs))
    estimate = found.estimate
    learnt = estimate.cost.shape[1]
    calibrations = [calibrate("reward", estimate.reward, found.reward)]
    calibrations += [calibrate(names[i], estimate.cost[:, i], found.cost[:, :, i]) for i in range(learnt)]
    verdicts = []
    limit = limit_of(run.options)
    if limit is not None:
        per_step = 1.0 if limit.per == "step" else 1.0 / horizon
        for i, most in zip(range(learnt), limit.values(len(names))):
            bound = evenly(most * per_step, float(estimate.cost_gamma), length)
            verdicts.append(judge(names[i], bound, estimate.cost[:, i], found.cost[:, :, i], found.spent[:, :, i]))
    places = np.array([place(start.engine) for start in starts])
    report = Report(run.algorithm, run.config.env, calibrations, verdicts, found, places, length, names)
    _write(Path(folder) / "truth.csv", report)
    return report


def evenly(cost: float, gamma: float, length: int) -> float:
    """Discounted sum of the same cost at each step: without an end, or of `length` steps where there is no discount."""
    return cost * (length if gamma >= 1 else 1 / (1 - gamma))


def steps_until_rest(learner: Learner, state: Any, env: Any) -> int:
    """Steps after which less than `REST` of a discounted sum of ones is left."""
    assert learner.estimate is not None
    zeros = jax.tree.map(np.zeros_like, acting.received(env.reset()))
    action = np.zeros((env.num_envs, *acting.Actions(env).shape), acting.Actions(env).dtype)
    said = learner.estimate(state, learner.memory.init(env.num_envs), zeros, action)
    gamma = max(float(said.gamma), float(said.cost_gamma))
    return env.spec.horizon if gamma >= 1 else max(1, math.ceil(math.log(REST) / math.log(gamma))) if gamma > 0 else 1


def place(engine: dict[str, Any]) -> tuple[float, float]:
    """Where the robot is on the ground, `(x, y)` in metres; NaN where its joints do not say."""
    joints = engine.get("joints", {})
    if "x" in joints and "y" in joints:
        return float(np.ravel(joints["x"][0])[0]), float(np.ravel(joints["y"][0])[0])
    for name in ("agent", "root", "robot"):
        if name in joints and np.size(joints[name][0]) == 7:
            return float(joints[name][0][0]), float(joints[name][0][1])
    return math.nan, math.nan


def _write(path: Path, report: Report) -> None:
    found = report.branches
    n = found.reward.shape[1]
    columns = {"x": report.places[:, 0], "y": report.places[:, 1]}
    signals = [("reward", found.estimate.reward, found.reward)]
    learnt = found.estimate.cost.shape[1]
    signals += [(report.cost_names[i], found.estimate.cost[:, i], found.cost[:, :, i]) for i in range(learnt)]
    for name, estimate, rollouts in signals:
        columns[f"{name} estimate"], columns[f"{name} truth"] = estimate, rollouts.mean(axis=1)
        columns[f"{name} error of truth"] = rollouts.std(axis=1, ddof=1) / math.sqrt(n)
    for i, name in enumerate(report.cost_names):
        spent = found.spent[:, :, i]
        columns |= {f"{name} spent": spent.mean(axis=1), f"{name} least": spent.min(axis=1)}
    columns["cut"] = found.cut.mean(axis=1)
    rows = ([f"{x:.6g}" for x in row] for row in zip(*columns.values()))
    try:
        write_whole(Path(path), table_text(list(columns), rows))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def draw(report: Report, output: str | os.PathLike) -> Path:
    """Draws estimates against truth, a panel per signal, and where states can be continued without any cost.

    Raises:
      ValueError: If matplotlib knows no such kind of picture, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    from jsafe.report import plot

    plot.check_output(output)
    found = report.branches
    mapped = np.isfinite(report.places).all() and bool(report.cost_names)
    panels = len(report.calibrations) + mapped
    figure = Figure(figsize=(4.2 * panels, 4.0), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    signals = [(found.estimate.reward, found.reward)]
    signals += [(found.estimate.cost[:, i], found.cost[:, :, i]) for i in range(len(report.calibrations) - 1)]
    for axis, about, (estimate, rollouts) in zip(axes, report.calibrations, signals):
        truth, error = rollouts.mean(axis=1), rollouts.std(axis=1, ddof=1) / math.sqrt(rollouts.shape[1])
        axis.errorbar(estimate, truth, yerr=error, fmt="o", ms=3, lw=0.8, alpha=0.7)
        ends = [min(estimate.min(), truth.min()), max(estimate.max(), truth.max())]
        axis.plot(ends, ends, color="0.5", lw=1)
        axis.set(xlabel=f"critic of the {about.name}", ylabel="mean of branches")
        axis.set_title(f"{about.name}: bias {about.bias:+.3g}, correlation {about.correlation:.2f}", fontsize=10)
    if mapped:
        axis, free = axes[-1], (found.spent.sum(axis=2) <= 0).mean(axis=1)
        shown = axis.scatter(*report.places.T, c=free, vmin=0, vmax=1, cmap="RdYlGn", s=22)
        figure.colorbar(shown, ax=axis, label="share of branches without cost")
        axis.set(xlabel="x in m", ylabel="y in m", aspect="equal")
        axis.set_title(f"{(free > 0).mean():.0%} of states have one", fontsize=10)
    figure.suptitle(f"{report.algorithm} on {report.env}", fontsize=11)
    return plot.write(figure, output)
