"""What is left of an episode's limit and of its time, beside the observation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jsafe.components.transforms.base import local
from jsafe.types import Array, CMDPTransform, TransformStep


class RemainingParams(NamedTuple):
    """The limits `[M]` of an episode, and its longest duration in steps (a scalar)."""

    limit: Array
    horizon: Array


def remaining_budget(num_costs: int) -> CMDPTransform:
    """Appends `[k - C_t (M), T - t]`: what is left of the limits (below 0 once they are exceeded) and of the time.

    Rewards and endings stay as they are. For policies that act on it, and are trained without.

    Args:
      num_costs: M.
    """

    def init(params, num_envs):
        start = np.append(np.asarray(params.limit, np.float32), np.float32(params.horizon))
        return np.tile(start, (num_envs, 1))

    def augment(obs, z):
        xp = obs.__array_namespace__()
        return xp.concatenate([obs, xp.asarray(z).astype(obs.dtype)], axis=-1)

    def step(params, z, reward, cost, terminated, truncated):
        xp, p = local(params, z)
        spent = xp.concatenate([xp.asarray(cost), xp.ones((z.shape[0], 1), z.dtype)], axis=-1)
        z_final = (z - spent).astype(z.dtype)
        start = xp.concatenate([p.limit, xp.reshape(p.horizon, (1,))])
        ended = xp.asarray(terminated | truncated)
        return TransformStep(xp.where(ended[:, None], start, z_final).astype(z.dtype), z_final, reward, terminated)

    return CMDPTransform(num_costs + 1, init, augment, step)
