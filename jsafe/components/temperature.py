"""Entropy temperatures of maximum-entropy policies."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jsafe.types import Array


def default_target_entropy(act_dim: int, min_prob: float = 0.1, width: float = 2.0) -> float:
    """Target entropy in nats: `act_dim * (log width + log min_prob)`, -1.609 per component by default.

    Source: ALF's default target; SEditor uses `min_prob` 0.1 for both policies. Haarnoja et al. 2018
      (arXiv 1812.05905) and OmniSafe take -1 per component, which is `min_prob` 0.184.
    """
    return act_dim * (math.log(width) + math.log(min_prob))


def temperature_loss(log_alpha: Array, log_prob: Array, target_entropy: float) -> Array:
    """`log_alpha * (H - H_target)` per sample with `H = -log_prob` held constant, `[...] -> [...]`.

    The derivative is with respect to `log_alpha`, not `alpha` (as in ALF; Haarnoja et al. 2018 use `alpha`).
    """
    return log_alpha * jax.lax.stop_gradient(-log_prob - target_entropy)


def temperature(log_alpha: Array) -> Array:
    """`exp(log_alpha)` as a constant."""
    return jnp.exp(jax.lax.stop_gradient(log_alpha))
