"""What feeds a learner, to its user: the interface of a collector, and which collector serves which feed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from jsafe.types import Batch, Key, Learner, PolicyState


@runtime_checkable
class Collector(Protocol):
    """Steps environments (or reads a data set) and makes the batches that a learner's update wants."""

    env_steps: int
    """Environment steps so far, over all environments."""

    @property
    def progress(self) -> int:
        """What `total_steps` of a run counts: environment steps where there are environments, else updates."""

    def collect(self, policy_state: PolicyState, key: Key) -> Batch:
        """One batch; `key` is the only source of randomness besides the environments."""

    def episodes(self) -> dict[str, float]:
        """Statistics of finished episodes; see `EpisodeTracker.pop`."""

    def journal(self) -> dict[str, np.ndarray] | None:
        """What has to be stored of the rows since the last call, once; None if there is nothing."""

    def journal_keep(self) -> int:
        """How many of the newest chunks of the journal `load_state_dict` needs."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, but for the rows that `journal` has returned."""

    def load_state_dict(self, state: dict[str, Any], journal: Iterable[dict[str, np.ndarray]] = ()) -> None:
        """Continues where `state_dict` was called, bit for bit."""

    def close(self) -> None:
        """Ends what the collector has started (threads, environments of its own)."""


class BadValueError(ValueError):
    """An environment gave a reward, cost or observation that no learner can use, or a policy no action.

    It is raised before the step has reached a replay, a batch or a statistic. The environments have gone on: the
    collector cannot, but another one can from the last checkpoint.

    Attributes:
      what: `reward`, `cost 0 (cost_hazards)`, `observation 12`, `action` ...
      env: Number of the environment.
      step: Number of the step in its episode, from 1; 0 for the first observation of an episode.
      value: What it gave.
    """

    def __init__(self, what: str, env: int, step: int, value: Any, why: str):
        where = f"in step {step} of its episode" if step else "at the start of an episode"
        super().__init__(f"{what} of environment {env} is {value!r} {where}: {why}")
        self.what, self.env, self.step, self.value = what, env, step, value


Make = TypeVar("Make", bound=Callable[..., Collector])

_MAKERS: dict[type, Callable[..., Collector]] = {}


def feeds_with(feed: type) -> Callable[[Make], Make]:
    """Registers a collector (a class or a function) for a type of feed, and for what derives from it.

    Args:
      feed: The type of `Learner.feed`.

    Returns:
      A decorator of `(env, learner, seed, **options) -> Collector`.

    Example:
      >>> @jsafe.data.feeds_with(MyFeed)
      ... class MyCollector:
      ...     def __init__(self, env, learner, seed=None): ...
    """

    def register(make: Make) -> Make:
        _MAKERS[feed] = make
        return make

    return register


def make_collector(env: Any, learner: Learner, seed: int | None = None, **options: Any) -> Collector:
    """The collector for `learner.feed`.

    Args:
      env: Batched environment (`jsafe.envs.make`, or anything with its interface); the collector resets it.
      learner: Its `act`, `memory`, `spec` and `feed` are used.
      seed: Seed of the reset; without one the environment's own random streams continue.
      **options: Of the collector; those of the library's own take `on_bad` and `largest` (`jsafe.data.Door`).

    Raises:
      ValueError: If the environment does not fit the learner, the feed contradicts itself, or nothing serves it.
      BadValueError: If the first observations cannot be used.
    """
    for kind in type(learner.feed).__mro__:
        if kind in _MAKERS:
            return _MAKERS[kind](env, learner, seed, **options)
    known = ", ".join(sorted(kind.__name__ for kind in _MAKERS))
    raise ValueError(
        f"no collector serves a feed of type {type(learner.feed).__name__} (known: {known}); "
        "register one with jsafe.data.feeds_with"
    )
