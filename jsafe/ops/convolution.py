"""Convolutions whose gradient is quick on CPUs, too, in loops, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jsafe.types import Array

Linear = Callable[[Array, Array], Array]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """`y_{b,i,j} = sum_{u,v} x_{b, s i + u, s j + v} kernel_{u,v}`, without padding.

    XLA's CPU compiler runs the gradients of strided convolutions by plain loops, inside of `scan` ten times as slowly
    as outside. On a CPU this one's are matrix products; elsewhere they are XLA's.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[K, K, C, D]`.
      stride: s, of both axes.

    Returns:
      `[B, (H - K) // s + 1, (W - K) // s + 1, D]`.
    """
    chex.assert_rank((x, kernel), 4)
    return _plain(x, kernel, stride)


def _slope(stride: int, primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    pairs = [pair for pair, moved in (((dx, kernel), dx), ((x, dkernel), dkernel)) if not isinstance(moved, _Zero)]
    plain, products = (partial(form, stride=stride) for form in (_plain, _products))
    y = convolve(x, kernel, stride)
    return y, sum((lax.platform_dependent(*pair, cpu=products, default=plain) for pair in pairs), jnp.zeros_like(y))


_Zero = jax.custom_derivatives.SymbolicZero
convolve.defjvp(_slope, symbolic_zeros=True)


def _plain(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _products(x: Array, kernel: Array, stride: int) -> Array:
    """Every window as a row, times the kernel as a matrix."""
    size, high, wide = kernel.shape[0], *((side - kernel.shape[0]) // stride + 1 for side in x.shape[1:3])

    def shifted(u: int, v: int) -> Array:
        return x[:, u : u + stride * (high - 1) + 1 : stride, v : v + stride * (wide - 1) + 1 : stride]

    windows = jnp.stack([shifted(u, v) for u in range(size) for v in range(size)], axis=3)
    rows = windows.reshape(x.shape[0] * high * wide, -1) @ kernel.reshape(-1, kernel.shape[-1])
    return rows.reshape(x.shape[0], high, wide, -1)
