"""The seam `policy`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jsafe import spaces
from jsafe.nets.encoders import OWN, Auto, Encoder, as_encoder
from jsafe.nets.heads import Activation, Actor, categorical_actor, gaussian_actor
from jsafe.options import Options, number, seam
from jsafe.types import NO_MEMORY, Array, EnvSpec, Key, Memory, Obs, Params, Part


class ApplyFn(Protocol):
    """`(params, memory, obs) -> (distribution, memory)`; see `jsafe.distributions`."""

    def __call__(self, params: Params, memory: Any, obs: Obs, /) -> tuple[Any, Any]: ...


class UnrollFn(Protocol):
    """`(params, memory [S, ...], obs [S, L, ...], started [S, L]) -> (distribution, memories)` over `S L` rows.

    S sequences of L steps, with the memory before the first of them; where `started`, an episode starts and the memory
    is reset before the step. Rows are in order, sequence after sequence; row i of `memories` is the memory after it.
    """

    def __call__(self, params: Params, memory: Any, obs: Obs, started: Array, /) -> tuple[Any, Any]: ...


class PolicyNetwork(NamedTuple):
    """A stochastic policy.

    Attributes:
      init: `key -> params`.
      apply: `(params, memory, obs [..., O]) -> (distribution, memory)`; one step of a memory.
      memory: How its memory starts; `NO_MEMORY` where the observation is all.
      unroll: Sequences of steps, where it has a memory.
      segment: Steps that gradients flow back through a memory.
    """

    init: Callable[[Key], Params]
    apply: ApplyFn
    memory: Memory = NO_MEMORY
    unroll: UnrollFn | None = None
    segment: int = 1

    @property
    def memory_width(self) -> int:
        """Numbers in the memory of one environment."""
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: self.memory.init(1))))


@dataclasses.dataclass(frozen=True)
class Perceptron(Options):
    """What policies of perceptrons share."""

    hidden: tuple[int, ...] = number((64, 64), low=1)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    encoder: Part = seam("encoder", Auto(), OWN)
    """From an observation to what the perceptron sees; a part, or a flax module of one's own."""

    def head(self, spec: EnvSpec, width: int) -> Actor:
        """The distribution of actions from `width` numbers."""
        raise NotImplementedError

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> PolicyNetwork:
        """The network, without memory."""
        del axis_name
        coder = as_encoder(self.encoder, spec)
        head = self.head(spec, coder.width)

        def apply(params, memory, obs):
            return head.apply(params, coder.apply(params["encoder"] if coder.learns else (), obs)), memory

        return PolicyNetwork(with_encoder(coder, head.init), apply)


def with_encoder(coder: Encoder, init: Callable[[Key], dict[str, Params]]) -> Callable[[Key], dict[str, Params]]:
    """The init of a network behind an encoder, whose parameters, if it has any, are added as `encoder`."""

    def both(key):
        head_key, coder_key = jax.random.split(key)
        return {"encoder": coder.init(coder_key), **init(head_key)}

    return both if coder.learns else init


def continuous(kind: str, spec: EnvSpec) -> None:
    """Raises ValueError if actions are choices."""
    if not isinstance(spec.action, spaces.Box):
        raise ValueError(f"the policy {kind!r} needs continuous actions, got {spec.action}; use 'auto'")


def gaussian_head(kind: str, spec: EnvSpec, width: int, options: Any) -> Actor:
    """A Gaussian of continuous actions.

    Raises:
      ValueError: If actions are choices.
    """
    continuous(kind, spec)
    return gaussian_actor(
        width, spec.act_dim, hidden=options.hidden, act=options.activation, log_std=options.init_log_std
    )


def categorical_head(kind: str, spec: EnvSpec, width: int, options: Any) -> Actor:
    """A categorical distribution of each choice.

    Raises:
      ValueError: If actions are something else.
    """
    if not isinstance(spec.action, spaces.Discrete):
        raise ValueError(f"the policy {kind!r} needs choices (Discrete) as actions, got {spec.action}; use 'auto'")
    return categorical_actor(width, spec.action.sizes, hidden=options.hidden, act=options.activation)


def fitting_head(kind: str, spec: EnvSpec, width: int, options: Any) -> Actor:
    """The one that fits the actions."""
    return (categorical_head if isinstance(spec.action, spaces.Discrete) else gaussian_head)(kind, spec, width, options)
