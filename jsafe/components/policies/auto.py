"""The policy that fits the actions."""

from __future__ import annotations

import dataclasses

from jsafe.components.policies.base import Perceptron, fitting_head
from jsafe.nets.heads import Actor
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("policy", "auto")
@dataclasses.dataclass(frozen=True)
class AutoPolicy(Perceptron):
    """`gaussian` for continuous actions, `categorical` for choices."""

    init_log_std: float = number(0.0)
    """Initial log standard deviation of each component of a continuous action, which counts within [-1, 1]."""

    def head(self, spec: EnvSpec, width: int) -> Actor:
        """See `fitting_head`."""
        return fitting_head(self.kind, spec, width, self)
