"""Episodes that end where their cost exceeds the limit."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from jsafe.components.compat import Compat, Released
from jsafe.components.transforms.base import Transform, local
from jsafe.options import part
from jsafe.types import Array, CMDPTransform, EnvSpec, TransformStep


class TerminationParams(NamedTuple):
    """`limit [M]`, cost per episode."""

    limit: Array


@part("transform", "early_termination")
@dataclasses.dataclass(frozen=True)
class EarlyTermination(Released):
    """Ends an episode, with reward 0, as soon as an accumulated cost exceeds its limit.

    As released the counter is not reset where an episode ends by itself, so that cost carries over within an epoch
    (there also across epochs); with one episode per environment and epoch that cannot act.

    Source: Sun et al. 2021 (arXiv 2107.04200), definition 2. The context models of the paper are not part of it.
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Transform:
        """The transform, without a state."""

        def init(params, num_envs):
            return np.zeros((num_envs, spec.num_costs), np.float32)

        def step(params, z, reward, cost, terminated, truncated):
            xp, p = local(params, z)
            z_final = (z + cost).astype(z.dtype)
            over = xp.any(z_final > p.limit, axis=-1)
            fresh = over if compat == "omnisafe" else over | xp.asarray(terminated | truncated)
            z_next = xp.where(fresh[:, None], 0, z_final).astype(z.dtype)
            return TransformStep(z_next, z_final, xp.where(over, 0, reward).astype(reward.dtype), terminated | over)

        data = CMDPTransform(0, init, lambda obs, z: obs, step)
        return Transform(data, lambda limit: (), params=lambda state, limit: TerminationParams(limit))
