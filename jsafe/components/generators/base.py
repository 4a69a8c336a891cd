"""The seam of generators: policies that are fitted to recorded actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from jsafe.types import Array, Key, Params

BEHAVIOUR = "cvae"
"""Name of the group of parameters that models who recorded the data; it has a learning rate of its own."""


class NoiseFn(Protocol):
    """`(key, count, rows) -> noise [n, rows, ...]`; `rows` may be 1, for the same noise in all rows."""

    def __call__(self, key: Key, count: int, rows: int, /) -> Array: ...


class Support(NamedTuple):
    """A model of the recorded actions beside a policy.

    Attributes:
      divergence: `(params, obs [R, O], action [..., R, A]) -> [..., R]`, how far an action is from recorded ones.
      raw: `(params, obs, key, count) -> [n, R, A]`, actions of the model before they are squashed, as constants.
      policy_raw: `(params, obs, key, count) -> [n, R, A]`, actions of the policy, likewise, with a gradient.
    """

    divergence: Callable[[Params, Array, Array], Array]
    raw: Callable[[Params, Array, Key, int], Array]
    policy_raw: Callable[[Params, Array, Key, int], Array]


class Generator(NamedTuple):
    """A policy that is fitted to recorded actions.

    Attributes:
      init: `key -> params`, a dict of groups.
      noise: What a draw needs, see `NoiseFn`.
      draw: `(params, obs [R, O], noise [n, R or 1, ...]) -> action [n, R, A]` in `[-1, 1]`, with a gradient.
      mode: `(params, obs) -> [R, A]`, its one best guess.
      loss: `(params, obs, action [R, A], key) -> [H, R]`, what imitation of an action costs, for each of its H losses.
      slow: Groups of which targets use a slow copy.
      losses: H; a row has one weight for all, or one for each.
      heads: Policies on one trunk, with a loss each; the draws of several are their means, whatever the count.
      acts_slow: Whether it acts with its slow copy.
      support: A model of the recorded actions beside the policy, or None.
    """

    init: Callable[[Key], Params]
    noise: NoiseFn
    draw: Callable[[Params, Array, Array], Array]
    mode: Callable[[Params, Array], Array]
    loss: Callable[[Params, Array, Array, Key], Array]
    slow: tuple[str, ...] = ()
    losses: int = 1
    heads: int = 1
    acts_slow: bool = False
    support: Support | None = None


def normal_noise(width: int) -> NoiseFn:
    """Standard normal noise `[n, rows, width]`."""
    return lambda key, count, rows: jax.random.normal(key, (count, rows, width))


def squared_error(guess: Array, action: Array) -> Array:
    """`|guess - a|^2`, summed over the components: `[..., A]`, `[..., A] -> [...]`."""
    chex.assert_equal(guess.shape[-1], action.shape[-1])
    return jnp.square(guess - action).sum(axis=-1)


def inside(action: Array, margin: float = 1e-5) -> Array:
    """Actions in the open box, where a squashed density is finite."""
    return jnp.clip(action, -1.0 + margin, 1.0 - margin)
