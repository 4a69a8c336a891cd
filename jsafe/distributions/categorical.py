"""Products of categorical distributions: one choice, or K independent ones."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jsafe.distributions import base
from jsafe.types import Array, Key


class Categorical(NamedTuple):
    """`log_probs [..., K, n]`, normalised over the last axis; choices that a factor lacks have `-inf`."""

    log_probs: Array


def categorical(logits: Array, sizes: tuple[int, ...]) -> Categorical:
    """The distribution of logits `[..., sum(sizes)]`, factor after factor.

    Args:
      logits: Unnormalised log-probabilities.
      sizes: Number of choices of each factor.
    """
    chex.assert_axis_dimension(logits, -1, sum(sizes))
    widest, parts, start = max(sizes), [], 0
    for size in sizes:
        part = jax.nn.log_softmax(logits[..., start : start + size], axis=-1)
        missing = jnp.full((*logits.shape[:-1], widest - size), -jnp.inf, logits.dtype)
        parts.append(jnp.concatenate([part, missing], axis=-1))
        start += size
    return Categorical(jnp.stack(parts, axis=-2))


def one_hot(choice: Array, sizes: tuple[int, ...], axis: bool) -> Array:
    """Choices as columns of 0 and 1, `[..., sum(sizes)]`, factor after factor.

    Args:
      choice: `[..., K]`, or `[...]` without an axis of its own.
      sizes: Number of choices of each factor.
      axis: Whether it has that axis.
    """
    if not axis:
        return jax.nn.one_hot(choice, *sizes)
    return jnp.concatenate([jax.nn.one_hot(choice[..., k], n) for k, n in enumerate(sizes)], axis=-1)


def _choices(dist: Categorical, action: Array) -> Array:
    """Actions `[...]` of a single factor or `[..., K]` as `[..., K]`."""
    return action[..., None] if action.ndim == dist.log_probs.ndim - 2 else action


def log_prob(dist: Categorical, action: Array) -> Array:
    """Log-probability `[...]` of choices `[..., K]` (`[...]` where there is one factor)."""
    picked = jnp.take_along_axis(dist.log_probs, _choices(dist, action)[..., None].astype(jnp.int32), axis=-1)
    return picked[..., 0].sum(axis=-1)


def sample(dist: Categorical, key: Key) -> Array:
    """Choices `[..., K]`, int32."""
    return jax.random.categorical(key, dist.log_probs, axis=-1).astype(jnp.int32)


def mode(dist: Categorical) -> Array:
    """The likeliest choices `[..., K]`, int32."""
    return jnp.argmax(dist.log_probs, axis=-1).astype(jnp.int32)


def _probs(dist: Categorical) -> tuple[Array, Array]:
    """Probabilities, and log-probabilities with 0 where the probability is 0 (0 log 0 = 0, with a derivative)."""
    possible = jnp.isfinite(dist.log_probs)
    return jnp.where(possible, jnp.exp(dist.log_probs), 0.0), jnp.where(possible, dist.log_probs, 0.0)


def entropy(dist: Categorical) -> Array:
    """`-sum p log p`, summed over factors, `[...]`, in nats."""
    probs, logs = _probs(dist)
    return -(probs * logs).sum(axis=(-2, -1))


def kl(p: Categorical, q: Categorical) -> Array:
    """`KL(p || q)`, summed over factors, `[...]`, in nats."""
    probs, logs = _probs(p)
    return (probs * (logs - _probs(q)[1])).sum(axis=(-2, -1))


def fisher_metric(dist: Categorical, tangent: Categorical) -> Categorical:
    """`F v` of the Fisher information with respect to the log-probabilities: `p v`.

    `v` is the tangent of normalised log-probabilities (`sum p v = 0`), so that the Hessian of `KL(old || new)` at
    `new = old` is `v' diag(p) v`. Exact for any parametrisation that it is pulled back through.
    """
    probs, _ = _probs(dist)
    return Categorical(probs * jnp.where(probs > 0, tangent.log_probs, 0.0))


def expand(dist: Categorical) -> Categorical:
    """As it is: every observation has its own probabilities."""
    return dist


base.register(
    Categorical,
    log_prob=log_prob,
    entropy=entropy,
    kl=kl,
    sample=sample,
    mode=mode,
    fisher_metric=fisher_metric,
    expand=expand,
)
