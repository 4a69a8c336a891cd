"""The Beta distribution on [-1, 1]: SEditor's policy head, and a policy on rollouts that cannot leave its box."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, digamma, polygamma

from jsafe.distributions import base
from jsafe.types import Array, Key

_EDGE = 1.19e-7
SOFTPLUS_ONE = 0.541324854612918
"""softplus of it is 1: with a zero head both concentrations start at 2."""


class Beta(NamedTuple):
    """Independent components on [-1, 1]: concentrations `alpha [..., A]` and `beta [..., A]`, at least 1."""

    alpha: Array
    beta: Array


def concentrations(logits: Array, minimum: float = 1.0) -> tuple[Array, Array]:
    """Splits a head of 2A units into `(alpha, beta)`, `softplus(x) + minimum` each.

    Args:
      logits: `[..., 2A]`.
      minimum: Smallest concentration; 1 keeps the density unimodal.

    Returns:
      Two arrays `[..., A]`.
    """
    conc = jax.nn.softplus(logits) + minimum
    half = conc.shape[-1] // 2
    return conc[..., :half], conc[..., half:]


_ROUNDS = 64
"""Bound of the rejection loop: a lane is left over with probability 0.05^64. No loop on a device may depend on data."""


@jax.custom_jvp
def _gamma(alpha: Array, key: Key) -> Array:
    # Marsaglia & Tsang (2000), valid for alpha >= 1, whole batch at once: at most 5 % of the lanes need another round.
    # jax.random.gamma maps over single elements on CPU, which is some fifty times slower.
    d = alpha - 1.0 / 3.0
    c = jax.lax.rsqrt(9.0 * d)

    def body(carry):
        key, sample, accepted, rounds = carry
        key, normal_key, uniform_key = jax.random.split(key, 3)
        x = jax.random.normal(normal_key, alpha.shape, alpha.dtype)
        log_u = jnp.log1p(-jax.random.uniform(uniform_key, alpha.shape, alpha.dtype))
        v = (1.0 + c * x) ** 3
        log_v = jnp.log(jnp.maximum(v, jnp.finfo(alpha.dtype).tiny))
        ok = (v > 0.0) & (log_u < 0.5 * x**2 + d - d * v + d * log_v)
        return key, jnp.where(accepted, sample, d * v), accepted | ok, rounds + 1

    def unfinished(carry):
        return ~jnp.all(carry[2]) & (carry[3] < _ROUNDS)

    hopeless = ~jnp.isfinite(alpha)
    _, sample, accepted, _ = jax.lax.while_loop(unfinished, body, (key, jnp.ones_like(alpha), hopeless, 0))
    return jnp.where(accepted & ~hopeless, sample, jnp.nan)


@_gamma.defjvp
def _gamma_jvp(primals, tangents):
    alpha, key = primals
    sample = _gamma(alpha, key)
    # Implicit reparameterisation: d sample / d alpha = -(dF/d alpha) / p(sample).
    return sample, tangents[0] * jax.lax.random_gamma_grad(alpha, sample)


def sample(key: Key, alpha: Array, beta: Array) -> Array:
    """Draws `2u - 1`, `u ~ Beta(alpha, beta)`, differentiable in both concentrations.

    `u` is a ratio of two gamma draws whose gradients are implicit, so the estimator is unbiased (per sample it
    differs from torch's, which differentiates the Beta CDF itself).

    Args:
      key: A jax key.
      alpha: `[..., A]`, at least 1.
      beta: `[..., A]`, at least 1.

    Returns:
      `[..., A]` in `(-1, 1)`; NaN where a concentration is not finite.

    Source: Figurnov et al. (2018), Implicit Reparameterization Gradients, arXiv 1805.08498; clamp as in ALF.
    """
    chex.assert_equal_shape([alpha, beta])
    draws = _gamma(jnp.stack([alpha, beta]), key)
    u = draws[0] / (draws[0] + draws[1])
    return 2.0 * jnp.clip(u, _EDGE, 1.0 - _EDGE) - 1.0


def log_prob(action: Array, alpha: Array, beta: Array) -> Array:
    """Log density of `action` in [-1, 1], summed over components.

    Args:
      action: `[..., A]`.
      alpha: `[..., A]`.
      beta: `[..., A]`.

    Returns:
      `[...]`.
    """
    chex.assert_equal_shape([action, alpha, beta])
    u = jnp.clip(0.5 * (action + 1.0), _EDGE, 1.0 - _EDGE)
    density = (alpha - 1.0) * jnp.log(u) + (beta - 1.0) * jnp.log1p(-u) - betaln(alpha, beta)
    return jnp.sum(density - jnp.log(2.0), axis=-1)


def mode(alpha: Array, beta: Array) -> Array:
    """The most likely action, `2 (alpha - 1) / (alpha + beta - 2) - 1`; 0 where both concentrations are 1."""
    excess = alpha + beta - 2.0
    return jnp.where(excess > 1e-6, 2.0 * (alpha - 1.0) / jnp.maximum(excess, 1e-6) - 1.0, 0.0)


def entropy(alpha: Array, beta: Array) -> Array:
    """Differential entropy on [-1, 1], summed over components `[..., A] -> [...]`."""
    total = alpha + beta
    value = betaln(alpha, beta) + (total - 2.0) * digamma(total)
    value = value - (alpha - 1.0) * digamma(alpha) - (beta - 1.0) * digamma(beta)
    return jnp.sum(value + jnp.log(2.0), axis=-1)


def kl(p: Beta, q: Beta) -> Array:
    """`KL(p || q)` `[...]` in nats, summed over the components."""
    chex.assert_equal_shape([p.alpha, q.alpha])
    value = betaln(*q) - betaln(*p) + (p.alpha - q.alpha) * digamma(p.alpha) + (p.beta - q.beta) * digamma(p.beta)
    return jnp.sum(value + (sum(q) - sum(p)) * digamma(sum(p)), axis=-1)


def fisher_metric(dist: Beta, tangent: Beta) -> Beta:
    """The Fisher matrix in the coordinates (alpha, beta), applied to a tangent.

    With trigamma `t` it is `[[t(alpha), 0], [0, t(beta)]] - t(alpha + beta)`, the Hessian of the log normaliser.
    """
    shared = polygamma(1, sum(dist)) * sum(tangent)
    return Beta(*(polygamma(1, x) * v - shared for x, v in zip(dist, tangent)))


def figures(dist: Beta) -> dict[str, Array]:
    """`policy/std`, the standard deviation of each component."""
    total = dist.alpha + dist.beta
    return {"policy/std": 2.0 * jnp.sqrt(dist.alpha * dist.beta / (total + 1.0)) / total}


base.register(
    Beta,
    log_prob=lambda dist, action: log_prob(action, *dist),
    entropy=lambda dist: entropy(*dist),
    kl=kl,
    sample=lambda dist, key: sample(key, *dist),
    mode=lambda dist: mode(*dist),
    fisher_metric=fisher_metric,
    expand=lambda dist: dist,
    figures=figures,
)
