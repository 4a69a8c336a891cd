"""Ensembles of action-value critics for vector rewards, with target copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.nets.perceptron import ensemble, fan_in_uniform, mlp, uniform
from jsafe.types import Array, Key, Params


class Critics(NamedTuple):
    """`replicas` independent critics for each of K rewards: separate networks, no shared trunk.

    Attributes:
      init: `key -> params`.
      embed: `(params, obs [R, O]) -> h`: the part of the first layers that belongs to the observations.
      values: `(params, h, action [R, A]) -> [replicas, R, K]`; a reward with fewer critics repeats its first one.
      subset: `(params_or_h, rewards: Sequence[int]) -> params_or_h` of those rewards only (saves work in losses
        that look at one of them).
      replica: `(params_or_h, count: int) -> params_or_h` with the first `count` replicas only.
      counts: `[replicas, 1, K]` ones and zeros: which of the values are those of a critic of their own. None: all.
    """

    init: Callable[[Key], Params]
    embed: Callable[[Params, Array], Array]
    values: Callable[[Params, Array, Array], Array]
    subset: Callable[[Params, Sequence[int]], Params]
    replica: Callable[[Params, int], Params]
    counts: np.ndarray | None = None


def q_critics(
    obs_dim: int,
    act_dim: int,
    rewards: int,
    *,
    replicas: int = 2,
    hidden: Sequence[int] = (256, 256, 256),
    act: str = "tanh",
) -> Critics:
    """Critics `Q_{j,k}(s, a)`, replica j, reward k; hidden weights `+-1/sqrt(fan_in)`, last layer `+-0.003`.

    Args:
      obs_dim: Width of the (stacked) observation.
      act_dim: Number of action components.
      rewards: Number of rewards K.
      replicas: Critics per reward.
      hidden: Hidden widths.
      act: Activation.

    Returns:
      `Critics`; leaves of its parameters start with `[replicas, K, ...]`.
    """
    net = mlp(
        obs_dim,
        1,
        hidden,
        late_dim=act_dim,
        act=act,
        kernel_init=fan_in_uniform(),
        last_kernel_init=uniform(0.003),
    )
    nets = ensemble(ensemble(net, rewards), replicas)

    def values(params, h, action):
        return jnp.moveaxis(nets.tail(params, h, action)[..., 0], 1, -1)

    def subset(tree, indices):
        index = list(indices)
        return jax.tree.map(lambda leaf: leaf[:, index], tree)

    return Critics(nets.init, nets.embed, values, subset, first_replicas)


def first_replicas(tree: Params, count: int) -> Params:
    """The first `count` replicas of parameters or embeddings."""
    return jax.tree.map(lambda leaf: leaf[:count], tree)


def reward_and_cost_critics(reward: Critics, cost: Critics, replicas: int, cost_replicas: int, costs: int) -> Critics:
    """One ensemble of critics of the reward and critics of the M costs that are fewer (or more) each.

    Args:
      reward: Critics of one reward.
      cost: Critics of M rewards, the negated costs.
      replicas: Those of `reward`.
      cost_replicas: Those of `cost`.
      costs: M.

    Returns:
      `Critics` of `1 + M` rewards with parameters `{"reward": ..., "cost": ...}`.
    """
    groups = {"reward": reward, "cost": cost}
    most = max(replicas, cost_replicas)
    counts = np.zeros((most, 1, 1 + costs), np.float32)
    counts[:replicas, :, 0] = 1
    counts[:cost_replicas, :, 1:] = 1

    def init(key):
        keys = jax.random.split(key)
        return {name: groups[name].init(k) for name, k in zip(groups, keys)}

    def embed(params, obs):
        return {name: groups[name].embed(params[name], obs) for name in params}

    def values(params, h, action):
        parts = [groups[name].values(params[name], h[name], action) for name in groups if name in params]
        size = max(len(part) for part in parts)
        filled = [jnp.concatenate([part, *[part[:1]] * (size - len(part))]) for part in parts]
        return jnp.concatenate(filled, axis=-1)

    def subset(tree, rewards):
        picked = {"cost": cost.subset(tree["cost"], [i - 1 for i in rewards if i > 0])} if max(rewards) > 0 else {}
        return picked | ({"reward": tree["reward"]} if 0 in rewards else {})

    return Critics(init, embed, values, subset, first_replicas, counts)


def polyak(target: Params, online: Params, tau: Array) -> Params:
    """`target + tau (online - target)`, leaf by leaf."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)
