"""A safety budget in the observation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from jsafe.components.compat import Compat, Released
from jsafe.components.transforms.base import RELEASED_HORIZON, BudgetParams, Transform, budget_data
from jsafe.ops import cmdp
from jsafe.options import part, traced, traced_values
from jsafe.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class Budget(Released):
    """Options of Saute and Simmer."""

    budgets: ClassVar[bool] = True
    """The limit is a budget, which has to be worth something."""

    gamma: float = traced(0.999, above=0, high=1)
    """Discount of the safety budget."""
    unsafe_reward: float = traced(-1.0)
    """Reward once the budget is used up."""


@part("transform", "saute")
@dataclasses.dataclass(frozen=True)
class Saute(Budget):
    """A fixed budget, `cmdp.discounted(limit, gamma, horizon)`, in the observation.

    As released the horizon is 1000 on every task, and truncated steps bootstrap from a full budget.

    Source: Sootla et al. 2022 (arXiv 2202.06558).
    """

    def build(self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper") -> Transform:
        """The transform; its state holds the numbers."""
        released = compat == "omnisafe"
        horizon = RELEASED_HORIZON if released else spec.horizon

        def params(numbers, limit):
            ones = jnp.ones((spec.num_costs,), jnp.float32)
            budget = cmdp.discounted(limit, numbers.gamma, horizon)
            return BudgetParams(ones, ones, budget, numbers.gamma, numbers.unsafe_reward)

        data = budget_data(spec.num_costs, full_at_end=released)
        return Transform(data, init=lambda limit: traced_values(self), params=params)
