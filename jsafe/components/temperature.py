"""Entropy temperatures of maximum-entropy policies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.options import FieldError, Options, number, part
from jsafe.spaces import Discrete
from jsafe.types import Array, EnvSpec

Soft = Literal["none", "reward", "all"]


class Temperature(NamedTuple):
    """How the entropy of a policy is weighed.

    Attributes:
      init: `() -> log_alpha`, of one policy.
      loss: `(log_alpha, log_prob [R], number of the policy = 0) -> [R]`, the loss that moves it.
      project: `log_alpha -> log_alpha`, applied after each step.
      soft: Weights of the entropy in the targets of the reward and of the costs.
      policies: How many policies it has a target for; None: any number, the same for all.
    """

    init: Callable[[], Array]
    loss: Callable[..., Array]
    project: Callable[[Array], Array]
    soft: tuple[float, float]
    policies: int | None = None

    def serving(self, policies: tuple[str, ...]) -> Temperature:
        """Itself.

        Raises:
          ValueError: If it has targets for another number of policies.
        """
        if self.policies not in (None, len(policies)):
            raise ValueError(
                f"temperature.target must be one number, or one for each policy ({', '.join(policies)}), "
                f"got {self.policies} numbers"
            )
        return self


def temperature(log_alpha: Array) -> Array:
    """`exp(log_alpha)` as a constant."""
    return jnp.exp(jax.lax.stop_gradient(log_alpha))


def temperature_loss(log_alpha: Array, log_prob: Array, target_entropy: float) -> Array:
    """`log_alpha * (H - H_target)` per sample with `H = -log_prob` held constant, `[...] -> [...]`.

    The derivative is with respect to `log_alpha`, not `alpha` (as in ALF; Haarnoja et al. 2018 use `alpha`).
    """
    return log_alpha * jax.lax.stop_gradient(-log_prob - target_entropy)


def _start(value: float) -> Callable[[], Array]:
    return lambda: jnp.log(jnp.float32(value))


def _weights(soft: Soft) -> tuple[float, float]:
    return (float(soft != "none"), float(soft == "all"))


@part("temperature", "learned")
@dataclasses.dataclass(frozen=True)
class Learned(Options):
    """A temperature that keeps the entropy at a target.

    Its logarithm moves at the critics' learning rate, per update, whatever the entropy lacks: while a policy is still
    more random than the target it falls without end, and it takes as long to come back. A floor stops it there.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), equation 18, with the derivative of the logarithm as in ALF.
    """

    init: float = number(1.0, above=0)
    """Initial temperature."""
    target: float | tuple[float, ...] = number(-1.0)
    """Target entropy in nats per component of the action, one for all policies or one for each; SEditor's is `log 2 +
    log 0.1`. Where actions are choices: a share of the largest entropy instead, above 0 and below 1."""
    floor: float = number(0.0, low=0)
    """Smallest temperature; 0: none."""
    soft: Soft = "reward"
    """Whose targets have the entropy of the next action in them: the reward's (SAC's soft value), the costs' too (less
    cost, as SEditor's released baselines), or none."""

    def __post_init__(self):
        super().__post_init__()
        if self.floor > self.init:
            raise FieldError(f"floor must be at most init ({self.init!r}), got {self.floor!r}")
        if isinstance(self.target, tuple) and not self.target:
            raise FieldError("target must be a number or one for each policy, got ()")

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Temperature:
        """A `Temperature`."""
        del axis_name
        given = self.target if isinstance(self.target, tuple) else (self.target,)
        many = isinstance(self.target, tuple)
        if isinstance(spec.action, Discrete):
            if not all(0 < target < 1 for target in given):
                raise ValueError(
                    "where actions are choices, temperature.target must be a share of the largest entropy, above 0 and "
                    f"below 1, got {self.target!r}"
                )
            size = sum(map(math.log, spec.action.sizes))
        else:
            size = spec.act_dim

        def project(log_alpha):
            return jnp.maximum(log_alpha, math.log(self.floor)) if self.floor else log_alpha

        return Temperature(
            _start(self.init),
            lambda value, log_prob, policy=0: temperature_loss(value, log_prob, size * given[policy if many else 0]),
            project,
            _weights(self.soft),
            len(given) if many else None,
        )


@part("temperature", "fixed")
@dataclasses.dataclass(frozen=True)
class Fixed(Options):
    """A temperature that stays, or shrinks at a fixed pace."""

    value: float = number(0.2, above=0)
    """The temperature."""
    soft: Soft = "reward"
    """See `Learned`."""
    decay: float = number(1.0, above=0, high=1)
    """Factor by which it shrinks with every update of the actor (OmniSafe's LOOP: 0.99); 1: it stays."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Temperature:
        """A `Temperature`."""
        del spec, axis_name
        slope = math.log(self.decay)
        return Temperature(
            _start(self.value),
            lambda value, log_prob, policy=0: jnp.zeros_like(log_prob),
            lambda value: value + slope if slope else value,
            _weights(self.soft),
        )


@part("temperature", "none")
@dataclasses.dataclass(frozen=True)
class NoTemperature(Options):
    """For policies without an entropy."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Temperature:
        """A `Temperature` that no policy has."""
        del spec, axis_name
        return Temperature(
            _start(1.0), lambda value, log_prob, policy=0: jnp.zeros_like(log_prob), lambda value: value, (0.0, 0.0)
        )
