"""A diagonal Gaussian over continuous actions."""

from __future__ import annotations

import dataclasses

from jsafe.components.policies.base import Perceptron, gaussian_head
from jsafe.nets.heads import Actor
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("policy", "gaussian")
@dataclasses.dataclass(frozen=True)
class GaussianPolicy(Perceptron):
    """The mean is a perceptron of the observation, the log standard deviation a learned vector without bounds."""

    init_log_std: float = number(0.0)
    """Initial log standard deviation of each component; actions count within [-1, 1]."""

    def head(self, spec: EnvSpec, width: int) -> Actor:
        """See `gaussian_head`."""
        return gaussian_head(self.kind, spec, width, self)
