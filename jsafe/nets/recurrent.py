"""Recurrent cells behind pure functions: one step while acting, a masked scan while learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe.types import Array, Key, Params


class CellFn(Protocol):
    """`(params, hidden [B, H], x [B, X]) -> hidden [B, H]`."""

    def __call__(self, params: Params, hidden: Array, x: Array, /) -> Array: ...


class Cell(NamedTuple):
    """A recurrent cell whose output is its state.

    Attributes:
      init: `key -> params`.
      step: One step of B sequences.
      width: H.
    """

    init: Callable[[Key], Params]
    step: CellFn
    width: int


def gru(x_dim: int, width: int) -> Cell:
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), flax's.

    Args:
      x_dim: Width of an input.
      width: Width of the state.
    """
    module = nn.GRUCell(width)

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, width)), jnp.zeros((1, x_dim)))["params"]

    def step(params: Params, hidden: Array, x: Array) -> Array:
        return module.apply({"params": params}, hidden, x)[0]

    return Cell(init, step, width)


def scan(cell: Cell, params: Params, hidden: Array, xs: Array, started: Array) -> tuple[Array, Array]:
    """The states of B sequences of T steps that may cross episode starts.

    Args:
      cell: The cell.
      params: Its parameters.
      hidden: `[B, H]` before the first step.
      xs: `[T, B, X]`.
      started: `[T, B]` bool: an episode starts at this step, with a state of zeros.

    Returns:
      `(states [T, B, H], last [B, H])`.
    """

    def step(hidden, inputs):
        x, fresh = inputs
        hidden = cell.step(params, jnp.where(fresh[:, None], 0.0, hidden), x)
        return hidden, hidden

    last, states = jax.lax.scan(step, hidden, (xs, started))
    return states, last
