"""Cost critics of quantiles: the worst share of outcomes counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.components.critics.base import Critics, Group, flat, pair, q_networks
from jsafe.components.critics.ensemble import as_one, pessimistic, squared_error_group
from jsafe.nets.perceptron import FeedForward, Layers
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec


def tail_weights(quantiles: int, risk: float) -> np.ndarray:
    """Weights of N quantiles whose sum is the mean of the largest share `risk`: that of the top bins, cut exactly."""
    edges = np.arange(quantiles + 1) / quantiles
    covered = np.clip(edges[1:], 1 - risk, 1) - np.clip(edges[:-1], 1 - risk, 1)
    return (covered / risk).astype(np.float32)


def quantile_loss(quantiles: Array, targets: Array, threshold: float = 1.0) -> Array:
    """Quantile Huber loss `sum_i mean_j |tau_i - [y_j < q_i]| huber(y_j - q_i) / threshold`, `[...]`.

    Args:
      quantiles: `[..., N]` at the levels `tau_i = (i + 1/2) / N`.
      targets: `[..., J]`.
      threshold: Where the quadratic becomes linear.

    Source: Dabney et al. 2018 (arXiv 1710.10044), equation 10.
    """
    n = quantiles.shape[-1]
    levels = (np.arange(n, dtype=np.float32) + 0.5) / n
    gap = targets[..., None, :] - quantiles[..., :, None]
    size = jnp.abs(gap)
    huber = jnp.where(size <= threshold, 0.5 * jnp.square(gap), threshold * (size - 0.5 * threshold))
    rows = jnp.abs(levels[:, None] - (gap < 0)) * huber / threshold
    return rows.mean(axis=-1).sum(axis=-1)


def quantile_group(nets: FeedForward, quantiles: int, risk: float) -> Group:
    """Critics of N quantiles of discounted costs; the actor sees the conditional value at risk."""
    weights = tail_weights(quantiles, risk)

    def outputs(params, h, action):
        return jnp.moveaxis(nets.tail(params, h, action)[0], 0, -2)

    def loss(params, h, action, signal, following, returns):
        goal = jax.lax.stop_gradient(flat(returns(signal, following)))
        return quantile_loss(outputs(params, h, action), goal)

    return Group(nets.init, nets.embed, lambda *inputs: outputs(*inputs) @ weights, outputs, loss)


@part("critics", "quantile")
@dataclasses.dataclass(frozen=True)
class Quantile(Layers):
    """The smaller of the reward's critics; of a cost its quantiles, and of these the worst share of outcomes.

    Source: Yang et al. 2023 (WCSAC with a quantile safety critic, Machine Learning 112), with quantiles at fixed levels
      (Dabney et al. 2018, arXiv 1710.10044) in the place of random ones. Longer returns mix the quantile functions of
      their lengths.
    """

    replicas: int = number(2, low=1)
    """Critics of the reward."""
    quantiles: int = number(20, low=1)
    """Quantiles of each cost."""
    risk: float = number(0.5, above=0, high=1)
    """Share of the worst outcomes that counts; 1: the mean."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Critics:
        """`Critics` of the reward and of the M costs."""
        del axis_name
        sizes = (spec.obs_dim, spec.action_width)
        layers: dict[str, Any] = {"hidden": self.hidden, "act": self.activation}
        reward = q_networks(*sizes, 1, replicas=self.replicas, **layers)
        cost = q_networks(*sizes, spec.num_costs, replicas=1, outputs=self.quantiles, **layers)
        rewards = squared_error_group(reward, pessimistic, as_one(pessimistic))
        return pair(rewards, quantile_group(cost, self.quantiles, self.risk), spec.num_costs)
