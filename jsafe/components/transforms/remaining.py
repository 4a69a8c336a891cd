"""What is left of an episode's limit, of its time and of a wish for its return, beside the observation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jsafe.components.transforms.base import local
from jsafe.types import Array, CMDPTransform, TransformStep


class RemainingParams(NamedTuple):
    """The limits `[M]` of an episode, its longest duration in steps (a scalar), and the return wished for, `[1]`, of
    those that take one."""

    limit: Array
    horizon: Array
    wish: Any = ()


def remaining_budget(num_costs: int, wish: bool = False) -> CMDPTransform:
    """Appends `[k - C_t (M), T - t]`: what is left of the limits (below 0 once they are exceeded) and of the time.

    Rewards and endings stay as they are. For policies that act on it, and are trained without.

    Args:
      num_costs: M.
      wish: Append `R* - R_t`, too: what is still to be earned of the return wished for.
    """

    def init(params, num_envs):
        return np.tile(start(np, params).astype(np.float32), (num_envs, 1))

    def start(xp, params):
        return xp.concatenate([xp.reshape(xp.asarray(value), (-1,)) for value in params])

    def augment(obs, z):
        xp = obs.__array_namespace__()
        return xp.concatenate([obs, xp.asarray(z).astype(obs.dtype)], axis=-1)

    def step(params, z, reward, cost, terminated, truncated):
        xp, p = local(params, z)
        earned = [xp.asarray(reward)[:, None]] * wish
        spent = xp.concatenate([xp.asarray(cost), xp.ones((z.shape[0], 1), z.dtype), *earned], axis=-1)
        z_final = (z - spent).astype(z.dtype)
        ended = xp.asarray(terminated | truncated)
        return TransformStep(
            xp.where(ended[:, None], start(xp, p), z_final).astype(z.dtype), z_final, reward, terminated
        )

    return CMDPTransform(num_costs + 1 + wish, init, augment, step)
