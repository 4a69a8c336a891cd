"""Multilayer perceptrons behind a small pair of pure functions, and their initialisers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe.options import Options, number
from jsafe.types import Array, Key, Params

Initializer = Callable[..., Array]
Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]


@dataclasses.dataclass(frozen=True)
class Layers(Options):
    """Options of a part that is made of perceptrons."""

    hidden: tuple[int, ...] = number((256, 256), low=1)
    """Hidden widths."""
    activation: Activation = "relu"


class FeedForward(NamedTuple):
    """A network `f(x, late)` of two inputs whose first layer acts on their concatenation.

    The first layer is linear, so its two halves can be computed apart: `embed` does the part of `x` (a wide stacked
    observation, say) once, `tail` the rest for as many `late` inputs (actions) as one likes. With `late` of width 0
    it is a plain perceptron.

    Attributes:
      init: `key -> params`.
      apply: `(params, x [..., X], late [..., L] | None) -> [..., out]`.
      embed: `(params, x [..., X]) -> h [..., H]`.
      tail: `(params, h [..., H], late [..., L] | None) -> [..., out]`.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Array]
    embed: Callable[[Params, Array], Array]
    tail: Callable[..., Array]


def fan_in_uniform(scale: float = 1.0) -> Initializer:
    """Uniform in `+-scale / sqrt(fan_in)`: torch's default for linear layers, and of SEditor's critics."""
    return nn.initializers.variance_scaling(scale**2 / 3.0, "fan_in", "uniform")


def uniform(limit: float) -> Initializer:
    """Uniform in `[-limit, limit]`."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def activation(name: str) -> Callable[[Array], Array]:
    """An activation function by its usual name (`tanh`, `relu`, `elu`, `silu`, `gelu`).

    Raises:
      ValueError: For another name.
    """
    table = {"tanh": jnp.tanh, "relu": nn.relu, "elu": nn.elu, "silu": nn.silu, "gelu": nn.gelu}
    if name not in table:
        raise ValueError(f"unknown activation {name!r}; allowed: {', '.join(table)}")
    return table[name]


class _MLP(nn.Module):
    x_dim: int
    late_dim: int
    hidden: tuple[int, ...]
    out: int
    act: Callable[[Array], Array]
    kernel_init: Initializer
    last_kernel_init: Initializer
    last_bias: float

    def setup(self):
        widths = (*self.hidden, self.out)
        inits = (self.kernel_init,) * len(self.hidden) + (self.last_kernel_init,)
        biases = (0.0,) * len(self.hidden) + (self.last_bias,)
        self.first_kernel = self.param("kernel_0", inits[0], (self.x_dim + self.late_dim, widths[0]))
        self.first_bias = self.param("bias_0", nn.initializers.constant(biases[0]), (widths[0],))
        self.rest = [
            nn.Dense(width, kernel_init=init, bias_init=nn.initializers.constant(bias), name=f"dense_{i + 1}")
            for i, (width, init, bias) in enumerate(zip(widths[1:], inits[1:], biases[1:]))
        ]

    def embed(self, x):
        return x @ self.first_kernel[: self.x_dim] + self.first_bias

    def tail(self, h, late=None):
        if self.late_dim:
            h = h + late @ self.first_kernel[self.x_dim :]
        for layer in self.rest:
            h = layer(self.act(h))
        return h

    def __call__(self, x, late=None):
        return self.tail(self.embed(x), late)


def mlp(
    x_dim: int,
    out: int,
    hidden: Sequence[int],
    *,
    late_dim: int = 0,
    act: str = "tanh",
    kernel_init: Initializer | None = None,
    last_kernel_init: Initializer | None = None,
    last_bias: float = 0.0,
) -> FeedForward:
    """A perceptron with one activation and a linear output.

    Args:
      x_dim: Width of the first input.
      out: Number of outputs.
      hidden: Widths of the hidden layers.
      late_dim: Width of the second input, concatenated behind the first.
      act: Name of the activation.
      kernel_init: Hidden weights (default: Xavier uniform). Biases start at 0.
      last_kernel_init: Output weights (default: `kernel_init`).
      last_bias: Start value of the output biases.

    Returns:
      A `FeedForward`.
    """
    kernel_init = kernel_init or nn.initializers.xavier_uniform()
    module = _MLP(
        x_dim,
        late_dim,
        tuple(hidden),
        out,
        activation(act),
        kernel_init,
        last_kernel_init or kernel_init,
        last_bias,
    )

    def init(key):
        late = jnp.zeros((1, late_dim)) if late_dim else None
        return module.init(key, jnp.zeros((1, x_dim)), late)["params"]

    def call(method):
        return lambda params, *inputs: module.apply({"params": params}, *inputs, method=method)

    return FeedForward(init, call("__call__"), call("embed"), call("tail"))


def ensemble(net: FeedForward, size: int) -> FeedForward:
    """`size` independent copies as one network: parameters and outputs gain a leading axis `[size, ...]`.

    `tail` takes `h` with that axis and one `late` for all members.
    """
    return FeedForward(
        init=lambda key: jax.vmap(net.init)(jax.random.split(key, size)),
        apply=jax.vmap(net.apply, in_axes=(0, None, None)),
        embed=jax.vmap(net.embed, in_axes=(0, None)),
        tail=jax.vmap(net.tail, in_axes=(0, 0, None)),
    )
