"""What the toy tasks share: streams, episodes, saved states; a task says how it starts, moves and looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Obs, Spec, Step
from jsafe.spaces import Discrete


class Moved(NamedTuple):
    """What an action did: `reward [N]`, `cost [N, M]`, `terminated [N]`, and the new values of some state entries."""

    reward: np.ndarray
    cost: np.ndarray
    terminated: np.ndarray
    state: dict[str, np.ndarray]


class ToyOptimum(NamedTuple):
    """Solution of a constrained task.

    `reward` is a scalar; `cost` and `multiplier` (dReward/dLimit) are `[M]`. Where speed is the choice, `speed [M]`.
    """

    reward: float
    cost: np.ndarray
    multiplier: np.ndarray
    speed: np.ndarray | None = None


class Toy:
    """N toy tasks with the same-step autoreset, in plain numpy.

    Environment i of `reset(seed=s)` has the random stream s + i: results do not depend on the number of environments.

    Args:
      spec: Spaces and names.
      num_envs: Number of environments N.
      seed: Stream of environment 0.
      state: Arrays `[N, ...]` that an episode consists of, besides `elapsed`.
      fresh_draws, step_draws: Uniform numbers that an episode's start and a step take.
    """

    _streams: np.ndarray
    _counters: np.ndarray

    def __init__(
        self, spec: Spec, num_envs: int, seed: int, state: dict[str, np.ndarray], fresh_draws: int, step_draws: int
    ):
        self.spec, self.num_envs = spec, num_envs
        self._fresh_draws, self._step_draws = fresh_draws, step_draws
        self._seed(checks.integer("seed", seed, 0, 2**32 - self.num_envs))
        self._state = state | {"elapsed": np.zeros(num_envs, np.int64)}
        self._running = False

    # ---- what a task says ----------------------------------------------------------------------------------------

    def _fresh(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """State entries `[N, ...]` of episodes that begin, from uniform numbers `[N, D]`; the others become 0."""
        raise NotImplementedError

    def _move(self, actions: np.ndarray, draws: np.ndarray) -> Moved:
        """The outcome of checked actions."""
        raise NotImplementedError

    def _observe(self) -> Obs:
        """New arrays `[N, ...]`."""
        raise NotImplementedError

    # ---- the interface -------------------------------------------------------------------------------------------

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> Obs:
        """Starts new episodes and returns observations `[N, ...]`: see `jsafe.envs.VectorEnv.reset`."""
        chosen = np.ones(self.num_envs, bool)
        if mask is not None:
            rows = checks.mask(mask, self.num_envs, seed)
            chosen[:] = False
            chosen[rows] = True
        elif seed is not None:
            self._seed(seed)
        self._begin(chosen)
        self._running = True
        return self._observe()

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Steps all environments; those that end are reset in the same call.

        Args:
          actions: `[N, A]` in the units of the action box, clipped to it; or choices `[N]`.
          mask: `[N]` booleans, which environments to step; the others stand still. None: all.

        Returns:
          A `Step`; `info["success"]` says which episodes reached their goal (or the horizon, where there is none).

        Raises:
          ValueError: For a wrong shape or type, actions that are not finite, or a step before the first reset.
        """
        if not self._running:
            raise ValueError("step called before reset")
        actions = self._checked(actions)
        still = np.zeros(self.num_envs, bool)
        if mask is not None:
            still[:] = True
            still[checks.mask(mask, self.num_envs)] = False
        state, counters = self._state, self._counters
        reward, cost, terminated, changes = self._move(actions, self._draw(self._step_draws))
        self._counters = np.where(still, counters, self._counters)
        changes = changes | {"elapsed": state["elapsed"] + 1}
        for name, value in changes.items():
            held = still.reshape((-1,) + (1,) * (value.ndim - 1))
            state[name] = np.where(held, state[name], value)
        reward, cost = np.where(still, 0.0, reward), np.where(still[:, None], 0.0, cost)
        terminated = terminated & ~still
        truncated = (state["elapsed"] >= self.spec.horizon) & ~terminated & ~still
        success = self._success(reward, terminated, truncated)
        final_obs = self._observe()
        ended = terminated | truncated
        if ended.any():
            self._begin(ended)
        obs = self._observe()
        info = {"success": success} | {name: cost[:, m].copy() for m, name in enumerate(self.spec.cost_names)}
        return Step(obs, reward, cost, terminated, truncated, final_obs, info)

    def observe(self) -> Obs:
        """The current observations `[N, ...]`."""
        return self._observe()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, as numpy arrays and scalars."""
        return {
            "streams": self._streams.copy(),
            "counters": self._counters.copy(),
            "running": self._running,
            **{name: value.copy() for name, value in self._state.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, bit for bit; ValueError, and no change, if it does not fit."""
        count = np.shape(state.get("elapsed", ()))
        if count != (self.num_envs,):
            raise ValueError(f"state is of {count} environments, this one has {self.num_envs}")
        wanted = self.state_dict()
        checks.fits("state", {k: v for k, v in state.items() if k != "running"},
                    {k: np.shape(v) for k, v in wanted.items() if k != "running"})  # fmt: skip
        self._streams = np.array(state["streams"], np.uint64)
        self._counters = np.array(state["counters"], np.uint64)
        self._running = bool(state["running"])
        self._state = {name: np.array(state[name], value.dtype) for name, value in self._state.items()}

    def close(self) -> None:
        """Nothing to release."""

    # ---- inside --------------------------------------------------------------------------------------------------

    def _success(self, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
        return truncated.copy()

    def _checked(self, actions: Any) -> np.ndarray:
        if isinstance(self.spec.action, Discrete):
            return checks.choices(actions, self.num_envs, self.spec.action.n)
        array = checks.actions(actions, self.num_envs, self.spec.act_dim)
        return np.clip(array, self.spec.action_low, self.spec.action_high)

    def _seed(self, seed: int | Sequence[int]) -> None:
        self._streams = np.array(checks.seeds(seed, self.num_envs), np.uint64)
        self._counters = np.zeros(self.num_envs, np.uint64)

    def _draw(self, count: int) -> np.ndarray:
        """`[N, count]` uniform numbers in [0, 1), counter-based: the streams of all environments vectorise."""
        index = self._counters[:, None] + np.arange(count, dtype=np.uint64)
        self._counters = self._counters + np.uint64(count)
        return (_mix(_mix(self._streams)[:, None] + index) >> np.uint64(11)) * 2.0**-53

    def _begin(self, chosen: np.ndarray) -> None:
        counters = self._counters
        fresh = self._fresh(self._draw(self._fresh_draws))
        self._counters = np.where(chosen, self._counters, counters)
        for name, value in self._state.items():
            where = chosen.reshape((-1,) + (1,) * (value.ndim - 1))
            self._state[name] = np.where(where, fresh.get(name, 0), value).astype(value.dtype)


def limits(limit: float | Sequence[float], num_costs: int, per: float = 1.0) -> np.ndarray:
    """Positive limits `[M]`, divided by `per`; ValueError otherwise."""
    values = np.broadcast_to(np.asarray(limit, float), (num_costs,)) / per
    if not (values > 0).all():
        raise ValueError(f"limit must be positive, got {limit}")
    return values


def _mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014) of uint64 numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
