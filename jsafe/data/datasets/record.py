"""Recording: whole episodes of fixed policies, with each constraint's cost and the engine's state at every start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import jsafe
from jsafe.data.datasets.episodes import About, DatasetError, Episodes
from jsafe.data.partition import cut_env
from jsafe.data.playing import Policy, play
from jsafe.spaces import Tree
from jsafe.types import Key, env_spec


def record(
    env: Any,
    policy: Policy | None,
    key: Key,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    behaviour: Mapping[str, Any] | None = None,
    env_options: Mapping[str, Any] | None = None,
    half: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Episodes:
    """Records whole episodes of one policy.

    With `episodes` each environment runs a fixed number of them. With `steps` each one finishes the episode that runs
    when there are enough. Either way short episodes are not favoured.

    Args:
      env: Batched environment; it is reset.
      policy: Who acts; None for uniformly random actions.
      key: Key of the actions.
      episodes: Number of episodes; or
      steps: Number of steps, over all environments, at the least.
      seed: Of the reset: environment i has the stream `seed + i`.
      behaviour: What to note about the policy: plain values.
      env_options: What the environment was made with, so that it can be made again.
      half: Store observations in float16.
      on_step: Told the number of steps so far after each step of all environments.

    Raises:
      ValueError: If not one of `episodes` and `steps` is given, or it is less than one.
      DatasetError: If observations are a tree.
      BadValueError: If the environment gives a value that cannot be used (`jsafe.data.Door`).
    """
    if (episodes is None) == (steps is None) or (episodes or steps or 0) < 1:
        raise ValueError(f"give one of episodes and steps, at least 1: got episodes={episodes}, steps={steps}")
    spec, n = env_spec(env), env.num_envs
    if isinstance(spec.obs, Tree):
        raise DatasetError(f"data sets hold no trees, and observations of {env.spec.id} are {spec.obs}")
    recorder = _Recorder(env, half)
    quota = None if episodes is None else episodes // n + (np.arange(n) < episodes % n)
    run = np.zeros(n, np.int64)  # episodes of each environment that are over
    recording = np.ones(n, bool) if quota is None else quota > 0
    for count, (obs, action, out) in enumerate(play(_Watched(env, recorder), policy, key, seed=seed), 1):
        ended = out.terminated | out.truncated
        recorder.add(obs, action, out, recording)
        run += ended & recording
        if quota is not None:
            recording &= run < quota
        elif recorder.rows >= (steps or 0):
            recording &= ~ended
        recorder.ended(out, ended)
        if on_step is not None:
            on_step(count * n)
        if not recording.any():
            break
    about = About(
        obs=spec.obs,
        action=spec.action,
        horizon=spec.horizon,
        env=env.spec.id,
        env_options=tuple(dict(env_options or {}).items()),
        cost_names=tuple(env.spec.cost_names),
        term_names=recorder.terms,
        behaviours=({**(behaviour or {}), "seed": seed},),
        source="record",
        made_by=jsafe.__version__,
    )
    return recorder.episodes(about).check(f"the recording of {env.spec.id}")


class _Watched:
    """The environment, whose state is noted when it has been reset."""

    def __init__(self, env: Any, recorder: _Recorder):
        self.spec, self.num_envs, self.step = env.spec, env.num_envs, env.step
        self._env, self._recorder = env, recorder

    def reset(self, seed: int) -> Any:
        """Resets all of them."""
        obs = self._env.reset(seed=seed)
        self._recorder.starts(np.ones(self.num_envs, bool))
        return obs


class _Recorder:
    """Rows by environment, until the episodes they belong to are over."""

    def __init__(self, env: Any, half: bool):
        self._env, self._half = env, half
        self._open: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]
        self._state: list[dict[str, np.ndarray]] = [{} for _ in range(env.num_envs)]
        self._done: list[tuple[list[tuple[Any, ...]], np.ndarray, dict[str, np.ndarray]]] = []
        self._over: list[tuple[int, np.ndarray]] = []
        self.terms: tuple[str, ...] = ()
        self.rows = 0

    def starts(self, which: np.ndarray) -> None:
        """Notes the engine's state of environments that are at the start of an episode."""
        try:
            state = self._env.state_dict()
            for i in np.flatnonzero(which):
                self._state[i] = flatten(cut_env(state, slice(i, i + 1), self._env.num_envs))
        except (NotImplementedError, AttributeError, ValueError, TypeError, RuntimeError):
            pass  # of somebody else's engine, which cannot be put back: the data are good without

    def add(self, obs: np.ndarray, action: np.ndarray, out: Any, recording: np.ndarray) -> None:
        """One step of all environments."""
        named = {name[5:]: value for name, value in out.info.items() if name.startswith("cost_") and name != "cost_sum"}
        self.terms = tuple(named)
        terms = np.stack([*named.values()], axis=1) if named else np.zeros((len(action), 0))
        for i in np.flatnonzero(recording):
            row = (obs[i], action[i], out.reward[i], out.cost[i], terms[i], out.terminated[i], out.truncated[i])
            self._open[i].append(row)
            self.rows += 1
            if out.terminated[i] or out.truncated[i]:
                self._done.append((self._open[i], np.asarray(out.final_obs[i]), self._state[i]))
                self._open[i] = []

    def ended(self, out: Any, ended: np.ndarray) -> None:
        """Episodes have ended, and others have begun."""
        del out
        if ended.any():
            self.starts(ended)

    def episodes(self, about: About) -> Episodes:
        """All that are over, in the order in which they ended."""
        columns: list[list[np.ndarray]] = [[] for _ in range(7)]
        lengths = []
        for rows, final, _ in self._done:
            obs, *rest = (np.stack(column) for column in zip(*rows))
            columns[0].append(np.concatenate([obs, final[None].astype(obs.dtype)]))
            for column, values in zip(columns[1:], rest):
                column.append(np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)]))
            lengths.append(len(rows) + 1)
        obs, action, reward, cost, terms, terminated, truncated = map(np.concatenate, columns)
        if self._half and obs.dtype.kind == "f":
            obs = obs.astype(np.float16)
        names = set(self._done[0][2]).intersection(*(state for *_, state in self._done))
        return Episodes(
            obs=obs,
            action=action,
            reward=reward.astype(np.float32),
            cost=cost.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            about=about,
            terms=terms.astype(np.float32) if self.terms else None,
            behaviour=np.zeros(len(lengths), np.int16),
            states={name: np.stack([state[name] for *_, state in self._done]) for name in sorted(names)},
        )


def flatten(state: Any, path: str = "") -> dict[str, np.ndarray]:
    """The state of an engine with one environment as arrays by path, without the axis of environments.

    Raises:
      ValueError: For a leaf that is no number, no text and no array of them.
    """
    if isinstance(state, Mapping):
        parts = [flatten(value, f"{path}/{name}" if path else str(name)) for name, value in state.items()]
        return {name: value for part in parts for name, value in part.items()}
    if isinstance(state, (list, tuple)):
        return flatten({str(i): value for i, value in enumerate(state)}, path)
    value = np.asarray(jax.device_get(state))
    if value.dtype == object:
        raise ValueError(f"{path} cannot be stored: {type(state).__name__}")
    return {path: value[0] if value.ndim else value}
