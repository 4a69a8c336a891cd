"""The seam of critics: ensembles of action values of the reward and of the costs, their loss, and their reductions.

Costs are positive everywhere: in the networks, in the values, in the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
from jsafe.components.optim import clip_norm
from jsafe.nets.perceptron import FeedForward, ensemble, fan_in_uniform, mlp, uniform
from jsafe.types import Array, Key, Params


class Returns(Protocol):
    """Lambda returns of a window: `(signal [T-1, B, K], following [T-1, B, K, D]) -> [T-1, B, K, D]`.

    `following` is what the rows 1 to T-1 are worth. `power` raises the discount (2: variances); `lam` replaces the
    learner's lambda (0: one step).
    """

    def __call__(self, signal: Array, following: Array, *, power: int = 1, lam: float | None = None) -> Array: ...


class Group(NamedTuple):
    """Critics of K signals of one kind.

    Attributes:
      init: `key -> params`.
      embed: `(params, obs [R, O]) -> h`, the part of the first layers that belongs to the observations.
      values: `(params, h, action [..., R, A]) -> [..., R, K]`, as the actor sees them.
      bootstrap: `(params, h, action) -> [..., R, K, D]`, what targets bootstrap from: D numbers per signal.
      loss: `(params, h, action, signal [T-1, B, K], following [T-1, B, K, D], returns) -> [R, K]`, rows in order.
    """

    init: Callable[[Key], Params]
    embed: Callable[[Params, Array], Params]
    values: Callable[[Params, Params, Array], Array]
    bootstrap: Callable[[Params, Params, Array], Array]
    loss: Callable[[Params, Params, Array, Array, Array, Returns], Array]


class Critics(NamedTuple):
    """Critics of the reward and of M costs.

    Attributes:
      init: `key -> params`.
      embed: `(params, obs [R, O]) -> h`, the part of the first layers that belongs to the observations: a tree of
        arrays `[..., R, H]`.
      values: `(params, h, action [..., R, A]) -> Values`, as the actor sees them.
      reward: Likewise the reward's value alone, `[..., R]` (half the work).
      bootstrap: `(params, h, action, cost_action) -> {"reward": [..., R, 1, D], "cost": [..., R, M, D]}`, what targets
        bootstrap from, the costs at an action of their own; `cost` is absent where costs are not learnt.
      loss: `(params, h, action, signals, following, returns) -> {"reward": [R, 1], "cost": [R, M]}`; `signals` are
        `[T-1, B, K]` and `following [T-1, B, K, D]` by the same names.
      clip: `(gradient, max_norm) -> gradient`, that of the reward's critics and that of the costs' apart.
      costs: Number of costs that are learnt: M or 0.
    """

    init: Callable[[Key], Params]
    embed: Callable[[Params, Array], Params]
    values: Callable[[Params, Params, Array], Values]
    reward: Callable[[Params, Params, Array], Array]
    bootstrap: Callable[[Params, Params, Array, Array], dict[str, Array]]
    loss: Callable[..., dict[str, Array]]
    clip: Callable[[Params, float | None], Params]
    costs: int


def pair(reward: Group, cost: Group | None, costs: int) -> Critics:
    """Critics of two kinds, or of the reward alone; parameters and embeddings are dicts by `reward` and `cost`."""
    groups = {"reward": reward} if cost is None else {"reward": reward, "cost": cost}

    def init(key):
        keys = jax.random.split(key)
        return {name: group.init(k) for (name, group), k in zip(groups.items(), keys)}

    def embed(params, obs):
        return {name: group.embed(params[name], obs) for name, group in groups.items()}

    def reward_value(params, h, action):
        return reward.values(params["reward"], h["reward"], action)[..., 0]

    def values(params, h, action):
        value = reward_value(params, h, action)
        if cost is None:
            return Values(value, jnp.zeros((*value.shape, 0), value.dtype))
        return Values(value, cost.values(params["cost"], h["cost"], action))

    def bootstrap(params, h, action, cost_action):
        actions = {"reward": action, "cost": cost_action}
        return {name: group.bootstrap(params[name], h[name], actions[name]) for name, group in groups.items()}

    def loss(params, h, action, signals, following, returns):
        return {
            name: group.loss(params[name], h[name], action, signals[name], following[name], returns)
            for name, group in groups.items()
        }

    def clip(gradient, max_norm):
        return {name: clip_norm(group, max_norm) for name, group in gradient.items()}

    return Critics(init, embed, values, reward_value, bootstrap, loss, clip, 0 if cost is None else costs)


def q_networks(
    obs_dim: int,
    act_dim: int,
    signals: int,
    *,
    replicas: int,
    hidden: Sequence[int],
    act: str,
    outputs: int = 1,
) -> FeedForward:
    """Separate networks `Q_{j,k}(s, a)` of replica j and signal k, without a shared trunk.

    Hidden weights start in `+-1/sqrt(fan_in)`, the last layer's in `+-0.003`.

    Returns:
      A `FeedForward`; leaves of its parameters start with `[replicas, K, ...]`, and so does what it returns.
    """
    inits: dict[str, Any] = {"kernel_init": fan_in_uniform(), "last_kernel_init": uniform(0.003)}
    net = mlp(obs_dim, outputs, hidden, late_dim=act_dim, act=act, **inits)
    return ensemble(ensemble(net, signals), replicas)


def flat(window: Array) -> Array:
    """`[T-1, B, ...]` as rows `[R, ...]`."""
    return window.reshape(-1, *window.shape[2:])


def polyak(target: Params, online: Params, tau: Array) -> Params:
    """`target + tau (online - target)`, leaf by leaf."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)
