"""Ensembles of action-value critics for vector rewards, with target copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jsafe.nets.mlp import ensemble, fan_in_uniform, mlp, uniform
from jsafe.types import Array, Key, Params


class Critics(NamedTuple):
    """`replicas` independent critics for each of K rewards: separate networks, no shared trunk.

    Attributes:
      init: `key -> params`.
      embed: `(params, obs [R, O]) -> h`: the part of the first layers that belongs to the observations.
      values: `(params, h, action [R, A]) -> [replicas, R, K]`.
      subset: `(params_or_h, rewards: Sequence[int]) -> params_or_h` of those rewards only (saves work in losses
        that look at one of them).
    """

    init: Callable[[Key], Params]
    embed: Callable[[Params, Array], Array]
    values: Callable[[Params, Array, Array], Array]
    subset: Callable[[Params, Sequence[int]], Params]


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

    return Critics(nets.init, nets.embed, values, subset)


def polyak(target: Params, online: Params, tau: Array) -> Params:
    """`target + tau (online - target)`, leaf by leaf."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)
