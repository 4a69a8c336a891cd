"""Undiscounted statistics of episodes in N environments that run side by side."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

WINDOW = 100
"""Finished episodes in the running means."""


class Finished(NamedTuple):
    """Episodes that ended in one step, `[n]` each (`cost` is `[n, M]`), and the environments they ended in."""

    env: np.ndarray
    total_return: np.ndarray
    cost: np.ndarray
    length: np.ndarray
    success: np.ndarray


class EpisodeTracker:
    """Sums reward, cost and length of the running episodes, and remembers the last 100 finished ones.

    The first episodes to finish are the short ones, in many tasks those that reached the goal: means over them would
    mislead. So the means are NaN until every environment has finished an episode.

    Attributes:
      finished: `[N]` booleans: which environments have finished an episode.
      bad: Episodes that were ended because of bad values (`jsafe.data.Door`), since the start.

    Args:
      num_envs: Number of environments N.
      num_costs: Number of cost signals M.
    """

    def __init__(self, num_envs: int, num_costs: int):
        # Columns: return, length, success so far, then the costs.
        self._running = np.zeros((num_envs, 3 + num_costs))
        self._window: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._count = 0
        self.finished = np.zeros(num_envs, bool)
        self.bad = 0

    @property
    def lengths(self) -> np.ndarray:
        """Steps of the running episodes, `[N]`; a view."""
        return self._running[:, 1]

    def step(
        self, reward: np.ndarray, cost: np.ndarray, success: np.ndarray | None, ended: np.ndarray
    ) -> Finished | None:
        """Adds one step of all environments: `[N]`, `[N, M]`, `[N]`, `[N]`; returns the finished episodes, if any.

        An episode is a success if any of its steps is.
        """
        running = self._running
        running[:, 0] += reward
        running[:, 1] += 1
        if success is not None:
            np.logical_or(running[:, 2], success, out=running[:, 2])
        running[:, 3:] += cost
        if not ended.any():
            return None
        (env,) = np.nonzero(ended)
        rows = running[env]
        running[env] = 0
        self.finished[env] = True
        self._window.extend(rows)
        self._count += len(rows)
        return Finished(env, rows[:, 0], rows[:, 3:], rows[:, 1], rows[:, 2] > 0)

    def drop_running(self) -> None:
        """Forgets the unfinished episodes (the environments were reset)."""
        self._running[:] = 0

    def discard(self, bad: np.ndarray) -> None:
        """Forgets the running episodes of the environments `bad [N]` (booleans), and counts them as bad."""
        self._running[bad] = 0
        self.bad += int(bad.sum())

    def pop(self) -> dict[str, float]:
        """Episodes finished since the last call, and means over the last 100; see `statistics`."""
        count, self._count = self._count, 0
        return statistics(*self.sums(), count, int(self.finished.sum()), len(self.finished), self.bad)

    def sums(self) -> tuple[int, np.ndarray]:
        """Number of episodes in the window, and their sums: return, length, success, cost."""
        window = np.array(self._window).reshape(-1, self._running.shape[1])
        columns = (window[:, 0], window[:, 1], window[:, 2], window[:, 3:])
        return len(window), np.array([column.sum() for column in columns])

    def state_dict(self) -> dict[str, Any]:
        """Everything, as arrays."""
        window = np.array(self._window).reshape(-1, self._running.shape[1])
        return {
            "running": self._running.copy(),
            "window": window,
            "count": self._count,
            "finished": self.finished.copy(),
            "bad": self.bad,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._running = np.array(state["running"], np.float64)
        self._window = deque(np.array(state["window"], np.float64), maxlen=WINDOW)
        self._count = int(state["count"])
        self.finished = np.array(state["finished"], bool)
        self.bad = int(state["bad"])


def statistics(
    episodes: int, total: np.ndarray, count: float, finished_envs: int, num_envs: int, bad: int
) -> dict[str, float]:
    """The statistics `episode/*`.

    Args:
      episodes: Number of episodes in the window.
      total: Their sums, `[4]`: return, length, success and cost (over all M).
      count: Episodes finished since the last call.
      finished_envs: Environments that have finished an episode.
      num_envs: Of how many.
      bad: Episodes ended because of bad values, since the start.

    Returns:
      `episode/count`; `episode/return`, `episode/cost` (summed over M), `episode/length`, `episode/success` per
      episode and `episode/cost_rate`, cost per environment step, NaN until every environment has finished an
      episode; `episode/finished_envs` and `episode/bad`.
    """
    known = finished_envs == num_envs and episodes > 0
    total_return, length, success, cost = total if known else np.full(4, np.nan)
    episodes = max(episodes, 1)
    return {
        "episode/count": float(count),
        "episode/return": float(total_return / episodes),
        "episode/cost": float(cost / episodes),
        "episode/length": float(length / episodes),
        "episode/success": float(success / episodes),
        "episode/cost_rate": float(cost / length),
        "episode/finished_envs": float(finished_envs),
        "episode/bad": float(bad),
    }
