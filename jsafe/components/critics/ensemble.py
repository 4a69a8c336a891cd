"""Ensembles of critics by squared error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
from jsafe.components.critics.base import Critics, Group, flat, pair, q_networks
from jsafe.components.optim import clip_norm
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
        if self.cost_replicas == self.replicas:
            nets = q_networks(*sizes, 1 + spec.num_costs, replicas=self.replicas, **layers)
            critics = joined(nets, spec.num_costs, climb)
        else:
            reward = q_networks(*sizes, 1, replicas=self.replicas, **layers)
            group = squared_error_group(reward, climb, as_one(pessimistic))
            costs = None
            if self.cost_replicas:
                nets = q_networks(*sizes, spec.num_costs, replicas=self.cost_replicas, **layers)
                costs = squared_error_group(nets, largest, as_one(largest))
            critics = pair(group, costs, spec.num_costs)
        return _averaged(critics) if self.average else critics


def joined(
    nets: FeedForward,
    costs: int,
    climb: Callable[[Array], Array],
    target: Callable[[Array], Array] = pessimistic,
    cost_climb: Callable[[Array], Array] = largest,
    cost_target: Callable[[Array], Array] = largest,
) -> Critics:
    """Equally many critics of the reward and of each cost as one batch of networks: fewer and larger operations.

    Args:
      nets: Networks of `[replicas, 1 + M, ..., R, 1]`; parameters and embeddings are theirs.
      costs: M.
      climb: What the actor climbs of the reward's, `[replicas, 1, ..., R] -> [1, ..., R]`.
      target: What its targets bootstrap from, likewise.
      cost_climb, cost_target: Of the costs', `[replicas, M, ..., R] -> [M, ..., R]`.
    """

    def of_reward(tree):
        return jax.tree.map(lambda leaf: leaf[:, :1], tree)

    def of_costs(tree):
        return jax.tree.map(lambda leaf: leaf[:, 1:], tree)

    def outputs(params, h, action):
        return nets.tail(params, h, action)[..., 0]

    def reward(params, h, action):
        return climb(outputs(of_reward(params), of_reward(h), action))[0]

    def values(params, h, action):
        q = outputs(params, h, action)
        return Values(climb(q[:, :1])[0], jnp.moveaxis(cost_climb(q[:, 1:]), 0, -1))

    def bootstrap(params, h, action, cost_action):
        if cost_action is action:
            q = outputs(params, h, action)
            ends = target(q[:, :1]), cost_target(q[:, 1:])
        else:
            ends = (
                target(outputs(of_reward(params), of_reward(h), action)),
                cost_target(outputs(of_costs(params), of_costs(h), cost_action)),
            )
        return {name: jnp.moveaxis(end, 0, -1)[..., None] for name, end in zip(("reward", "cost"), ends)}

    def loss(params, h, action, signals, following, returns):
        signal, later = (jnp.concatenate([x["reward"], x["cost"]], axis=2) for x in (signals, following))
        goal = jax.lax.stop_gradient(flat(returns(signal, later)))[..., 0]
        errors = jnp.square(goal.T - outputs(params, h, action)).sum(axis=0).T
        return {"reward": errors[:, :1], "cost": errors[:, 1:]}

    def clip(gradient, max_norm):
        if max_norm is None:
            return gradient
        apart = (clip_norm(part(gradient), max_norm) for part in (of_reward, of_costs))
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), *apart)

    return Critics(nets.init, nets.embed, values, reward, bootstrap, loss, clip, costs)


def _averaged(critics: Critics) -> Critics:
    """With losses divided by the number of signals."""

    def loss(*inputs):
        return jax.tree.map(lambda rows: rows / (1 + critics.costs), critics.loss(*inputs))

    return critics._replace(loss=loss)
