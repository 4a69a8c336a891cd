"""Precision of matrix products, set on purpose."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax

Precision = Literal["float32", "tensorfloat32", "default"]


def with_precision(function: Callable[..., Any], precision: Precision) -> Callable[..., Any]:
    """The function with its matrix products in a precision of 32-bit floats.

    JAX leaves the choice to the device: 10 bits of mantissa (TensorFloat-32) on recent NVIDIA GPUs, 8 (bfloat16) on
    TPUs. Differences of values that are nearly equal, on whose sign an algorithm rests (a hinge, an advantage), are
    then noise. CPUs compute in float32 in any case.

    Args:
      function: Anything that is traced; the setting holds while it is.
      precision: `float32`; `tensorfloat32`, faster where the hardware has it; `default`, what the device prefers.
    """
    if precision == "default":
        return function

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return wrapped
