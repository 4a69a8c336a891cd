"""Reachability: values whose sign says whether a violation can be avoided for ever."""

from __future__ import annotations

import jax.numpy as jnp

from jsafe.types import Array

SAFE = -1.0
"""`h` of a step without a cost."""


def violation(cost: Array, unsafe: float = 25.0) -> Array:
    """`h [...]` of costs `[..., M]`: `unsafe` where any is above 0, else `SAFE`."""
    return jnp.where((cost > 0).any(axis=-1), unsafe, SAFE)


def reach_target(h: Array, following: Array, gamma: Array, terminated: Array) -> Array:
    """`(1 - gamma) h + gamma max(h, V_h(s'))`; `h` where the episode terminated.

    With hazards at `unsafe` k steps ahead it is `-(1 - gamma^k) + 25 gamma^k` at the defaults of `violation`: states
    are infeasible (above 0) up to 324 steps ahead at gamma 0.99.

    Args:
      h: `[...]`, from `violation`.
      following: `[...]`, the feasibility value of what followed.
      gamma: Scalar.
      terminated: `[...]` bool.

    Source: Zheng et al. 2024 (arXiv 2401.10700); Fisac et al. 2019.
    """
    return jnp.where(terminated, h, (1.0 - gamma) * h + gamma * jnp.maximum(h, following))
