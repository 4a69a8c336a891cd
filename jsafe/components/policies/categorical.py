"""Categorical distributions over choices."""

from __future__ import annotations

import dataclasses

from jsafe.components.policies.base import Perceptron, categorical_head
from jsafe.nets.heads import Actor
from jsafe.options import part
from jsafe.types import EnvSpec


@part("policy", "categorical")
@dataclasses.dataclass(frozen=True)
class CategoricalPolicy(Perceptron):
    """The logits are a perceptron of the observation; several choices (`Discrete((3, 2))`) are independent given it."""

    def head(self, spec: EnvSpec, width: int) -> Actor:
        """See `categorical_head`."""
        return categorical_head(self.kind, spec, width, self)
