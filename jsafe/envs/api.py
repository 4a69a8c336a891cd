"""What an environment is to its user: its spaces, its functions and the result of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jsafe import spaces
from jsafe.spaces import Box, Space

Obs = Any
"""Arrays with the leading axis N, one for each leaf of the observation space (a single array unless it is a `Tree`)."""

AnyArray = Any
"""A numpy array in a batch of environments, a jax array in the program of one that runs on the device."""

DIVERGED_REWARD = -10.0
"""Reward of a step in which a simulation broke down, as the official exception path gives."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """Spaces and names of a vector environment.

    Attributes:
      id: Name it was made by.
      obs: Space of one observation; vectors of numbers come as float64 arrays.
      action: Space of one action; continuous ones are vectors.
      num_costs: Number of cost columns M.
      horizon: Steps after which an episode is truncated.
      cost_names: Name of each cost column.
      obs_slices: (start, stop) of each named part of a flat observation, in order.
      dt: Seconds per environment step.
      action_repeat: Steps of the simulation that an action is held for, at most: a step of this environment.
      start: The first observation of every episode, where it is always the same; else empty.
      safe: `(component, lowest, highest)` of the components of a flat observation that decide whether a state is safe,
        where they do; else empty.
      action_names: Name of each component of a continuous action, where they have names; else empty.
    """

    id: str
    obs: Space
    action: Space
    num_costs: int
    horizon: int
    cost_names: tuple[str, ...]
    obs_slices: dict[str, tuple[int, int]]
    dt: float
    action_repeat: int = 1
    start: tuple[float, ...] = ()
    safe: tuple[tuple[int, float, float], ...] = ()
    action_names: tuple[str, ...] = ()

    @property
    def obs_dim(self) -> int:
        """Width of a flat observation; ValueError if it is none."""
        if not (isinstance(self.obs, Box) and self.obs.flat):
            raise ValueError(f"observations of {self.id!r} are {self.obs}, not a flat vector")
        return self.obs.width

    @property
    def act_dim(self) -> int:
        """Number of components of a continuous action; ValueError if actions are choices."""
        return self._box().width

    @property
    def action_low(self) -> tuple[float, ...]:
        """Lower end of the action box, one number per component; ValueError if actions are choices."""
        return self._bound(0)

    @property
    def action_high(self) -> tuple[float, ...]:
        """Upper end of the action box; ValueError if actions are choices."""
        return self._bound(1)

    def _box(self) -> Box:
        if not isinstance(self.action, Box):
            raise ValueError(f"actions of {self.id!r} are {self.action}, not continuous")
        return self.action

    def _bound(self, which: int) -> tuple[float, ...]:
        box = self._box()
        return tuple(np.broadcast_to(spaces.bounds(box)[which], (box.width,)).tolist())


class RenderError(RuntimeError):
    """Pictures cannot be drawn on this machine; the message says what is missing."""


class Step(NamedTuple):
    """Result of one batched step; all arrays are new and belong to the caller.

    Attributes:
      obs: `[N, ...]`; the reset observation where an episode ended in this step.
      reward: `[N]`.
      cost: `[N, M]`.
      terminated, truncated: bool `[N]`; both may be true.
      final_obs: `[N, ...]`; the last observation of episodes that ended, equal to `obs` elsewhere.
      info: Arrays `[N]`: `success`, `diverged` (bool) and every `cost_*` of the task; `raw_steps` where actions are
        repeated.
    """

    obs: Obs
    reward: AnyArray
    cost: AnyArray
    terminated: AnyArray
    truncated: AnyArray
    final_obs: Obs
    info: dict[str, AnyArray]


@runtime_checkable
class VectorEnv(Protocol):
    """N environments that are stepped together; episodes that end start anew in the same step.

    Attributes:
      spec: Spaces and names.
      num_envs: N.
    """

    spec: Spec
    num_envs: int

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> Obs:
        """Starts new episodes and returns the observations of all environments.

        Args:
          seed: Environment i gets the random stream `seed + i`, or the i-th of N seeds; None: streams go on.
          mask: `[N]` booleans, which environments to reset; the others stay where they are. None: all. Not with `seed`.
        """

    def step(self, actions: np.ndarray) -> Step:
        """Advances every environment by one step.

        Args:
          actions: `[N, A]` in the units of the action box, or integers `[N]` (`[N, K]`) for choices.
        """

    def state_dict(self) -> dict[str, Any]:
        """What later steps depend on, as nested dictionaries of arrays and numbers."""

    def load_state_dict(self, saved: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned; ValueError, and no change, if it does not fit."""

    def close(self) -> None:
        """Gives threads and processes back."""
