"""Action repeat: every action is held for several steps of the environment inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jsafe.envs import checks
from jsafe.envs.api import Obs, Step


class RepeatedEnv:
    """N environments in which an action is held for up to k steps; what the environment inside has, this has, too.

    Rewards and costs of the k steps are summed. An environment whose goal was met or whose episode ended stands still
    for the rest of them, so that what is observed after a goal is the state in which the next one appeared. Of such a
    step (`info["success"]`) the observation shows another goal than the one before: a model of the dynamics must not
    learn from it.

    `spec.horizon` is that of the environment inside divided by k: episodes in which goals were met can be a little
    longer. `info["raw_steps"] [N]` are the steps that were taken inside.

    Args:
      env: Batched environment whose `step` takes a `mask`.
      repeat: k.

    Raises:
      ValueError: If k is not a positive integer.

    Source: the action repeat of OmniSafe's model-based wrapper.
    """

    def __init__(self, env: Any, repeat: int):
        self.env, self.repeat = env, checks.integer("action_repeat", repeat)
        spec, self.num_envs = env.spec, env.num_envs
        self.spec = dataclasses.replace(
            spec, horizon=-(-spec.horizon // repeat), dt=spec.dt * repeat, action_repeat=repeat * spec.action_repeat
        )

    def reset(self, seed: int | Sequence[int] | None = None, *, mask: np.ndarray | None = None) -> Obs:
        """Starts new episodes: see `jsafe.envs.VectorEnv.reset`."""
        return self.env.reset(seed, mask=mask)

    def step(self, actions: np.ndarray, *, mask: np.ndarray | None = None) -> Step:
        """Advances every environment by up to k steps inside.

        Args:
          actions: `[N, A]` in the action box of `spec`.
          mask: `[N]` booleans, which environments to step; the others stand still, without reward and cost. None: all.

        Returns:
          A `Step`; `info` holds sums of what costs, whether anything was true in any of the steps, and the newest value
          of everything else.

        Raises:
          ValueError: If the actions have another shape, are not numbers, or are not finite.
        """
        going = np.ones(self.num_envs, bool)
        if mask is not None:
            going[:] = False
            going[checks.mask(mask, self.num_envs)] = True
        total = self.env.step(actions, mask=None if going.all() else going)
        raw = going.astype(int)
        for _ in range(1, self.repeat):
            going = going & ~(total.terminated | total.truncated | total.info["success"])
            if not going.any():
                break
            step = self.env.step(actions, mask=None if going.all() else going)
            total = Step(
                obs=_where(going, step.obs, total.obs),
                reward=total.reward + step.reward,
                cost=total.cost + step.cost,
                terminated=total.terminated | step.terminated,
                truncated=total.truncated | step.truncated,
                final_obs=_where(going, step.final_obs, total.final_obs),
                info={name: _combined(name, going, value, total.info[name]) for name, value in step.info.items()},
            )
            raw += going
        total.info["raw_steps"] = raw
        return total

    def state_dict(self) -> dict[str, Any]:
        """That of the environment inside."""
        return self.env.state_dict()

    def load_state_dict(self, saved: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned; ValueError, and no change, if it does not fit."""
        self.env.load_state_dict(saved)

    def close(self) -> None:
        """Closes the environment inside."""
        self.env.close()

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.env, name)


def _combined(name: str, going: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    if new.dtype == bool:
        return new & going | old
    return old + new if name.startswith("cost_") else _where(going, new, old)


def _where(mask: np.ndarray, new: Any, old: Any) -> Any:
    if isinstance(new, dict):
        return {name: _where(mask, value, old[name]) for name, value in new.items()}
    return np.where(mask.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)
