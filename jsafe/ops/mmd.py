"""Maximum mean discrepancy between two sets of samples."""

from __future__ import annotations

from typing import Literal

import chex
import jax.numpy as jnp

from jsafe.types import Array

Kernel = Literal["gaussian", "laplacian"]


def mmd(x: Array, y: Array, sigma: float = 50.0, kernel: Kernel = "gaussian") -> Array:
    """`sqrt(E k(x, x') + E k(y, y') - 2 E k(x, y) + 1e-6)` of each row; means over all pairs, equal ones included.

    `k = exp(-|x - y|_2^2 / (2 sigma))` (`gaussian`) or `exp(-|x - y|_1 / (2 sigma))` (`laplacian`).

    Args:
      x: `[N, R, A]`, N samples of each of R rows.
      y: `[K, R, A]`.
      sigma: Width of the kernel: its square, for the Gaussian.
      kernel: Which.

    Returns:
      `[R]`.

    Source: Kumar et al. 2019 (BEAR, arXiv 1906.00949), and the authors' code, whose kernels these are.
    """
    chex.assert_rank([x, y], 3)
    chex.assert_equal_shape_suffix([x, y], 2)

    def mean_kernel(a, b):
        gap = a[:, None] - b[None]
        distance = (jnp.square(gap) if kernel == "gaussian" else jnp.abs(gap)).sum(axis=-1)
        return jnp.exp(-distance / (2.0 * sigma)).mean(axis=(0, 1))

    return jnp.sqrt(mean_kernel(x, x) + mean_kernel(y, y) - 2.0 * mean_kernel(x, y) + 1e-6)
