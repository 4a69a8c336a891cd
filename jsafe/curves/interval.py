"""Averages of metrics between two rows of a learning curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax


class Interval:
    """Averages of metrics over the iterations since the last row.

    Metrics stay on the device until they are read; averages are of float64 sums in the order of the iterations, so
    that a run that was saved in the middle of an interval continues to the same numbers.
    """

    def __init__(self):
        self._pending: list[dict[str, jax.Array]] = []
        self._sums: dict[str, float] = {}
        self._count = 0
        self._episodes: dict[str, float] = {}

    def add(self, metrics: Mapping[str, jax.Array], episodes: Mapping[str, float]) -> None:
        """Takes the metrics of one iteration (not waited for) and the episode statistics after it."""
        self._pending.append(dict(metrics))
        finished = self._episodes.get("episode/count", 0.0) + episodes.get("episode/count", 0.0)
        self._episodes = {**episodes, "episode/count": finished}
        if len(self._pending) >= 256:
            self._settle()

    def nonfinite(self) -> list[str]:
        """Names of the metrics that were NaN or infinite in this interval."""
        self._settle()
        return sorted(name for name, value in self._sums.items() if not math.isfinite(value))

    def row(self) -> dict[str, float]:
        """The averages of the interval; starts the next one."""
        self._settle()
        row = {**self._episodes, **{name: value / self._count for name, value in sorted(self._sums.items())}}
        self._sums, self._count, self._episodes = {}, 0, {}
        return row

    def __len__(self) -> int:
        return self._count + len(self._pending)

    def state_dict(self) -> dict[str, Any]:
        """The unfinished interval."""
        self._settle()
        return {"sums": dict(self._sums), "count": self._count, "episodes": dict(self._episodes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._pending = []
        self._sums, self._count, self._episodes = dict(state["sums"]), state["count"], dict(state["episodes"])

    def forget_episodes(self) -> None:
        """Drops the statistics of episodes, and keeps the metrics."""
        self._episodes = {}

    def _settle(self) -> None:
        for metrics in jax.device_get(self._pending):
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += len(self._pending)
        self._pending = []
