"""What critics say beside what happens: rollouts of the exact engine, branched from the states that a policy visits.

The engine's state can be read and written, so that the same state can be continued many times. The mean over its
branches is what a critic is supposed to know: of reward and of each cost, without bias, with a standard error.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jsafe.components.limits import limit_of
from jsafe.curves.vocabulary import cost_name
from jsafe.data import coroutine as acting
from jsafe.runs import evaluation
from jsafe.runs.build import build_env, on_host
from jsafe.runs.config import env_seed
from jsafe.runs.folder import RunError, read
from jsafe.types import Estimates, Key, Learner

NEEDED = ("get_state", "set_state", "observe")
REST = 0.01
"""Share of a discounted sum that may lie beyond the length of a branch."""


class Start(NamedTuple):
    """A state that can be continued: the engine's, and the policy's memory (its rows of one environment)."""

    engine: dict[str, Any]
    memory: Any


class Branches(NamedTuple):
    """What happened in n continuations of each of S states.

    Attributes:
      reward: `[S, n]`, discounted sums of raw rewards.
      cost: `[S, n, M]`, discounted sums of raw costs.
      spent: `[S, n, M]`, costs summed without a discount.
      cut: `[S, n]`, whether the episode was truncated within the branch (at a goal, say): critics look beyond.
      estimate: What the critics say of the states, mean over the first actions of the branches: `reward [S]`,
        `cost [S, M]` (`Estimates` of numpy arrays); None where the learner has no critics to ask.
    """

    reward: np.ndarray
    cost: np.ndarray
    spent: np.ndarray
    cut: np.ndarray
    estimate: Any


def check_branches(env: Any) -> None:
    """Raises RunError if the states of an environment cannot be read and written."""
    missing = [name for name in NEEDED if not hasattr(env, name)]
    if missing:
        raise RunError(f"the states of {env.spec.id} cannot be branched: it has no {', '.join(missing)}")


def visited(
    env: Any,
    learner: Learner,
    policy_state: Any,
    count: int,
    key: Key,
    deterministic: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> list[Start]:
    """States that the policy visits, drawn evenly over an episode's length and over the environments.

    Args:
      env: Batched environment with `get_state` (`jsafe.envs.make` of an official task); it is reset.
      learner: Whose policy acts.
      policy_state: What `Learner.policy` returned.
      count: Number of states S.
      key: Of actions and of the moments.
      deterministic: Take the most likely action rather than a sample.
      on_step: Told the number of environment steps so far.
    """
    n, horizon = env.num_envs, env.spec.horizon
    act_key, when_key = jax.random.split(key)
    # One moment in each of equal slices of the episode, the environments in turn.
    offset = np.asarray(jax.random.uniform(when_key, (count,)))
    moments = ((np.arange(count) + offset) * horizon / count).astype(int)
    found: dict[int, Start] = {}
    actions, started, memory = acting.Actions(env), np.ones(n, bool), learner.memory.init(n)
    obs = acting.received(env.reset())
    for step in range(int(moments.max()) + 1):
        for j in np.flatnonzero(moments == step):
            i = int(j) % n
            rows = jax.tree.map(lambda x, i=i: np.asarray(x)[i], learner.memory.reset(memory, started))
            found[int(j)] = Start(env.get_state(i), rows)
        action, _, memory = acting.act(
            learner.act,
            learner.memory.reset,
            policy_state,
            memory,
            started,
            obs,
            act_key,
            np.int32(step),
            deterministic,
        )
        out = env.step(actions.to_env(actions.clipped(action)))
        started, obs = out.terminated | out.truncated, acting.received(out.obs)
        if on_step is not None:
            on_step((step + 1) * n)
    return [found[j] for j in range(count)]


def cost_to_go(
    env: Any,
    learner: Learner,
    state: Any,
    starts: Sequence[Start],
    rollouts: int,
    length: int,
    key: Key,
    deterministic: bool = False,
    *,
    gamma: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Branches:
    """Continues each state many times, each time with noise and a random stream of its own.

    Every branch begins with the whole horizon ahead of it, because critics do not know how late it is. It goes on until
    the episode ends, for `length` steps at most.

    Args:
      env: Batched environment of the same task; it is reset. Branches run side by side in its N environments.
      learner: Whose policy acts and whose critics are asked.
      state: The learner's.
      starts: S states, as from `visited`.
      rollouts: n, branches per state.
      length: Steps of a branch.
      key: Of the actions.
      deterministic: Take the most likely action rather than a sample.
      gamma: Discount of both sums; by default that of the critics.
      on_step: Told the number of environment steps so far.

    Raises:
      ValueError: If there is no state, a number is below one, or nothing says the discount.
    """
    for name, value in (("starts", len(starts)), ("rollouts", rollouts), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if gamma is None and learner.estimate is None:
        raise ValueError("gamma must be given: the learner has no critics to ask")
    n, m, total = env.num_envs, env.spec.num_costs, len(starts) * rollouts
    policy_state, actions = learner.policy(state), acting.Actions(env)
    which = np.arange(total) // rollouts
    reward, cut = np.zeros(total), np.zeros(total, bool)
    cost, spent = np.zeros((total, m)), np.zeros((total, m))
    said = []
    env.reset()
    for chunk, first in enumerate(range(0, total, n)):
        rows = np.arange(first, min(first + n, total))
        mine = [starts[which[row]] for row in rows] + [starts[which[rows[-1]]]] * (n - len(rows))
        for i, start in enumerate(mine):
            env.set_state(i, start.engine | {"step": 0})
        obs = acting.received(env.observe())
        memory = jax.tree.map(lambda *x: np.stack(x), *(start.memory for start in mine))
        estimate: Any = None
        alive, fresh, chunk_key = np.ones(n, bool), np.zeros(n, bool), jax.random.fold_in(key, chunk)
        discount = cost_discount = 1.0
        for step in range(length):
            before = memory
            action, _, memory = acting.act(
                learner.act,
                learner.memory.reset,
                policy_state,
                memory,
                fresh,
                obs,
                chunk_key,
                np.int32(step),
                deterministic,
            )
            action = actions.clipped(action)
            if step == 0 and learner.estimate is not None:
                estimate = jax.tree.map(np.asarray, _ask(learner.estimate, state, before, obs, action))
                said.append((estimate.reward[: len(rows)], estimate.cost[: len(rows)]))
            out = env.step(actions.to_env(action))
            live = alive[: len(rows)]
            r, c = np.where(live, out.reward[: len(rows)], 0.0), np.where(live[:, None], out.cost[: len(rows)], 0.0)
            reward[rows] += discount * r
            cost[rows] += cost_discount * c
            spent[rows] += c
            cut[rows] |= live & (out.truncated & ~out.terminated)[: len(rows)] & (step + 1 < env.spec.horizon)
            discount *= float(estimate.gamma) if gamma is None else gamma
            cost_discount *= float(estimate.cost_gamma) if gamma is None else gamma
            fresh, obs = out.terminated | out.truncated, acting.received(out.obs)
            alive &= ~fresh
            if on_step is not None:
                on_step((chunk * length + step + 1) * n)
            if not alive[: len(rows)].any():
                break
    shape = (len(starts), rollouts)
    mean = None
    if estimate is not None:
        first_reward, first_cost = (np.concatenate(x) for x in zip(*said))
        mean = Estimates(
            first_reward.reshape(shape).mean(axis=1),
            first_cost.reshape(*shape, -1).mean(axis=1),
            estimate.gamma,
            estimate.cost_gamma,
        )
    return Branches(reward.reshape(shape), cost.reshape(*shape, m), spent.reshape(*shape, m), cut.reshape(shape), mean)


@functools.partial(jax.jit, static_argnums=0)
def _ask(estimate: Callable[..., Estimates], state: Any, memory: Any, obs: Any, action: Any) -> Estimates:
    return estimate(state, memory, obs, action)


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
    evenly: `limit / (horizon (1 - gamma))`, or `limit / (1 - gamma)` for a limit per step.
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
    branches: Branches
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
        check_branches(env)
        evaluation.check_fit(env, learner.spec)
        length = length or min(env.spec.horizon, steps_until_rest(learner, loaded.state, env))
        n, horizon = env.num_envs, env.spec.horizon
        total = (horizon + -(-states * rollouts // n) * length) * n
        on_step = evaluation.show_progress(stack, console, total)
        keys = jax.random.split(jax.random.key(seed))
        policy_state = learner.policy(loaded.state)
        starts = visited(env, learner, policy_state, states, keys[0], deterministic, on_step)
        after = None if on_step is None else lambda step: on_step(horizon * n + step)
        found = cost_to_go(env, learner, loaded.state, starts, rollouts, length, keys[1], deterministic, on_step=after)
        names = tuple(cost_name(i, env.spec.cost_names, env.spec.num_costs) for i in range(env.spec.num_costs))
    estimate = found.estimate
    learnt = estimate.cost.shape[1]
    calibrations = [calibrate("reward", estimate.reward, found.reward)]
    calibrations += [calibrate(names[i], estimate.cost[:, i], found.cost[:, :, i]) for i in range(learnt)]
    verdicts = []
    limit = limit_of(run.options)
    if limit is not None:
        per_step = 1.0 if limit.per == "step" else 1.0 / horizon
        for i, bound in zip(range(learnt), limit.values(len(names))):
            unit = bound * per_step / (1 - float(estimate.cost_gamma))
            verdicts.append(judge(names[i], unit, estimate.cost[:, i], found.cost[:, :, i], found.spent[:, :, i]))
    places = np.array([place(start.engine) for start in starts])
    report = Report(run.algorithm, run.config.env, calibrations, verdicts, found, places, length, names)
    _write(Path(folder) / "truth.csv", report)
    return report


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
    try:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([f"{x:.6g}" for x in row] for row in zip(*columns.values()))
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def draw(report: Report, output: str | os.PathLike) -> Path:
    """Draws estimates against truth, a panel per signal, and where states can be continued without any cost.

    Raises:
      ValueError: If matplotlib knows no such kind of picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path, found = Path(output), report.branches
    known = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise ValueError(f"output must end with one of {', '.join('.' + kind for kind in sorted(known))}, got {path}")
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
    figure.savefig(path, dpi=120)
    return path
