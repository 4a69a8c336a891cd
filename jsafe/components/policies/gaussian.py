"""A diagonal Gaussian over continuous actions."""

from __future__ import annotations

import dataclasses

from jsafe.components.policies.base import PolicyNetwork
from jsafe.nets.heads import Activation, gaussian_actor
from jsafe.options import Options, number, part
from jsafe.types import EnvSpec


@part("policy", "gaussian")
@dataclasses.dataclass(frozen=True)
class GaussianPolicy(Options):
    """The mean is a perceptron of the observation, the log standard deviation a learned vector without bounds."""

    hidden: tuple[int, ...] = number((64, 64), low=1)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    init_log_std: float = number(0.0)
    """Initial log standard deviation of each component; actions count within [-1, 1]."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> PolicyNetwork:
        """The network, without memory."""
        net = gaussian_actor(
            spec.obs_dim, spec.act_dim, hidden=self.hidden, act=self.activation, log_std=self.init_log_std
        )
        return PolicyNetwork(net.init, lambda params, memory, obs: (net.apply(params, obs), memory))
