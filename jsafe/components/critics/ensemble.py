"""Ensembles of critics by squared error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jsafe.components.critics.base import Critics, Group, flat, q_networks
from jsafe.nets.perceptron import FeedForward, Layers
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec


def squared_error_group(nets: FeedForward, climb: Callable[[Array], Array], target: Callable[[Array], Array]) -> Group:
    """Critics that regress on their targets, `sum_j (G_j - Q_j(s, a))^2`.

    Args:
      nets: Networks of `[replicas, K, ..., R, 1]`.
      climb: `[replicas, K, ..., R] -> [K, ..., R]`, what the actor climbs.
      target: `[replicas, K, ..., R] -> [D, K, ..., R]`, what targets bootstrap from: one number for all replicas, or
        one for each.
    """

    def outputs(params, h, action):
        return nets.tail(params, h, action)[..., 0]

    def values(params, h, action):
        return jnp.moveaxis(climb(outputs(params, h, action)), 0, -1)

    def bootstrap(params, h, action):
        return jnp.moveaxis(target(outputs(params, h, action)), (1, 0), (-2, -1))

    def loss(params, h, action, signal, following, returns):
        goal = jax.lax.stop_gradient(flat(returns(signal, following)))
        errors = jnp.moveaxis(goal, (-1, -2), (0, 1)) - outputs(params, h, action)
        return jnp.square(errors).sum(axis=0).T

    return Group(nets.init, nets.embed, values, bootstrap, loss)


def pessimistic(replicas: Array) -> Array:
    """The smallest, of rewards."""
    return replicas.min(axis=0)


def largest(replicas: Array) -> Array:
    """The largest, of costs."""
    return replicas.max(axis=0)


def first(replicas: Array) -> Array:
    """The first."""
    return replicas[0]


def as_one(reduce: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A reduction as a target that serves all replicas."""
    return lambda replicas: reduce(replicas)[None]


@part("critics", "ensemble")
@dataclasses.dataclass(frozen=True)
class Ensemble(Layers):
    """Twin critics: the smaller counts for the reward, the larger for a cost, in targets and for the actor.

    Source: Fujimoto et al. 2018 (arXiv 1802.09477), clipped double Q-learning, in the direction that is safe for costs.
    """

    replicas: int = number(2, low=1)
    """Critics of the reward."""
    cost_replicas: int = number(1, low=0)
    """Critics of each cost; 0: none, for the rule `none` alone."""
    climb: Literal["min", "first"] = "min"
    """What the actor climbs of the reward's critics: the smallest, or the first of them (TD3). Of a cost's critics it
    is always the largest."""
    average: bool = False
    """Averages the losses over reward and costs in the place of their sum, as SEditor's authors do; Adam hardly sees
    the difference."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Critics:
        """`Critics` of the reward and, with `cost_replicas`, of the M costs."""
        del axis_name
        sizes = (spec.obs_dim, spec.action_width)
        layers: dict[str, Any] = {"hidden": self.hidden, "act": self.activation}
        climb = pessimistic if self.climb == "min" else first
        reward = q_networks(*sizes, 1, replicas=self.replicas, **layers)
        groups = {"reward": squared_error_group(reward, climb, as_one(pessimistic))}
        if self.cost_replicas:
            cost = q_networks(*sizes, spec.num_costs, replicas=self.cost_replicas, **layers)
            groups["cost"] = squared_error_group(cost, largest, as_one(largest))
        costs = spec.num_costs if self.cost_replicas else 0
        if self.average:
            groups = {name: _scaled(group, 1.0 / (1 + costs)) for name, group in groups.items()}
        return Critics(groups, costs)


def _scaled(group: Group, factor: float) -> Group:
    return group._replace(loss=lambda *inputs: factor * group.loss(*inputs))
