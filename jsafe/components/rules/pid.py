"""A PID controller of the cost."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jsafe.components.rules.base import Normalize, check_costs, mix
from jsafe.options import Options, number, part, traced, traced_values
from jsafe.types import Array, ConstraintRule, EnvSpec


class PIDState(NamedTuple):
    """Controller memory: `integral`, `error`, `cost`, `multiplier` are `[M]`, `history` is `[delay, M]`, oldest first.

    `numbers` holds the gains `kp`, `ki`, `kd`.
    """

    integral: Array
    error: Array
    cost: Array
    history: Array
    multiplier: Array
    numbers: Any


@part("rule", "pid")
@dataclasses.dataclass(frozen=True)
class PID(Options):
    """A multiplier set by a PID controller on the violation.

    With `e = J - limit`: `I <- max(0, I + ki e)`; `E <- a E + (1 - a) e`; `C <- b C + (1 - b) J`;
    `D = max(0, C - C[delay calls ago])` (zeros before the first call); `lam = max(0, kp E + I + kd D)`.

    Its integral rests where the mean cost is the limit, bursts or not.

    Source: Stooke, Achiam & Abbeel 2020 (arXiv 2007.03964), algorithm 2, with the smoothing and the delay of the
    authors' code. OmniSafe's `penalty_max` has no effect at its defaults; `upper_bound` always holds.
    """

    kp: float = traced(0.1, low=0)
    """Proportional gain, per unit of cost."""
    ki: float = traced(0.01, low=0)
    """Integral gain (inside the integral, so that a change of gain does not jump)."""
    kd: float = traced(0.01, low=0)
    """Derivative gain; only rising costs count."""
    init: float = number(0.001, low=0)
    """Initial integral."""
    error_decay: float = number(0.95, low=0, below=1)
    """`a`, smoothing of the proportional term."""
    cost_decay: float = number(0.95, low=0, below=1)
    """`b`, smoothing of the derivative term."""
    delay: int = number(10, low=1)
    """Calls over which the derivative is taken."""
    upper_bound: float | None = number(None, low=0)
    """Largest multiplier."""
    normalize: Normalize = "sum"
    """See `Lagrange`."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> ConstraintRule:
        """The rule, with a `PIDState`."""
        m, a, b = spec.num_costs, self.error_decay, self.cost_decay

        def init():
            return PIDState(
                integral=jnp.full(m, self.init, jnp.float32),
                error=jnp.zeros(m, jnp.float32),
                cost=jnp.zeros(m, jnp.float32),
                history=jnp.zeros((self.delay, m), jnp.float32),
                multiplier=jnp.full(m, self.init, jnp.float32),
                numbers=traced_values(self),
            )

        def update(state, J_cost, limit):
            check_costs(m, J_cost, limit)
            kp, ki, kd = state.numbers
            violation = J_cost - limit
            integral = jnp.maximum(state.integral + ki * violation, 0.0)
            error = a * state.error + (1 - a) * violation
            cost = b * state.cost + (1 - b) * J_cost
            rise = jnp.maximum(cost - state.history[0], 0.0)
            multiplier = jnp.maximum(kp * error + integral + kd * rise, 0.0)
            if self.upper_bound is not None:
                multiplier = jnp.minimum(multiplier, self.upper_bound)
            history = jnp.concatenate([state.history[1:], cost[None]])
            return PIDState(integral, error, cost, history, multiplier, state.numbers)

        return ConstraintRule(init, update, lambda state, J_cost, limit: mix(state.multiplier, self.normalize))
