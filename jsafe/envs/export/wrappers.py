"""Wrappers of six results (observation, reward, cost, terminated, truncated, info), by Safety-Gymnasium's names."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np


class SafeWrapper(gymnasium.Wrapper):
    """Hands everything through; Gymnasium's own wrapper does not mind the sixth result."""


class SafeAutoResetWrapper(SafeWrapper):
    """Starts the next episode in the step in which the last one ends; what was last seen goes into the info."""

    def step(self, action: Any) -> Any:
        """Six things; `final_observation` and `final_info` where an episode ended."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)  # type: ignore[misc]
        if terminated or truncated:
            last = {"final_observation": obs, "final_info": info}
            obs, info = self.env.reset()
            info = {**info, **last}
        return obs, reward, cost, terminated, truncated, info


class SafeTimeLimit(SafeWrapper):
    """Truncates an episode after a number of steps."""

    def __init__(self, env: gymnasium.Env, max_episode_steps: int):
        super().__init__(env)
        if isinstance(max_episode_steps, bool) or not isinstance(max_episode_steps, int) or max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be a positive integer, got {max_episode_steps!r}")
        self._most, self._steps = max_episode_steps, 0

    def reset(self, **options: Any) -> Any:
        """As the environment's."""
        self._steps = 0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        """Six things."""
        self._steps += 1
        obs, reward, cost, terminated, truncated, info = self.env.step(action)  # type: ignore[misc]
        return obs, reward, cost, terminated, truncated or self._steps >= self._most, info


class SafeRescaleAction(SafeWrapper):
    """Takes actions in `[min_action, max_action]`, numbers or an array each, and maps them to the environment's box."""

    def __init__(self, env: gymnasium.Env, min_action: Any, max_action: Any):
        super().__init__(env)
        box: Any = env.action_space
        if not isinstance(box, gymnasium.spaces.Box):
            raise ValueError(f"actions must be a Box, got {box}")
        low, high = (np.broadcast_to(np.asarray(end, box.dtype), box.shape) for end in (min_action, max_action))
        if not (low < high).all():
            raise ValueError(f"min_action must be below max_action, got {min_action!r} and {max_action!r}")
        self.action_space = gymnasium.spaces.Box(low, high, dtype=box.dtype.type)
        self.min_action, self.max_action = low, high
        self._to = box.low, box.high

    def rescale(self, action: Any) -> np.ndarray:
        """An action, or several, in the environment's units."""
        share = (np.asarray(action, float) - self.min_action) / (self.max_action - self.min_action)
        return np.clip(self._to[0] + share * (self._to[1] - self._to[0]), *self._to)

    def step(self, action: Any) -> Any:
        """Six things."""
        return self.env.step(self.rescale(action))


class SafeUnsqueeze(SafeWrapper):
    """Gives every result, arrays in the info included, a leading axis of length 1."""

    def step(self, action: Any) -> Any:
        """Six things; the action may have the axis, too."""
        *results, info = self.env.step(np.reshape(action, self.env.action_space.shape))
        return (*(np.asarray(result)[None] for result in results), self._info(info))

    def reset(self, **options: Any) -> Any:
        """Observation and info."""
        obs, info = self.env.reset(**options)
        return np.asarray(obs)[None], self._info(info)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        return {name: value[None] if isinstance(value, np.ndarray) else value for name, value in info.items()}


class _RunningStatistics:
    def __init__(self, shape: tuple[int, ...]):
        self.mean, self.var, self.count = np.zeros(shape), np.ones(shape), 1e-4

    def update(self, rows: np.ndarray) -> None:
        """Chan et al.'s formula for the union of two samples."""
        mean, var, count = rows.mean(axis=0), rows.var(axis=0), len(rows)
        total, shift = self.count + count, mean - self.mean
        moments = self.var * self.count + var * count + shift**2 * self.count * count / total
        self.mean, self.var, self.count = self.mean + shift * count / total, moments / total, total


class SafeNormalizeObservation(SafeWrapper):
    """Observations less their running mean, over their running deviation; of one environment or of a batch."""

    def __init__(self, env: Any, epsilon: float = 1e-8):
        if isinstance(env, gymnasium.Env):
            super().__init__(env)
        else:  # a batch is no `gymnasium.Env`
            self.env, self.metadata = env, env.metadata
        self.num_envs, self.is_vector_env = getattr(env, "num_envs", 1), hasattr(env, "num_envs")
        single = env.single_observation_space if self.is_vector_env else env.observation_space
        self.obs_rms, self.epsilon = _RunningStatistics(single.shape), epsilon

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "env" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.env, name)

    def step(self, action: Any) -> Any:
        """Six things; last observations in the info are normalised with the same statistics."""
        obs, *results, info = self.env.step(action)
        obs = self.normalize(obs)
        if "final_observation" in info:
            last = np.asarray(info["final_observation"], float)
            info = {**info, "original_final_observation": last, "final_observation": self._scaled(last)}
        return (obs, *results, info)

    def reset(self, **options: Any) -> Any:
        """Observation and info."""
        obs, info = self.env.reset(**options)
        return self.normalize(obs), info

    def normalize(self, obs: np.ndarray) -> np.ndarray:
        """Adds observations to the statistics, and scales them."""
        self.obs_rms.update(obs if self.is_vector_env else obs[None])
        return self._scaled(obs)

    def _scaled(self, obs: np.ndarray) -> np.ndarray:
        return (obs - self.obs_rms.mean) / np.sqrt(self.obs_rms.var + self.epsilon)


class SafetyGymnasium2Gymnasium(SafeWrapper):
    """Five results, with the cost in the info."""

    def step(self, action: Any) -> Any:
        """Observation, reward, terminated, truncated, info."""
        obs, reward, cost, terminated, truncated, info = self.env.step(action)  # type: ignore[misc]
        return obs, reward, terminated, truncated, {**info, "cost": cost}


class Gymnasium2SafetyGymnasium(SafeWrapper):
    """Six results, with the cost from the info.

    Raises:
      KeyError: In a step whose info has no `cost`.
    """

    def step(self, action: Any) -> tuple[Any, SupportsFloat, Any, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Observation, reward, cost, terminated, truncated, info."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, info["cost"], terminated, truncated, info
