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
      log: Finished episodes since somebody has last emptied the list, oldest first; None: not kept.
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
        self.log: list[Finished] | None = None
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
        ended_now = Finished(env, rows[:, 0], rows[:, 3:], rows[:, 1], rows[:, 2] > 0)
        if self.log is not None:
            self.log.append(ended_now)
        return ended_now

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
        """Number of episodes in the window, and their sums `[3 + M]`: return, length, success, costs."""
        window = np.array(self._window).reshape(-1, self._running.shape[1])
        return len(window), window.sum(axis=0)

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
      total: Their sums, `[3 + M]`: return, length, success and each cost.
      count: Episodes finished since the last call.
      finished_envs: Environments that have finished an episode.
      num_envs: Of how many.
      bad: Episodes ended because of bad values, since the start.

    Returns:
      `episode/count`, `episode/window` (the number behind the means); `episode/return`, `episode/length`,
      `episode/success` and `episode/cost` per episode and `episode/cost_rate` per environment step, NaN until every
      environment has finished an episode; `episode/finished_envs` and `episode/bad`. Of several costs each has a column
      of its own, `episode/cost/0` and so on: a sum over them means nothing.
    """
    known = finished_envs == num_envs and episodes > 0
    total_return, length, success, *costs = total if known else np.full(len(total), np.nan)
    behind = max(episodes, 1)
    found = {
        "episode/count": float(count),
        "episode/window": float(episodes),
        "episode/return": float(total_return / behind),
        "episode/length": float(length / behind),
        "episode/success": float(success / behind),
        "episode/finished_envs": float(finished_envs),
        "episode/bad": float(bad),
    }
    for i, cost in enumerate(costs):
        index = "" if len(costs) == 1 else f"/{i}"
        found |= {f"episode/cost{index}": float(cost / behind), f"episode/cost_rate{index}": float(cost / length)}
    return found
