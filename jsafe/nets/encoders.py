"""From an observation to a flat latent: perceptrons need vectors, environments give pictures, choices and trees.

Any flax module that maps one batch of observations to `[B, H]` is an encoder: `encoder(module, spec)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeGuard

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.distributions.categorical import one_hot
from jsafe.errors import unknown
from jsafe.nets.perceptron import Activation, activation
from jsafe.ops.convolution import convolve
from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec, Key, Obs, Params


class EncodeFn(Protocol):
    """`(params, obs [..., *shape]) -> [..., H]`, with any leading axes."""

    def __call__(self, params: Params, obs: Obs, /) -> Array: ...


Stack = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Channels, kernels and strides, layer by layer."""


class Encoder(NamedTuple):
    """A network from observations to latents.

    Attributes:
      init: `key -> params`; `()` where nothing is learnt.
      apply: `(params, obs [..., *shape]) -> [..., H]`.
      width: H.
    """

    init: Callable[[Key], Params]
    apply: EncodeFn
    width: int

    @property
    def learns(self) -> bool:
        """Whether it has parameters."""
        return bool(jax.tree.leaves(jax.eval_shape(self.init, jax.random.key(0))))


def encoder(module: nn.Module, spec: EnvSpec) -> Encoder:
    """A flax module as an encoder.

    Args:
      module: Maps observations `[B, *shape]` (a dict of arrays for a `Tree`) to `[B, H]`.
      spec: Its `obs` says what goes in.

    Raises:
      ValueError: If it gives anything else than `[B, H]`.
    """
    example = spaces.zeros(spec.obs, (2,))
    out = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), example)[0])
    if getattr(out, "ndim", 0) != 2 or out.shape[0] != 2:
        raise ValueError(f"an encoder must give [B, H] for observations [B, ...], got {getattr(out, 'shape', out)}")

    def init(key: Key) -> Params:
        return module.init(key, example)["params"] if _has_params(module, example) else ()

    def apply(params: Params, obs: Obs) -> Array:
        batch = _batch_shape(obs, spec.obs)
        flat = jax.tree.map(lambda x, like: x.reshape(-1, *like.shape[1:]), obs, example)
        variables = {"params": params} if params != () else {}
        latent: Any = module.apply(variables, flat)
        return latent.reshape(*batch, out.shape[1])

    return Encoder(init, apply, out.shape[1])


def _has_params(module: nn.Module, example: Any) -> bool:
    return "params" in jax.eval_shape(lambda: module.init(jax.random.key(0), example))


def _batch_shape(obs: Obs, space: spaces.Space) -> tuple[int, ...]:
    """The leading axes of observations."""
    if isinstance(space, spaces.Tree):
        name, inner = space.items[0]
        return _batch_shape(obs[name], inner)
    return obs.shape[: obs.ndim - len(space.shape)]


class Flat(nn.Module):
    """Choices as one-hot columns, boxes flattened, all but flat floats scaled to [-1, 1]; nothing is learnt."""

    space: spaces.Space

    def __call__(self, obs: Obs) -> Array:
        """`[B, ...]` to `[B, width]`, the leaves of a tree in the order of their names."""
        if isinstance(self.space, spaces.Tree):
            return jnp.concatenate([Flat(inner)(obs[name]) for name, inner in self.space.items], axis=-1)
        if isinstance(self.space, spaces.Discrete):
            return one_hot(obs, self.space.sizes, bool(self.space.shape))
        return _scaled(obs, self.space).reshape(obs.shape[0], -1)


def _scaled(obs: Array, box: spaces.Box) -> Array:
    """To [-1, 1] where the bounds are finite; flat floats stay as they are, statistics scale those."""
    low, high = spaces.bounds(box)
    if box.flat or not (np.isfinite(low).all() and np.isfinite(high).all()):
        return obs.astype(jnp.float32)
    if low.ndim:
        low, high = low.reshape(box.shape), high.reshape(box.shape)
    return (2 * (obs.astype(jnp.float32) - low) / jnp.maximum(high - low, 1e-6) - 1).astype(jnp.float32)


class Convolutions(nn.Module):
    """Convolutions over a picture `[B, H, W, C]`, then one dense layer with a layer norm and tanh.

    Source: the layers are those of DQN (Mnih et al. 2015) for large pictures, thinner for small ones; the norm and
    the tanh behind them are DrQ's (Kostrikov et al. 2021, arXiv 2004.13649).
    """

    space: spaces.Box
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    width: int
    act: str

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        """`[B, H, W, C]` to `[B, width]`."""
        h = _convolved(_scaled(obs, self.space), (self.channels, self.kernels, self.strides), self.act)
        return jnp.tanh(nn.LayerNorm()(nn.Dense(self.width)(h)))


def _convolved(h: Array, layers: Stack, act: str, **words: Any) -> Array:
    """`[B, H, W, C]` through convolutions of the module that calls it, `[B, F]`."""
    for channels, kernel, stride in zip(*layers, strict=True):
        window, steps = (kernel, kernel), (stride, stride)
        h = activation(act)(nn.Conv(channels, window, steps, "VALID", conv_general_dilated=_convolve, **words)(h))
    return h.reshape(h.shape[0], -1)


def _convolve(x: Array, kernel: Array, strides: tuple[int, int], *others: Any, **more: Any) -> Array:
    """`convolve` as flax calls it: with a padding, dilations and groups, which are those that it has."""
    del others, more
    return convolve(x, kernel, strides[0])


class Branches(nn.Module):
    """A tree of observations: pictures through convolutions, the rest flat, side by side."""

    space: spaces.Space
    picture: Callable[[spaces.Box], nn.Module]

    @nn.compact
    def __call__(self, obs: Obs) -> Array:
        """`[B, ...]` to `[B, H]`."""
        if isinstance(self.space, spaces.Tree):
            parts = [Branches(inner, self.picture, name=name)(obs[name]) for name, inner in self.space.items]
            return jnp.concatenate(parts, axis=-1)
        return self.picture(self.space)(obs) if is_picture(self.space) else Flat(self.space)(obs)


class Average(nn.Module):
    """`tanh` of the mean of what the leaves give: a linear layer each, behind convolutions for pictures."""

    space: spaces.Space
    layers: Callable[[spaces.Box], Stack]
    width: int
    act: str

    @nn.compact
    def __call__(self, obs: Obs) -> Array:
        """`[B, ...]` to `[B, width]`."""
        leaves = _leaves(obs, self.space)
        parts = [Linear(leaf, self.layers, self.width, self.act, name=name)(x) for name, leaf, x in leaves]
        return jnp.tanh(sum(parts, jnp.zeros(())) / len(parts))


class Linear(nn.Module):
    """A leaf of an observation through a linear layer, behind convolutions if it is a picture, from 0 to 1."""

    space: spaces.Space
    layers: Callable[[spaces.Box], Stack]
    width: int
    act: str

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        """`[B, ...]` to `[B, width]`."""
        linear = nn.Dense(self.width, kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"))
        if not is_picture(self.space):
            return linear(Flat(self.space)(obs))
        gain = {"kernel_init": nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")}
        h = _convolved((_scaled(obs, self.space) + 1) / 2, self.layers(self.space), self.act, **gain)
        return linear(h)


def _leaves(obs: Obs, space: spaces.Space, name: str = "obs") -> list[tuple[str, spaces.Space, Array]]:
    """The leaves of an observation with their names, `a_b` of a tree in a tree."""
    if not isinstance(space, spaces.Tree):
        return [(name, space, obs)]
    front = "" if name == "obs" else f"{name}_"
    return [leaf for key, inner in space.items for leaf in _leaves(obs[key], inner, front + key)]


def is_picture(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Whether a space is `[H, W, C]`."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


@dataclasses.dataclass(frozen=True)
class Convolving(Options):
    """What encoders of pictures have in common."""

    channels: tuple[int, ...] = ()
    """Channels of the convolutions. Without a word on them they are DQN's, 32, 64 and 64 channels with kernels of 8, 4
    and 3 pixels in strides of 4, 2 and 1; for pictures under 36 pixels 16 and 32 with kernels of 3 in strides of 2."""
    kernels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    width: int = number(50, low=1)
    """Width of the latent of a picture."""
    activation: Activation = "relu"

    def __post_init__(self):
        super().__post_init__()
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError(
                "channels, kernels and strides must be equally many, got "
                f"{self.channels!r}, {self.kernels!r}, {self.strides!r}"
            )
        for name in ("channels", "kernels", "strides"):
            if min(getattr(self, name), default=1) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")

    def layers(self, box: spaces.Box) -> Stack:
        """Channels, kernels and strides for pictures of a space.

        Raises:
          ValueError: If a picture is too small for the convolutions.
        """
        side = min(box.shape[:2])
        layers = self.channels, self.kernels, self.strides
        if not self.channels:
            layers = DQN if side >= 36 else SMALL
        for kernel, stride in zip(*layers[1:]):
            if side < kernel:
                raise ValueError(
                    f"pictures of {box.shape} are too small for kernels {layers[1]} with strides {layers[2]}"
                )
            side = (side - kernel) // stride + 1
        return layers


@part("encoder", "auto")
@dataclasses.dataclass(frozen=True)
class Auto(Convolving):
    """Flat vectors as they are, choices one-hot, pictures through convolutions, trees leaf by leaf."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Encoder:
        """The encoder of a space.

        Raises:
          ValueError: If a picture is too small for the convolutions.
        """
        del axis_name
        if isinstance(spec.obs, spaces.Box) and spec.obs.flat:
            return Encoder(lambda key: (), lambda params, obs: obs, spec.obs.width)
        return encoder(Branches(spec.obs, self._picture), spec)

    def _picture(self, box: spaces.Box) -> nn.Module:
        return Convolutions(box, *self.layers(box), self.width, self.activation)


@part("encoder", "average")
@dataclasses.dataclass(frozen=True)
class Averaging(Convolving):
    """`tanh((f_1(x_1) + ... + f_n(x_n)) / n)`, a linear layer for each part of an observation, behind convolutions for
    pictures.

    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427), released configuration of the racing tasks, with its start: normal
    numbers cut at two standard deviations, scaled for the layer's inputs and for relu where there is one.
    """

    width: int = number(256, low=1)
    """Width of the latent."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Encoder:
        """The encoder of a space.

        Raises:
          ValueError: If a picture is too small for the convolutions.
        """
        del axis_name
        return encoder(Average(spec.obs, self.layers, self.width, self.activation), spec)


DQN = (32, 64, 64), (8, 4, 3), (4, 2, 1)
SMALL = (16, 32), (3, 3), (2, 2)
"""Channels, kernels and strides for pictures under 36 pixels."""


def as_encoder(given: Any, spec: EnvSpec) -> Encoder:
    """An `Encoder`, a part that builds one or a flax module, a flax module, or the name of a kind, as an `Encoder`.

    Raises:
      ValueError: For anything else.
    """
    from jsafe.options import kinds

    if isinstance(given, Encoder):
        return given
    if isinstance(given, nn.Module):
        return encoder(given, spec)
    if isinstance(given, str):
        known = kinds("encoder")
        if given not in known:
            raise ValueError(unknown("encoder", given, known))
        given = known[given]()
    if not hasattr(given, "build"):
        raise ValueError(f"an encoder must be a flax module or a part with `build`, got {given!r}")
    made = given.build(spec)
    return encoder(made, spec) if isinstance(made, nn.Module) else made


OWN = (Encoder, nn.Module)
"""What a field of an encoder takes besides a part."""
