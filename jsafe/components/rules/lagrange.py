"""Lagrange multipliers by dual ascent."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe.components import optim
from jsafe.components.rules.base import Normalize, check_costs, mix
from jsafe.options import FieldError, Options, number, part, traced, traced_values, word
from jsafe.types import Array, ConstraintRule, EnvSpec


class LagrangeState(NamedTuple):
    """`parameter [M]` is the multiplier itself (`clamp`) or its inverse softplus; `numbers.learning_rate` a scalar."""

    parameter: Array
    opt_state: Any
    numbers: Any


@part("rule", "lagrange")
@dataclasses.dataclass(frozen=True)
class Lagrange(Options):
    """A multiplier per cost, moved by one optimiser step per call on the dual loss.

    `clamp`: raw `lam >= 0`, loss `-lam * (J - limit)`, then clipped to `[0, upper_bound]` (OmniSafe and the Safety-Gym
    baselines). `softplus`: `lam = softplus(rho)`, loss `softplus(rho) * (limit - J)`, Adam in TensorFlow's form
    (SEditor).

    Adam divides by the root of the mean square of past violations: a step has the size of the rate however large the
    violation is. Where costs come in bursts that are rarer than its memory is long, a burst raises that root just as it
    arrives, and Adam rests above the limit: with one burst in 100, 300, 1000 calls at 1.07, 1.27, 1.7 times the limit
    in simulation. Plain dual ascent (`sgd` with `clamp`) rests at the limit however the costs come.

    Raises:
      ValueError: If a number is out of its range, or the start does not fit transform or bound.

    Source: Yu et al. 2022 (arXiv 2201.12427), section 4; Ray et al. 2019, "Benchmarking safe exploration".
    """

    init: float = number(0.001, low=0)
    """Initial multiplier of each cost."""
    learning_rate: float = traced(0.035, low=0)
    """Step of the multiplier, once per call of the rule."""
    optimizer: Literal["adam", "sgd"] = word("adam", optax.GradientTransformation)
    """Direction of the step, without a rate: `adam`, `sgd` (plain dual ascent: rate times violation), or in code a
    transformation of one's own."""
    transform: Literal["clamp", "softplus"] = "clamp"
    """How the multiplier is kept non-negative."""
    upper_bound: float | None = number(None, low=0)
    """Largest multiplier."""
    normalize: Normalize = "sum"
    """`sum`: weights are divided by one plus the sum of the multipliers; `none`: they are not."""

    def __post_init__(self):
        super().__post_init__()
        if self.transform == "softplus" and self.init == 0:
            raise FieldError("init must be positive with transform='softplus', got 0.0")
        if self.upper_bound is not None and self.upper_bound < self.init:
            raise FieldError(f"upper_bound must be at least init ({self.init!r}), got {self.upper_bound!r}")

    def _direction(self) -> optax.GradientTransformation:
        if not isinstance(self.optimizer, str):
            return self.optimizer
        if self.optimizer == "sgd":
            return optax.identity()
        return optim.scale_by_adam_epsilon_hat() if self.transform == "softplus" else optax.scale_by_adam()

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> ConstraintRule:
        """The rule, with a `LagrangeState`."""
        m, optimizer, soft = spec.num_costs, self._direction(), self.transform == "softplus"

        def inverse(multiplier):
            return jnp.log(jnp.expm1(multiplier)) if soft else multiplier

        def value(parameter):
            return jax.nn.softplus(parameter) if soft else parameter

        def init():
            parameter = inverse(jnp.full((m,), self.init, jnp.float32))
            return LagrangeState(parameter, optimizer.init(parameter), traced_values(self))

        def update(state, J_cost, limit):
            check_costs(m, J_cost, limit)
            grad = jax.grad(lambda p: jnp.sum(value(p) * (limit - J_cost)))(state.parameter)
            direction, opt_state = optimizer.update(grad, state.opt_state, state.parameter)
            parameter = state.parameter - state.numbers.learning_rate * direction
            if not soft:
                parameter = jnp.maximum(parameter, 0.0)
            if self.upper_bound is not None:
                parameter = jnp.minimum(parameter, inverse(jnp.float32(self.upper_bound)))
            return LagrangeState(parameter, opt_state, state.numbers)

        return ConstraintRule(init, update, lambda state, J_cost, limit: mix(value(state.parameter), self.normalize))
