"""Cost critics whose disagreement counts: an upper confidence bound."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jsafe.components.critics.base import Critics, pair, q_networks
from jsafe.components.critics.ensemble import as_one, pessimistic, squared_error_group
from jsafe.nets.perceptron import Layers
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec


def upper_bound(replicas: Array, width: float) -> Array:
    """`mean_j Q_j + width std_j Q_j` over the first axis, with the sample standard deviation; 0 for one replica."""
    centre = replicas.mean(axis=0)
    if replicas.shape[0] == 1 or width == 0:
        return centre
    variance = jnp.square(replicas - centre).sum(axis=0) / (replicas.shape[0] - 1)
    return centre + width * jnp.sqrt(jnp.maximum(variance, 1e-12))  # the root has no slope at 0


@part("critics", "upper_bound")
@dataclasses.dataclass(frozen=True)
class UpperBound(Layers):
    """The smaller of the reward's critics; of a cost the mean over its critics plus `width` standard deviations.

    Each cost critic bootstraps from its own slow copy, so that they stay apart.

    Source: Wu et al. 2024 (arXiv 2401.14758), equation 5 (conservative policy optimisation), and the authors' code.
    """

    replicas: int = number(2, low=1)
    """Critics of the reward."""
    cost_replicas: int = number(4, low=1)
    """Critics of each cost."""
    width: float = number(0.5)
    """Standard deviations above the mean, `k`."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Critics:
        """`Critics` of the reward and of the M costs."""
        del axis_name
        sizes = (spec.obs_dim, spec.action_width)
        layers: dict[str, Any] = {"hidden": self.hidden, "act": self.activation}
        reward = q_networks(*sizes, 1, replicas=self.replicas, **layers)
        cost = q_networks(*sizes, spec.num_costs, replicas=self.cost_replicas, **layers)
        rewards = squared_error_group(reward, pessimistic, as_one(pessimistic))
        return pair(
            rewards, squared_error_group(cost, lambda q: upper_bound(q, self.width), lambda q: q), spec.num_costs
        )
