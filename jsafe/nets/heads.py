"""Plain perceptrons of the on-policy learners: actors (Gaussian, Beta, categorical), and stacked state-value functions.

They are written without a framework because their layout decides the speed of an update of 12 500 small minibatches:
the K value functions share one array per layer, so that each layer is a single (batched) product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.distributions.beta import Beta, concentrations
from jsafe.distributions.categorical import Categorical, categorical
from jsafe.distributions.gaussian import Gaussian
from jsafe.nets.perceptron import activation
from jsafe.types import Array, Key, Params

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]


class Actor(NamedTuple):
    """`init(key) -> params`; `apply(params, obs [..., O]) -> distribution`.

    That is `Gaussian(mean [..., A], log_std [A])`, `Beta(alpha [..., A], beta [..., A])` or
    `Categorical(log_probs [..., K, n])`.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Gaussian | Beta | Categorical]


class ValueFunctions(NamedTuple):
    """`init(key) -> params`, each leaf with a leading axis K; `apply(params, obs [B, O]) -> values [B, K]`.

    `stacked(params, x [K, B, X]) -> [B, K]` takes an input of each function's own.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Array]
    stacked: Callable[[Params, Array], Array]


def _layers(key: Key, sizes: Sequence[int], stack: tuple[int, ...]) -> tuple[dict[str, Array], ...]:
    """Weights and biases, all uniform in `+-1 / sqrt(fan_in)` (torch's default for linear layers)."""
    layers = []
    for key_i, fan_in, out in zip(jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:]):
        bound = 1 / math.sqrt(fan_in)
        w_key, b_key = jax.random.split(key_i)
        w = jax.random.uniform(w_key, (*stack, fan_in, out), jnp.float32, -bound, bound)
        b = jax.random.uniform(b_key, (*stack, out), jnp.float32, -bound, bound)
        layers.append({"w": w, "b": b})
    return tuple(layers)


def _forward(layers: Sequence[dict[str, Array]], x: Array, act: Callable[[Array], Array]) -> Array:
    """A perceptron with linear output."""
    for layer in layers[:-1]:
        x = act(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def gaussian_actor(
    obs_dim: int, act_dim: int, *, hidden: Sequence[int] = (64, 64), act: str = "tanh", log_std: float = 0.0
) -> Actor:
    """A Gaussian policy: the mean is a perceptron with linear output, `log_std` a learned vector without bounds.

    Args:
      obs_dim: O.
      act_dim: A.
      hidden: Widths of the hidden layers.
      act: Activation by name.
      log_std: Initial log standard deviation of each component.
    """
    f = activation(act)

    def init(key):
        layers = _layers(key, (obs_dim, *hidden, act_dim), ())
        return {"layers": layers, "log_std": jnp.full((act_dim,), log_std, jnp.float32)}

    def apply(params, obs):
        return Gaussian(_forward(params["layers"], obs, f), params["log_std"])

    return Actor(init, apply)


def _perceptron_actor(
    obs_dim: int, width: int, hidden: Sequence[int], act: str, distribution: Callable[[Array], Beta | Categorical]
) -> Actor:
    """A perceptron whose `width` outputs are all there is to its distribution."""
    f = activation(act)

    def init(key):
        return {"layers": _layers(key, (obs_dim, *hidden, width), ())}

    def apply(params, obs):
        return distribution(_forward(params["layers"], obs, f))

    return Actor(init, apply)


def beta_actor(obs_dim: int, act_dim: int, *, hidden: Sequence[int] = (64, 64), act: str = "tanh") -> Actor:
    """A Beta policy on [-1, 1]: both concentrations are `1 + softplus` of a perceptron's output.

    Args:
      obs_dim: O.
      act_dim: A.
      hidden: Widths of the hidden layers.
      act: Activation by name.
    """
    return _perceptron_actor(obs_dim, 2 * act_dim, hidden, act, lambda logits: Beta(*concentrations(logits)))


def categorical_actor(
    obs_dim: int, sizes: Sequence[int], *, hidden: Sequence[int] = (64, 64), act: str = "tanh"
) -> Actor:
    """A policy over one or several choices: the logits of all of them are a perceptron with linear output.

    Args:
      obs_dim: O.
      sizes: Number of choices of each factor.
      hidden: Widths of the hidden layers.
      act: Activation by name.
    """
    return _perceptron_actor(obs_dim, sum(sizes), hidden, act, lambda logits: categorical(logits, tuple(sizes)))


def value_functions(obs_dim: int, count: int, *, hidden: Sequence[int] = (64, 64), act: str = "tanh") -> ValueFunctions:
    """K separate state-value perceptrons (the reward's, then one per cost) in stacked arrays.

    Args:
      obs_dim: O.
      count: K.
      hidden: Widths of the hidden layers.
      act: Activation by name.
    """
    f = activation(act)

    def init(key):
        return _layers(key, (obs_dim, *hidden, 1), (count,))

    def stacked(params, h):
        for i, layer in enumerate(params):
            h = jnp.matmul(h, layer["w"]) + layer["b"][:, None, :]
            if i < len(params) - 1:
                h = f(h)
        return h[..., 0].T

    def apply(params, obs):
        # All products alike: a shared left side is slower on CPUs.
        return stacked(params, jnp.broadcast_to(obs, (count, *obs.shape)))

    return ValueFunctions(init, apply, stacked)
