"""A task that needs memory: what the first observation shows decides what the last action is worth."""

from __future__ import annotations

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Spec
from jsafe.envs.toy.base import Moved, Toy, ToyOptimum, limits
from jsafe.spaces import Box, Discrete

RECALL = "Toy-Recall-v0"


class ToyRecall(Toy):
    """N tasks of remembering, `Toy-Recall-v0`: two doors, one of which is guarded.

    The first observation tells which door is guarded (cue -1: the first, 1: the second), the others do not. Only in the
    last step of the episode the action counts: 0 and 1 open a door, 2 stays out. The free door pays 1, the guarded one
    pays 2 and costs 1, staying out pays nothing. Under a limit d on the expected cost of an episode, the best policy
    with a memory opens the guarded door in a share d of the episodes and the free one otherwise: reward `1 + d`.
    Without a memory every door is guarded half of the time: reward `min(3 d, 1.5)` (see `memoryless`).

    The observation is `[cue (0 after the first), whether this action counts, elapsed share of the episode]`.

    Args:
      num_envs: Number of environments N.
      seed: Stream of environment 0.
      delay: Steps before the door, the one with the cue included, whose actions change nothing.

    Raises:
      ValueError: For a value outside of what is named above.
    """

    def __init__(self, num_envs: int = 1, seed: int = 0, *, delay: int = 3):
        checks.integer("num_envs", num_envs)
        checks.integer("delay", delay)
        spec = Spec(
            id=RECALL,
            obs=Box((3,), -1.0, 1.0),
            action=Discrete(3),
            num_costs=1,
            horizon=delay + 1,
            cost_names=("cost_guard",),
            obs_slices={"cue": (0, 1), "counts": (1, 2), "time": (2, 3)},
            dt=0.1,
        )
        super().__init__(spec, num_envs, seed, {"guarded": np.zeros(num_envs, np.int64)}, fresh_draws=1, step_draws=0)

    def optimum(self, limit: float) -> ToyOptimum:
        """The best policy under a limit on the cost of an episode; reward and cost are sums over an episode, too."""
        (share,) = np.minimum(limits(limit, 1), 1.0)
        return ToyOptimum(float(1 + share), np.array([share]), np.array([float(share < 1)]))

    def memoryless(self, limit: float) -> ToyOptimum:
        """The best policy that sees the last observation alone."""
        (cost,) = np.minimum(limits(limit, 1), 0.5)
        return ToyOptimum(float(3 * cost), np.array([cost]), np.array([3.0 * (cost < 0.5)]))

    def _fresh(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        return {"guarded": (draws[:, 0] < 0.5).astype(np.int64)}

    def _counts(self) -> np.ndarray:
        return self._state["elapsed"] == self.spec.horizon - 1

    def _move(self, actions: np.ndarray, draws: np.ndarray) -> Moved:
        counts = self._counts()
        guarded = counts & (actions == self._state["guarded"])
        opened = counts & (actions != 2)
        return Moved(opened + 1.0 * guarded, guarded[:, None].astype(float), counts, {})

    def _success(self, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        return terminated & (reward == 1)

    def _observe(self) -> np.ndarray:
        elapsed = self._state["elapsed"]
        cue = np.where(elapsed == 0, 2 * self._state["guarded"] - 1, 0)
        return np.stack([cue, self._counts(), elapsed / self.spec.horizon], axis=1).astype(float)
