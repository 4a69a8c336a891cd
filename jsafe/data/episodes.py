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

    Args:
      num_envs: Number of environments N.
      num_costs: Number of cost signals M.
    """

    def __init__(self, num_envs: int, num_costs: int):
        # Columns: return, length, success so far, then the costs.
        self._running = np.zeros((num_envs, 3 + num_costs))
        self._window: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._count = 0

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
        self._window.extend(rows)
        self._count += len(rows)
        return Finished(env, rows[:, 0], rows[:, 3:], rows[:, 1], rows[:, 2] > 0)

    def drop_running(self) -> None:
        """Forgets the unfinished episodes (the environments were reset)."""
        self._running[:] = 0

    def pop(self) -> dict[str, float]:
        """Episodes finished since the last call, and means over the last 100; NaN if none ever finished.

        Returns:
          `episode/count`; `episode/return`, `episode/cost` (summed over M), `episode/length`, `episode/success` per
          episode; `episode/cost_rate`: cost per environment step.
        """
        count, self._count = self._count, 0
        window = np.array(self._window) if self._window else np.full((1, self._running.shape[1]), np.nan)
        cost = window[:, 3:].sum()
        return {
            "episode/count": float(count),
            "episode/return": float(window[:, 0].mean()),
            "episode/cost": float(cost / len(window)),
            "episode/length": float(window[:, 1].mean()),
            "episode/success": float(window[:, 2].mean()),
            "episode/cost_rate": float(cost / window[:, 1].sum()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as arrays."""
        window = np.array(self._window).reshape(-1, self._running.shape[1])
        return {"running": self._running.copy(), "window": window, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._running = np.array(state["running"], np.float64)
        self._window = deque(np.array(state["window"], np.float64), maxlen=WINDOW)
        self._count = int(state["count"])
