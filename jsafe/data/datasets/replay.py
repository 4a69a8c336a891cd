"""Doing recorded episodes over again, in the engine: to look at what was not recorded, and to relabel costs exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jsafe.data import coroutine
from jsafe.data.datasets.episodes import DatasetError, Episodes


class Replayed(NamedTuple):
    """One step done over again: the number of its row, the environment after it, and what `env.step` returned."""

    row: int
    env: Any
    step: Any


def replay(episodes: Episodes, make_env: Callable[[], Any], number: int) -> Iterator[Replayed]:
    """Puts the engine into the state at the start of an episode, and takes the recorded actions again.

    The result is the recorded one bit for bit (observations after rounding to float32), on the same engine and version
    of MuJoCo. Between two steps the caller may look at the environment: at poses, contacts, whatever a cost of one's
    own is made of.

    Args:
      episodes: Recorded with `record`, so that the states are there.
      make_env: Makes the environment, with a single one in the batch.
      number: Of the episode.

    Raises:
      DatasetError: If the states were not recorded, or do not fit the engine.
      IndexError: If there is no such episode.

    Example:
      `make_env = functools.partial(jsafe.envs.make, episodes.about.env)`, then
      `for row, env, step in jsafe.data.datasets.replay(episodes, make_env, 0)` and a cost of one's own in the loop.
    """
    if not -len(episodes) <= number < len(episodes):
        raise IndexError(f"there is no episode {number}, only {len(episodes)}")
    if not episodes.states:
        raise DatasetError(
            "the data set holds no states of the engine: it was not recorded by jsafe, or is of an engine without"
        )
    env = make_env()
    try:
        actions = coroutine.Actions(env)
        env.reset(seed=0)
        saved = {name: value[number] for name, value in episodes.states.items()}
        env.load_state_dict(_unflatten(env.state_dict(), saved))
        first = episodes.start[number]
        for row in range(first, first + episodes.lengths[number]):
            yield Replayed(row, env, env.step(actions.to_env(episodes.action[row][None])))
    finally:
        env.close()


def differing(episodes: Episodes, make_env: Callable[[], Any], number: int) -> str | None:
    """The first field and row in which an episode that is done over again differs from the recorded one, or None."""
    first, steps = episodes.start[number], episodes.lengths[number]
    for row, _, step in replay(episodes, make_env, number):
        seen = np.asarray(coroutine.received(step.final_obs)[0])
        pairs = {
            "obs": (seen.astype(episodes.obs.dtype), episodes.obs[row + 1]),
            "reward": (np.float32(step.reward[0]), episodes.reward[row]),
            "terminated": (step.terminated[0], episodes.terminated[row]),
            "truncated": (step.truncated[0], episodes.truncated[row]),
        }
        if step.cost.shape[1] == episodes.cost.shape[1]:
            pairs["cost"] = (step.cost[0].astype(np.float32), episodes.cost[row])
        for name, (now, then) in pairs.items():
            if not np.array_equal(now, then):
                where = row + 1 if name == "obs" else row
                return f"{name} in row {where} (step {row - first + 1} of {steps})"
    return None


def _unflatten(template: Any, saved: Mapping[str, np.ndarray], path: str = "") -> Any:
    """The state of an engine, with the leaves of `saved` in the places of the template's."""
    if isinstance(template, Mapping):
        return {
            name: _unflatten(value, saved, f"{path}/{name}" if path else str(name)) for name, value in template.items()
        }
    if isinstance(template, (list, tuple)):
        return type(template)(_unflatten(value, saved, f"{path}/{i}") for i, value in enumerate(template))
    if path not in saved:
        raise DatasetError(f"the recorded states of the engine have no {path}: they are of another engine")
    value = saved[path]
    return np.array(value)[None] if np.ndim(template) else type(template)(value)
