"""A safety budget that a controller moves."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.transforms.base import RELEASED_HORIZON, BudgetParams, Transform, budget_data
from jsafe.components.transforms.saute import Budget
from jsafe.ops import cmdp
from jsafe.options import number, part, traced, traced_values
from jsafe.types import Array, EnvSpec


class SimmerState(NamedTuple):
    """`budget`, `action` and `raw_action` are `[M]`; `errors [W, M]` are the last filtered errors, newest first."""

    budget: Array
    errors: Array
    action: Array
    raw_action: Array
    numbers: Any


@part("transform", "simmer")
@dataclasses.dataclass(frozen=True)
class Simmer(Budget):
    """Saute with a budget that a PI controller moves towards what the policy keeps.

    With budgets in discounted units, `upper = discounted(limit)`: `e = budget - J`, filtered
    `f <- polyak f + (1 - polyak) e`, `a_raw = kp f + ki sum(last f) + kd (a_prev - a_raw_prev)`,
    `budget <- clip(budget + clip(a_raw, -1, 1), 1e-6, upper)`, from `budget = upper` on. The anti-windup term looks at
    `a`, what the budget was moved by. An episode starts at `z = budget / upper`, and a cost takes `c / upper` from it.

    As released a cost takes `c / budget`; episodes that follow another in an epoch start at 1, which cannot act where
    each environment finishes one episode per epoch (as with 20 environments, 20 000 steps and episodes of 1000); `a` is
    before the bounds of the budget; horizon and truncated steps as in the released Saute.

    Source: Sootla et al. 2022 (arXiv 2206.02675), section 4.
    """

    kp: float = traced(5e-4, low=0)
    """Proportional gain."""
    ki: float = traced(1e-5, low=0)
    """Integral gain."""
    kd: float = traced(0.0, low=0)
    """Anti-windup gain."""
    polyak: float = number(0.995, low=0, below=1)
    """Smoothing of the error."""
    window: int = number(10, low=1)
    """Iterations over which the error is summed."""

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Transform:
        """The transform, with a `SimmerState`."""
        m, polyak, released = spec.num_costs, self.polyak, compat == "omnisafe"
        horizon = RELEASED_HORIZON if released else spec.horizon

        def init(limit):
            numbers = traced_values(self)
            action, raw = (jnp.zeros((m,), jnp.float32) for _ in range(2))
            upper = cmdp.discounted(limit, numbers.gamma, horizon)
            return SimmerState(upper, jnp.zeros((self.window, m), jnp.float32), action, raw, numbers)

        def update(state, J_episodic, limit):
            n = state.numbers
            error = state.budget - cmdp.discounted(J_episodic, n.gamma, horizon)
            filtered = polyak * state.errors[0] + (1 - polyak) * error
            errors = jnp.concatenate([filtered[None], state.errors[:-1]])
            raw = n.kp * filtered + n.ki * errors.sum(0) + n.kd * (state.action - state.raw_action)
            action = jnp.clip(raw, -1.0, 1.0)
            budget = jnp.clip(state.budget + action, 1e-6, cmdp.discounted(limit, n.gamma, horizon))
            return SimmerState(budget, errors, action if released else budget - state.budget, raw, n)

        def params(state, limit):
            n = state.numbers
            upper = cmdp.discounted(limit, n.gamma, horizon)
            start = state.budget / upper
            refill = jnp.ones_like(start) if released else start
            return BudgetParams(start, refill, state.budget if released else upper, n.gamma, n.unsafe_reward)

        return Transform(
            data=budget_data(m, full_at_end=released),
            init=init,
            update=update,
            params=params,
            metrics=lambda state: {f"cost/{i}/budget": state.budget[i] for i in range(m)},
        )
