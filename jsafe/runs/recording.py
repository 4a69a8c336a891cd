"""Data sets from the policies of runs: who acts, for how long, on which task."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.console import Console

from jsafe.components.limits import limit_of
from jsafe.curves.screen import Progress
from jsafe.data import Policy, datasets
from jsafe.runs.build import NO_ENV, build_env, on_host
from jsafe.runs.checkpoint import BEST
from jsafe.runs.config import RunConfig, env_seed
from jsafe.runs.evaluation import check_fit, restore
from jsafe.runs.folder import RunError, read

RANDOM = "random"
"""In the place of a run folder: uniformly random actions."""
PURPOSE = 2
"""Of the seeds of recordings; see `env_seed`."""


def record(
    sources: Sequence[str],
    *,
    steps: int | None = None,
    episodes: int | None = None,
    shares: Sequence[float] | None = None,
    deterministic: bool = False,
    env: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    imports: tuple[str, ...] = (),
    seed: int = 0,
    num_envs: int = 16,
    num_threads: int | None = None,
    half: bool = False,
    console: Console | None = None,
) -> datasets.Episodes:
    """Records whole episodes of the policies of runs, one after the other, with the state of the engine at each start.

    Args:
      sources: Run folders, `RUN` for the newest checkpoint, `RUN@ITERATION` or `RUN@best`, or `random`.
      steps: Number of steps of all policies together, at the least; or
      episodes: Number of episodes of each policy.
      shares: Share of `steps` (or of `episodes` times the number of policies) for each policy; by default equal ones.
      deterministic: Take the most likely actions; by default they are sampled as in training.
      env: The task, for `random` alone; by default that of the first run. All have to fit it.
      env_options: For the constructor of the environment; on the run's own task they are added to the run's.
      imports: Modules that define tasks.
      seed: Of the environments and of sampled actions.
      num_envs: Environments side by side.
      num_threads: Threads that step them.
      half: Store observations in float16.
      console: Where to show progress; nowhere by default.

    Raises:
      RunError: If there is no run, or a policy does not fit the task.
      CheckpointError: If there is no such checkpoint.
      ValueError: For shares that do not fit the sources, or an unknown task.
    """
    if not sources:
        raise ValueError("name at least one run folder, or random")
    shares = _shares(shares, len(sources))
    total = steps if steps is not None else (episodes or 0) * len(sources)
    if total < 1 or (steps is not None and episodes is not None):
        raise ValueError(f"give one of steps and episodes, at least 1: got steps={steps}, episodes={episodes}")
    actors = [_actor(source) for source in sources]
    config = _task(actors, env, env_options, imports)
    parts = []
    with contextlib.ExitStack() as stack:
        probe = build_env(on_host(config), 1, 0, 1)
        expected = total if steps is not None else total * probe.spec.horizon
        probe.close()
        progress = None if console is None else Progress(console, expected, plain_seconds=5.0)
        if progress is not None:
            stack.callback(progress.close)
        before = 0
        for number, (actor, share) in enumerate(zip(actors, shares)):
            if share == 0:
                continue
            count = max(1, round(share * total))
            made = build_env(on_host(config), min(num_envs, count), 0, num_threads)
            stack.callback(made.close)
            if actor.policy is not None:
                check_fit(made, actor.policy.learner.spec)
                actor = actor._replace(policy=actor.policy._replace(deterministic=deterministic))
            stream = env_seed(seed + number, PURPOSE)
            done = before

            def on_step(taken: int, done: int = done) -> None:
                if progress is not None:
                    progress.update(done + taken, {})

            part = datasets.record(
                made,
                actor.policy,
                jax.random.key(stream),
                **({"steps": count} if steps is not None else {"episodes": count}),
                seed=stream,
                behaviour={**actor.about, "deterministic": deterministic},
                env_options=dict(config.env_options),
                half=half,
                on_step=on_step,
            )
            before += part.transitions
            parts.append(part)
    return datasets.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class _Actor:
    policy: Policy | None
    about: dict[str, Any]
    config: RunConfig | None

    def _replace(self, **changes: Any) -> _Actor:
        return dataclasses.replace(self, **changes)


def _actor(source: str) -> _Actor:
    """A run's policy, and what there is to know about it."""
    if source == RANDOM:
        return _Actor(None, {"algorithm": RANDOM}, None)
    folder, at, word = source.rpartition("@")
    if not at or os.path.isdir(source):
        folder, word = source, ""
    if word and not word.isdecimal() and word != BEST:
        raise RunError(f"{source}: RUN@ITERATION names a checkpoint by a number or `best`, got {word!r}")
    run = read(folder)
    learner, loaded = restore(folder, "best" if word == BEST else int(word) if word else None)
    limit = limit_of(run.options)
    about = {
        "run": os.path.basename(os.path.normpath(folder)),
        "algorithm": run.algorithm,
        "preset": run.config.preset,
        "run_seed": run.config.seed,
        "limit": None if limit is None else limit.value,
        "limit_per": None if limit is None else limit.per,
        "iteration": loaded.iteration,
        "env_steps": loaded.extra["env_steps"],
    }
    return _Actor(Policy(learner, learner.policy(loaded.state)), about, run.config)


def _task(
    actors: Sequence[_Actor], env: str | None, env_options: Mapping[str, Any] | None, imports: tuple[str, ...]
) -> RunConfig:
    """The environment in which all act: the sum of its costs, for each constraint is recorded beside it."""
    first = next((actor.config for actor in actors if actor.config is not None), None)
    if first is None and env is None:
        raise ValueError("--env ID is missing: random actions on which task?")
    own = first is not None and env in (None, first.env)
    base = first if own and first is not None else RunConfig(str(env), imports=imports)
    if base.env == NO_ENV:
        raise ValueError("the run was trained without an environment: name one (--env ID)")
    options = dict(base.env_options) | dict(env_options or {})
    modules = tuple(dict.fromkeys((*base.imports, *imports)))
    return dataclasses.replace(base, env_options=tuple(options.items()), imports=modules, costs="sum")


def _shares(shares: Sequence[float] | None, count: int) -> list[float]:
    if shares is None:
        return [1 / count] * count
    if len(shares) != count or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"there must be a share of at least 0 for each of {count} policies, got {list(shares)}")
    return [share / sum(shares) for share in shares]
