"""A Beta distribution over continuous actions."""

from __future__ import annotations

import dataclasses

from jsafe.components.policies.base import Perceptron, continuous
from jsafe.nets.heads import Actor, beta_actor
from jsafe.options import part
from jsafe.types import EnvSpec


@part("policy", "beta")
@dataclasses.dataclass(frozen=True)
class BetaPolicy(Perceptron):
    """Both concentrations are `1 + softplus` of a perceptron: one hill, within the box of actions.

    Nothing of it lies outside of the box, and nothing is clipped: the action that is done is the one that is scored.

    Source: Chou, Maturana & Scherer 2017, Improving Stochastic Policy Gradients in Continuous Control with Deep
    Reinforcement Learning using the Beta Distribution (ICML), section 3; also the head of SEditor's PPO-Lagrangian.
    """

    def head(self, spec: EnvSpec, width: int) -> Actor:
        """See `jsafe.nets.heads.beta_actor`; ValueError if actions are choices."""
        continuous(self.kind, spec)
        return beta_actor(width, spec.act_dim, hidden=self.hidden, act=self.activation)
