"""A grid with a forbidden cell on the shortest way: discrete moves, and a choice between two ways."""

from __future__ import annotations

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec
from jsafe.envs.toy.base import Moved, Toy, ToyOptimum, limits
from jsafe.spaces import Box, Discrete

GRID = "Toy-Grid-v0"
STEP_REWARD, GOAL_REWARD = -0.1, 1.0
_MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Row and column of the moves up, down, left, right."""


class ToyGrid(Toy):
    """N walks through a grid, `Toy-Grid-v0`: from the middle of the left edge to the middle of the right edge.

    A wall of one column stands in between, with a hole in the middle: the forbidden cell, which costs 1 whenever it is
    entered. Around either end of the wall the way is free, and `2 detour` steps longer:

        . . . . .
        . . # . .
        S . x . G        (width 5, detour 2)
        . . # . .
        . . . . .

    Every step pays -0.1, the goal 1, where the episode ends. Moves into the wall or over the edge leave the walker
    where it is. The best policy under a limit d on the expected cost of an episode goes through the forbidden cell in a
    share d of the episodes: a mixture of both ways, which a stationary policy can draw at the start.

    The observation is the cell one-hot, `[rows * width]` row by row.

    Args:
      num_envs: Number of environments N.
      seed: Stream of environment 0 (nothing is drawn: the task is deterministic).
      width: Columns, odd and at least 3.
      detour: Half height of the wall plus one: rows to climb to get around it.
      horizon: Longest episode, in steps; at least the way around.

    Raises:
      ValueError: For a value outside of what is named above.
    """

    def __init__(self, num_envs: int = 1, seed: int = 0, *, width: int = 5, detour: int = 2, horizon: int = 50):
        for name, value, least in (("num_envs", num_envs, 1), ("width", width, 3), ("detour", detour, 1)):
            checks.integer(name, value, least)
        if width % 2 == 0:
            raise ValueError(f"width must be odd, got {width}")
        self._short = width - 1
        self._long = self._short + 2 * detour
        checks.integer("horizon", horizon, self._long)
        self._shape = rows, columns = (2 * detour + 1, width)
        self._start, self._goal = (detour, 0), (detour, width - 1)
        self._forbidden = (detour, width // 2)
        self._wall = np.zeros(self._shape, bool)
        self._wall[1:-1, width // 2] = True
        self._wall[self._forbidden] = False
        spec = Spec(
            id=GRID,
            obs=Box((rows * columns,), 0.0, 1.0),
            action=Discrete(len(_MOVES)),
            num_costs=1,
            horizon=horizon,
            cost_names=("cost_forbidden",),
            obs_slices={"cell": (0, rows * columns)},
            dt=0.1,
        )
        cell = np.tile(np.array(self._start), (num_envs, 1))
        super().__init__(spec, num_envs, seed, {"cell": cell}, fresh_draws=0, step_draws=0)

    def optimum(self, limit: float) -> ToyOptimum:
        """The best policy under a limit on the cost of an episode; reward and cost are sums over an episode, too."""
        (share,) = np.minimum(limits(limit, 1), 1.0)
        short, long = (GOAL_REWARD + STEP_REWARD * steps for steps in (self._short, self._long))
        multiplier = np.array([short - long if share < 1 else 0.0])
        return ToyOptimum(float(long + share * (short - long)), np.array([share]), multiplier)

    def _fresh(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        return {"cell": np.tile(np.array(self._start), (self.num_envs, 1))}

    def _move(self, actions: np.ndarray, draws: np.ndarray) -> Moved:
        cell = self._state["cell"]
        there = np.clip(cell + _MOVES[actions], 0, np.array(self._shape) - 1)
        there = np.where(self._wall[there[:, 0], there[:, 1]][:, None], cell, there)
        entered = (there == self._forbidden).all(axis=1) & (there != cell).any(axis=1)
        arrived = (there == self._goal).all(axis=1)
        reward = STEP_REWARD + GOAL_REWARD * arrived
        return Moved(reward, entered[:, None].astype(float), arrived, {"cell": there})

    def _success(self, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        return terminated.copy()

    def _observe(self) -> np.ndarray:
        cell = self._state["cell"]
        return np.eye(self._shape[0] * self._shape[1])[cell[:, 0] * self._shape[1] + cell[:, 1]]
