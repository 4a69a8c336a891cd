"""Barrier certificates: a function of states below zero on a set that is safe, and that a policy does not leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.nets.perceptron import Layers, mlp
from jsafe.ops.barrier import interval
from jsafe.options import number, part
from jsafe.types import Array, EnvSpec, Key, Params


class Scale(NamedTuple):
    """How observations are scaled for a network: `(s - mean) / std`, `[O]` each."""

    mean: Array
    std: Array


class Barrier(NamedTuple):
    """A certificate h: states with `h < 0` are safe, and a policy that is certified by it stays among them.

    Attributes:
      init: `key -> params`.
      value: `(params, scale, obs [..., O]) -> h [...]`.
      outside: `obs [..., O] -> [...]`, the barrier of the safe box itself: at most 1 where the state is safe.
    """

    init: Callable[[Key], Params]
    value: Callable[[Params, Scale, Array], Array]
    outside: Callable[[Array], Array]


def safe_box(spec: EnvSpec, who: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Components that are bounded, the middle of their bounds, and half of their width.

    Args:
      spec: Of the environment.
      who: Who asks, for the message.

    Raises:
      ValueError: If the environment does not say what is safe and where it starts, or starts outside.
    """
    if not spec.safe or len(spec.start) != spec.obs_dim:
        raise ValueError(
            f"{who} needs an environment that says which states are safe (spec.safe) and where episodes begin "
            f"(spec.start, {spec.obs_dim} numbers), as the pendulums do: got safe={spec.safe}, start={spec.start}"
        )
    which, low, high = (np.array(column) for column in zip(*spec.safe))
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ValueError(f"the bounds of safe states must be finite intervals, got {spec.safe}")
    start = np.array(spec.start)[which]
    if not ((low < start) & (start < high)).all():
        raise ValueError(f"episodes must begin in a safe state, got start={spec.start} for the bounds {spec.safe}")
    return which.astype(int), (low + high) / 2, (high - low) / 2


@part("barrier", "box")
@dataclasses.dataclass(frozen=True)
class Box(Layers):
    """A certificate within a box.

        h(s) = softplus(f(s) - f(s0)) + B(s) - 1,    B(s) = max over the bounded components of `ops.barrier.interval`

    f is a perceptron. Whatever it is, `h(s0) = log 2 - 1 + B(s0)` at the start s0, and h >= 0 where B >= 1.

    Components that no bound keeps are bounded by what was seen: `mean +- reach std`. Beyond, models know nothing, and
    a set that is open on a side has no box around it that chains could search.

    Source: Luo & Ma 2021 (arXiv 2108.01846), section 4, with the other sign, as in the authors' code, which does not
    bound the other components.
    """

    hidden: tuple[int, ...] = (256, 256)
    reach: float | None = number(10.0, above=0)
    """Standard deviations within which the certificate says anything; None: it has no end."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Barrier:
        """A `Barrier`."""
        del axis_name
        which, middle, half = safe_box(spec, "a barrier certificate")
        start = jnp.array(spec.start, jnp.float32)
        if float(interval((start[which] - middle) / half).max()) >= 1.0 - np.log(2.0):
            raise ValueError(f"episodes begin too near the edge of the safe states for a certificate: {spec.start}")
        net = mlp(spec.obs_dim, 1, self.hidden, act=self.activation)
        free = np.setdiff1d(np.arange(spec.obs_dim), which)

        def outside(obs):
            return interval((obs[..., which] - middle) / half).max(-1)

        def value(params, scale, obs):
            def f(s):
                return net.apply(params, (s - scale.mean) / scale.std)[..., 0]

            bound = outside(obs)
            if self.reach is not None and len(free):
                far = (obs - scale.mean)[..., free] / (self.reach * scale.std[free])
                bound = jnp.maximum(bound, interval(far).max(-1))
            return jax.nn.softplus(f(obs) - f(start)) + bound - 1.0

        return Barrier(net.init, value, outside)


class SearchBox(NamedTuple):
    """A box of states that are worth looking at, `s = centre + half z`; `[O]` each."""

    centre: Array
    half: Array


def level_box(
    value: Callable[[Array], Array], start: Array, key: Key, *, draws: int = 10_000, rounds: int = 100
) -> SearchBox:
    """A box around the states with `h < 0`.

    It grows from the start: in each round states are drawn in the box made 1.5 times as wide, and it is stretched to
    hold those below zero, until a round stretches no side by more than a hundredth.

    Args:
      value: `obs [n, O] -> h [n]`.
      start: `[O]`, with h < 0.
      key: Of the draws.
      draws: Per round.
      rounds: At most.

    Source: the authors' code of Luo & Ma 2021 (there up to 1000 rounds).
    """

    def body(carry):
        low, high, key, _, i = carry
        key, draw_key = jax.random.split(key)
        middle, half = (low + high) / 2, 0.75 * (high - low)
        states = middle + half * jax.random.uniform(draw_key, (draws, start.shape[0]), minval=-1.0, maxval=1.0)
        below = (value(states) < 0.0)[:, None]
        new_low = jnp.minimum(low, jnp.where(below, states, jnp.inf).min(0))
        new_high = jnp.maximum(high, jnp.where(below, states, -jnp.inf).max(0))
        grown = ((new_high - new_low) > 1.01 * (high - low)).any()
        return new_low, new_high, key, grown, i + 1

    first = (start - 1e-3, start + 1e-3, key, jnp.bool_(True), jnp.int32(0))
    low, high, *_ = jax.lax.while_loop(lambda carry: carry[3] & (carry[4] < rounds), body, first)
    return SearchBox((low + high) / 2, (high - low) / 2)


def worst_next(value: Callable[[Array], Array], predict: Callable[[Array, Array], Any]) -> Callable[..., Array]:
    """`u(s, a) = max_e h(m_e(s, a))`: the certificate of the worst of the states that the models expect.

    Args:
      value: `obs [..., O] -> h [...]`.
      predict: `(obs [n, O], action [n, A]) -> next obs [E, n, O]`, the means of E models.

    Returns:
      `(obs [n, O], action [n, A]) -> [n]`.
    """
    return lambda obs, action: value(predict(obs, action)).max(0)


def guard(
    worst: Callable[[Array, Array], Array], obs: Array, proposal: Array, fallback: Array, candidates: int = 100
) -> tuple[Array, Array]:
    """The proposal, as far as it is safe: the first safe one of actions on the way from it to a certified one.

    Candidates are `fallback + (proposal - fallback) 10^(-3 i / (n - 1))`, i = 0 ... n - 1; one is safe where
    `worst(obs, action) <= 0`.

    Args:
      worst: `(obs [n, O], action [n, A]) -> u [n]`; see `worst_next`.
      obs: `[N, O]`.
      proposal: `[N, A]` in [-1, 1].
      fallback: `[N, A]`, the certified policy's action, taken where no candidate is safe.
      candidates: n.

    Returns:
      Actions `[N, A]`, and whether the proposal was taken as it is, bool `[N]`.

    Source: Luo & Ma 2021 (arXiv 2108.01846), algorithm 2. The released codes (authors, OmniSafe) squash the policy's
    mean by tanh once more before the noise is added; here an action is an action.
    """
    shares = 10.0 ** (-3.0 * jnp.arange(candidates) / max(candidates - 1, 1))
    tried = jnp.clip(fallback + shares[:, None, None] * (proposal - fallback), -1.0, 1.0)
    rows = jnp.broadcast_to(obs, (candidates, *obs.shape))
    flat = worst(rows.reshape(-1, obs.shape[-1]), tried.reshape(-1, proposal.shape[-1]))
    safe = flat.reshape(candidates, -1) <= 0.0
    first = jnp.argmax(safe, axis=0)
    taken = jnp.where(safe.any(0)[:, None], tried[first, jnp.arange(obs.shape[0])], fallback)
    return taken, safe[0]
