"""What an environment is to its user: its sizes, bounds and the result of a step."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spec:
    """Sizes and names of a vector environment.

    Attributes:
      id: Name it was made by.
      obs_dim: Width of an observation.
      act_dim: Number of action components.
      num_costs: Number of cost columns M.
      horizon: Steps after which an episode is truncated.
      action_low, action_high: Action box, one number per component.
      cost_names: Name of each cost column.
      obs_slices: (start, stop) of each named part of the observation, in order.
      dt: Seconds per environment step.
    """

    id: str
    obs_dim: int
    act_dim: int
    num_costs: int
    horizon: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    cost_names: tuple[str, ...]
    obs_slices: dict[str, tuple[int, int]]
    dt: float


class Step(NamedTuple):
    """Result of one batched step; all arrays are new and belong to the caller.

    Attributes:
      obs: `[N, O]`; the reset observation where an episode ended in this step.
      reward: `[N]`.
      cost: `[N, M]`.
      terminated, truncated: bool `[N]`; both may be true.
      final_obs: `[N, O]`; the last observation of episodes that ended, equal to `obs` elsewhere.
      info: Arrays `[N]`: `success`, `diverged` (bool) and every `cost_*` of the task.
    """

    obs: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: np.ndarray
    info: dict[str, np.ndarray]
