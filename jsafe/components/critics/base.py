"""The seam of critics: ensembles of action values of the reward and of the costs, their loss, and their reductions.

Costs are positive everywhere: in the networks, in the values, in the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Values
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
    """Critics of the reward and of the costs, each a `Group`; parameters and embeddings are dicts by these names.

    Attributes:
      groups: `reward`, and `cost` where costs are learnt.
      costs: Number of costs that are learnt: M or 0.
    """

    groups: dict[str, Group]
    costs: int

    def init(self, key: Key) -> Params:
        """`key -> params`."""
        keys = jax.random.split(key)
        return {name: group.init(k) for (name, group), k in zip(self.groups.items(), keys)}

    def embed(self, params: Params, obs: Array) -> Params:
        """`(params, obs [R, O]) -> h`."""
        return {name: group.embed(params[name], obs) for name, group in self.groups.items()}

    def values(self, params: Params, h: Params, action: Array) -> Values:
        """`(params, h, action [..., R, A]) -> Values`, as the actor sees them."""
        reward = self.reward(params, h, action)
        if not self.costs:
            return Values(reward, jnp.zeros((*reward.shape, 0), reward.dtype))
        return Values(reward, self.groups["cost"].values(params["cost"], h["cost"], action))

    def reward(self, params: Params, h: Params, action: Array) -> Array:
        """`values` of the reward alone, `[..., R]`."""
        return self.groups["reward"].values(params["reward"], h["reward"], action)[..., 0]

    def bootstrap(self, params: Params, h: Params, action: Array, cost_action: Array) -> dict[str, Array]:
        """What targets bootstrap from, the costs at an action of their own: `[..., R, K, D]` of each group."""
        actions = {"reward": action, "cost": cost_action}
        return {name: group.bootstrap(params[name], h[name], actions[name]) for name, group in self.groups.items()}

    def loss(
        self,
        params: Params,
        h: Params,
        action: Array,
        signals: dict[str, Array],
        following: dict[str, Array],
        returns: Returns,
    ) -> dict[str, Array]:
        """Losses `[R, K]` of each group; `signals` are `[T-1, B, K]`, `following [T-1, B, K, D]`."""
        return {
            name: group.loss(params[name], h[name], action, signals[name], following[name], returns)
            for name, group in self.groups.items()
        }


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
