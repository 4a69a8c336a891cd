"""The diagonal Gaussian, as functions of its parameters."""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.distributions import base
from jsafe.types import Array, Key

_LOG_2PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal components: `mean [..., A]` and `log_std [..., A]`, broadcast against each other."""

    mean: Array
    log_std: Array


def log_prob(dist: Gaussian, x: Array) -> Array:
    """Log density `[...]` of `x [..., A]`, summed over the components."""
    chex.assert_equal(x.shape[-1], dist.mean.shape[-1])
    z = (x - dist.mean) * jnp.exp(-dist.log_std)
    return jnp.sum(-0.5 * (z * z + _LOG_2PI) - dist.log_std, axis=-1)


def entropy(dist: Gaussian) -> Array:
    """Differential entropy `[...]` in nats, summed over the components."""
    log_std = jnp.broadcast_to(dist.log_std, dist.mean.shape)
    return jnp.sum(log_std + 0.5 * (1 + _LOG_2PI), axis=-1)


def kl(p: Gaussian, q: Gaussian) -> Array:
    """`KL(p || q)` `[...]` in nats, summed over the components."""
    chex.assert_equal(p.mean.shape[-1], q.mean.shape[-1])
    ratio = jnp.exp(2 * (p.log_std - q.log_std))
    gap = (p.mean - q.mean) * jnp.exp(-q.log_std)
    return jnp.sum(q.log_std - p.log_std + 0.5 * (ratio + gap * gap - 1), axis=-1)


def sample(dist: Gaussian, key: Key) -> Array:
    """One draw `[..., A]`, reparameterised."""
    noise = jax.random.normal(key, dist.mean.shape, dist.mean.dtype)
    return dist.mean + jnp.exp(dist.log_std) * noise


def fisher_metric(dist: Gaussian, tangent: Gaussian) -> Gaussian:
    """The Fisher matrix in the coordinates (mean, log_std), applied to a tangent: `mean / std^2` and `2 log_std`.

    It is the Hessian of `kl(p, .)` at `p`, before any network (Amari 1998, "Natural gradient works efficiently").
    """
    return Gaussian(tangent.mean * jnp.exp(-2 * dist.log_std), 2 * tangent.log_std)


def mode(dist: Gaussian) -> Array:
    """The mean."""
    return dist.mean


def expand(dist: Gaussian) -> Gaussian:
    """`log_std` for each observation."""
    return Gaussian(dist.mean, jnp.broadcast_to(dist.log_std, dist.mean.shape))


def figures(dist: Gaussian) -> dict[str, Array]:
    """`policy/std`, and the flag `policy/std_warning`: actions count within [-1, 1] only.

    A deviation above 5 throws more than eight components in ten out of that box, where its edge is executed instead.
    """
    std = jnp.exp(dist.log_std)
    return {"policy/std": std, "policy/std_warning": (jnp.mean(std) > 5).astype(std.dtype)}


base.register(
    Gaussian,
    log_prob=log_prob,
    entropy=entropy,
    kl=kl,
    sample=sample,
    mode=mode,
    fisher_metric=fisher_metric,
    expand=expand,
    figures=figures,
)
