"""What a trained run does: statistics over episodes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from jsafe import data
from jsafe.components.limits import CostLimit, limit_of
from jsafe.curves.csv_table import write_whole
from jsafe.curves.screen import Progress
from jsafe.envs import VectorEnv
from jsafe.runs.build import build_env, build_learner
from jsafe.runs.checkpoint import Loaded, Which, load_state
from jsafe.runs.config import RunConfig, env_seed
from jsafe.runs.folder import RunError, read
from jsafe.spaces import difference
from jsafe.types import EnvSpec, Learner, env_spec


def evaluate(
    folder: str | os.PathLike,
    *,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int | None = None,
    num_threads: int | None = None,
    env: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    backend: Literal["host", "device"] | None = None,
    checkpoint: Which = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Runs the policy of the newest checkpoint and writes RUN/evaluation.json (of another one, evaluation-WHICH.json).

    Args:
      folder: The run folder.
      episodes: Number of whole episodes.
      deterministic: Take the most likely action rather than a sample.
      seed: Seed of the environments and of sampled actions; by default one that the training never used.
      num_threads: Threads that step the environments.
      env: Another task with the same observations and actions.
      env_options: For the constructor of the environment; on the run's own task they are added to the run's.
      backend: `host` or `device`; the one that the run was trained on by default. Where it is the other one, both are
        run.
      checkpoint: `best`, or an iteration, in place of the newest checkpoint.
      console: Where to show progress; nowhere by default.

    Returns:
      What the file holds: mean and standard deviation (`std`, over episodes) of `return` and `length`, `success`
      (share), `costs` (see `cost_report`), with a single cost also `cost` and `cost_rate` (per step), and
      `per_episode` values; with another `backend` than the run's, the same of the run's as `trained_on`.

    Raises:
      RunError: If there is no run, the task does not fit the policy, or the file cannot be written.
      CheckpointError: If there is no readable checkpoint.
      ValueError: For fewer than one episode, or an unknown task.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    run = read(folder)
    learner, loaded = restore(folder, checkpoint)
    seed = env_seed(run.config.seed, 1) if seed is None else seed
    config = elsewhere(run.config, env, env_options)

    def on(backend: Literal["host", "device"]) -> dict[str, Any]:
        """What the policy does on one backend."""
        most = 16 if backend == "host" else 128
        made = build_env(dataclasses.replace(config, backend=backend), min(episodes, most), seed, num_threads)
        each = -(-episodes // made.num_envs)  # at most, and of at most `horizon` steps
        with contextlib.ExitStack() as stack:
            stack.callback(made.close)
            check_fit(made, learner.spec)
            on_step = show_progress(stack, console, each * made.num_envs * made.spec.horizon)
            result = rollout(made, learner, loaded.state, episodes, seed, deterministic, on_step)
            names = tuple(made.spec.cost_names)
        return {
            "backend": backend,
            **statistics(result, names, limit_of(run.options)),
        }

    asked = config.backend if backend is None else backend
    report = {
        "algorithm": run.algorithm,
        "env": config.env,
        "env_options": dict(config.env_options),
        "iteration": loaded.iteration,
        "env_steps": loaded.extra["env_steps"],
        "offline": run.config.data is not None,
        "episodes": episodes,
        "deterministic": deterministic,
        "seed": seed,
        **on(asked),
    }
    if asked != config.backend:
        report["trained_on"] = on(config.backend)
    path = report_path(folder, checkpoint)
    try:
        write_whole(path, json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return report


def report_path(folder: str | os.PathLike, checkpoint: Which = None) -> Path:
    """The file that `evaluate` writes."""
    return Path(folder) / ("evaluation.json" if checkpoint is None else f"evaluation-{checkpoint}.json")


def restore(folder: str | os.PathLike, checkpoint: Which = None, imports: bool = True) -> tuple[Learner, Loaded]:
    """The learner of a run, and the state in its newest checkpoint, in that of an iteration, or in the `best` one.

    `imports` as for `jsafe.runs.folder.read`.

    Example:
      >>> learner, loaded = jsafe.runs.evaluation.restore("runs/seditor")
      >>> policy, memory = learner.policy(loaded.state), learner.memory.init(len(obs))
      >>> out = learner.act(policy, memory, obs, key, True)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how it is trained
        learner = build_learner(read(folder, imports))
    return learner, load_state(folder, jax.eval_shape(learner.init, jax.random.key(0)), checkpoint)


def elsewhere(config: RunConfig, env: str | None, env_options: Mapping[str, Any] | None = None) -> RunConfig:
    """The run's settings, on another task, or with other options of the environment."""
    if env not in (None, config.env):
        config = dataclasses.replace(config, env=env, env_options=())
    if not env_options:
        return config
    options = dict(config.env_options) | dict(env_options)
    return dataclasses.replace(config, env_options=tuple(options.items()))


def check_fit(made: VectorEnv, spec: EnvSpec) -> None:
    """Raises RunError if a policy for a spec cannot act in an environment."""
    here = env_spec(made)
    for name in ("obs", "action"):
        why = difference(getattr(here, name), getattr(spec, name))
        if why:
            raise RunError(f"the {name} space of {made.spec.id} is not the one the policy was trained with: {why}")


def show_progress(stack: contextlib.ExitStack, console: Console | None, total: int) -> Callable[[int], None] | None:
    """Shows environment steps on a console until the stack is left."""
    if console is None:
        return None
    progress = Progress(console, total, plain_seconds=5.0)
    stack.callback(progress.close)
    return functools.partial(progress.update, values={})


def rollout(
    env: Any,
    learner: Learner,
    state: Any,
    episodes: int,
    seed: int,
    deterministic: bool,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """`jsafe.data.evaluate` of the policy in a learner's state."""
    key = jax.random.key(seed)
    return data.evaluate(env, learner, learner.policy(state), episodes, key, deterministic, seed=seed, on_step=on_step)


def statistics(result: dict[str, np.ndarray], names: tuple[str, ...], limit: CostLimit | None) -> dict[str, Any]:
    """What `evaluate` reports of the episodes that `jsafe.data.evaluate` returned."""
    report: dict[str, Any] = {"return": _mean_std(result["return"]), "length": _mean_std(result["length"])}
    if result["cost"].shape[1] == 1:
        report["cost"] = _mean_std(result["cost"][:, 0])
        report["cost_rate"] = float(result["cost"].sum() / result["length"].sum())
    return report | {
        "success": float(result["success"].mean()),
        "costs": cost_report(result["cost"], result["length"], names, limit),
        "per_episode": {name: values.tolist() for name, values in result.items()},
    }


def cost_report(
    cost: np.ndarray, length: np.ndarray, names: tuple[str, ...], limit: CostLimit | None
) -> list[dict[str, Any]]:
    """Each cost by name, against its own limit.

    Args:
      cost: `[E, M]`, undiscounted, of E episodes.
      length: `[E]`.
      names: Of the M costs.
      limit: Of the algorithm, where it has one.

    Returns:
      For each cost `name`, `mean`, `std` and `error` (standard error of the mean; None of a single one) per episode,
      `p95`, `worst`, `per_step`; with a limit also `limit`, `per` (its unit), `above` (share of episodes above it; per
      step: whose own mean is above it) and `kept` (whether the mean is not above it).
    """
    limits = limit.values(cost.shape[1]) if limit is not None else (None,) * cost.shape[1]
    rows = []
    for name, column, bound in zip(names, cost.T, limits):
        row = {
            "name": name,
            **_mean_std(column),
            "error": float(column.std(ddof=1) / np.sqrt(len(column))) if len(column) > 1 else None,
            "p95": float(np.quantile(column, 0.95)),
            "worst": float(column.max()),
            "per_step": float(column.sum() / length.sum()),
        }
        if bound is not None and limit is not None:
            each = column if limit.per == "episode" else column / length
            mean = row["mean"] if limit.per == "episode" else row["per_step"]
            row |= {
                "limit": bound,
                "per": limit.per,
                "above": float((each > bound).mean()),
                "kept": bool(mean <= bound),
            }
        rows.append(row)
    return rows


def _mean_std(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "std": float(values.std())}
