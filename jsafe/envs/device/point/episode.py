"""Where episodes begin and goals change: random places, and what a task sees of one episode while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.envs.safety_gym.plan import Plan
from jsafe.envs.safety_gym.tasks import Task

_BLOCK = 10
"""Candidates that are drawn at a time."""
_TRIES = 10_000
"""Candidates for a new goal, as on the host."""


class Sampler:
    """Rejection sampling of positions with keepout circles, as `jsafe.envs.safety_gym.layout`, from JAX's keys.

    Args:
      task: Its margin, tries and layouts.
      plan: What has to be placed.
    """

    def __init__(self, task: Task, plan: Plan):
        self._task, self.count = task, len(plan.places)
        intervals = np.array([place.intervals() for place in plan.places])
        self._low, self._width = intervals[:, (0, 2)], intervals[:, (1, 3)]
        self._order = np.asarray(plan.order)
        reach = plan.keepouts[:, None] + plan.keepouts + task.margin
        self._squared = reach * reach
        rank = np.argsort(self._order)
        self._before = rank[None] < rank[:, None]  # whether j is placed before i
        self._block = min(_BLOCK, task.tries)

    def layout(self, key: Any) -> Any:
        """Positions `[1 + K, 2]`; NaN if all layouts failed, which a collector stops at."""
        squared = jnp.asarray(np.where(self._before, self._squared, 0.0), float)
        low, width, order = jnp.asarray(self._low, float), jnp.asarray(self._width, float), jnp.asarray(self._order)
        most = self._task.layouts * self.count * -(-self._task.tries // self._block)

        def more(carry):
            placed, _, turn, _ = carry
            return (placed < self.count) & (turn < most)

        def place(carry):
            placed, tried, turn, xy = carry
            k = order[placed]
            draws = jax.random.uniform(jax.random.fold_in(key, turn), (self._block, 2), xy.dtype)
            new = low[k] + width[k] * draws
            apart = ((new[:, None] - xy) ** 2).sum(-1)
            free = (apart >= squared[k]).all(axis=1)
            found = free.any()
            xy = jnp.where(found, xy.at[k].set(new[free.argmax()]), xy)
            tried = jnp.where(found, 0, tried + self._block)
            failed = tried >= self._task.tries
            placed = jnp.where(failed, 0, placed + found)
            return placed, jnp.where(failed, 0, tried), turn + 1, xy

        start = (jnp.int32(0), jnp.int32(0), jnp.int32(0), jnp.zeros((self.count, 2)))
        placed, _, _, xy = jax.lax.while_loop(more, place, start)
        return jnp.where(placed == self.count, xy, jnp.nan)

    def again(self, key: Any, which: Any, standing: Any) -> tuple[Any, Any]:
        """A new free place for one of the things that stand at `[1 + K, 2]`; and whether one was found."""
        others = np.arange(self.count)
        squared = jnp.where(others == which, 0.0, jnp.asarray(self._squared, float)[which])
        low, width = jnp.asarray(self._low, float)[which], jnp.asarray(self._width, float)[which]

        def more(carry):
            found, turn, _ = carry
            return ~found & (turn < _TRIES // _BLOCK)

        def draw(carry):
            _, turn, xy = carry
            draws = jax.random.uniform(jax.random.fold_in(key, turn), (_BLOCK, 2), standing.dtype)
            new = low + width * draws
            free = (((new[:, None] - standing) ** 2).sum(-1) >= squared).all(axis=1)
            return free.any(), turn + 1, jnp.where(free.any(), new[free.argmax()], xy)

        found, _, xy = jax.lax.while_loop(more, draw, (jnp.asarray(False), jnp.int32(0), standing[which]))
        return xy, found


class Stream:
    """Random numbers of an episode while it is traced: every call takes a key of its own."""

    def __init__(self, key: Any):
        self._key, self._taken = key, 0

    def key(self) -> Any:
        """The next key."""
        self._taken += 1
        return jax.random.fold_in(self._key, self._taken)

    def random(self) -> Any:
        """A number in [0, 1)."""
        return jax.random.uniform(self.key(), dtype=float)

    def uniform(self, lo: float, hi: float) -> Any:
        """A number in [lo, hi)."""
        return lo + (hi - lo) * self.random()

    def choice(self, n: int) -> Any:
        """An index in 0 ... n - 1."""
        return jax.random.randint(self.key(), (), 0, n)


class TracedEpisode:
    """`jsafe.envs.safety_gym.tasks.Episode` of traced arrays: it remembers what the task changes.

    Args:
      key: For what is drawn.
      sampler: Finds places.
      slices: Where each group lies among the objects.
      agent: Where the robot is `[2]`.
      xy: Where the objects are `[K, 2]`.
      standing: Where they count as being when something is placed: driven ones at the centres of their circles.
      memory: The task's.
    """

    def __init__(
        self,
        key: Any,
        sampler: Sampler,
        slices: dict[str, slice],
        agent: Any,
        xy: Any,
        standing: Callable[[Any], Any],
        memory: dict[str, Any],
    ):
        self.stream, self.memory = Stream(key), dict(memory)
        self._sampler, self._slices, self._agent, self.places = sampler, slices, agent, xy
        self._standing = standing

    def xy(self, group: str, index: Any = 0) -> Any:
        """Where an object is `[2]`."""
        return self.places[self._at(group, index)]

    def move(self, group: str, xy: Sequence[float] | Any, index: Any = 0) -> None:
        """Puts an object somewhere else."""
        self.places = self.places.at[self._at(group, index)].set(jnp.asarray(xy, self.places.dtype))

    def resample(self, group: str, index: Any = 0) -> Any:
        """A new free place; whether there was one."""
        standing = jnp.concatenate([self._agent[None], self._standing(self.places)])
        xy, found = self._sampler.again(self.stream.key(), 1 + self._at(group, index), standing)
        self.move(group, jnp.where(found, xy, self.xy(group, index)), index)
        return found

    def _at(self, group: str, index: Any) -> Any:
        return self._slices[group].start + index
