"""A trust region with linearised cost constraints."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from jsafe.components.compat import Compat
from jsafe.components.steps.base import WithMargin
from jsafe.components.steps.second_order import Direction, Problem, SecondOrder
from jsafe.ops import second_order as algebra
from jsafe.options import part


@part("step", "cpo")
@dataclasses.dataclass(frozen=True)
class CPO(WithMargin, SecondOrder):
    """`ops.second_order.cpo_program`, 20 tries.

    The reward has to hold only where all constraints hold already, each cost surrogate may rise by its slack at most.
    As released, the reward's gradient has the wrong sign in the two middle cases (one constraint), and the search does
    not shrink a step whose divergence is not finite.

    Source: Achiam et al. 2017 (arXiv 1705.10528).
    """

    constrained: ClassVar[bool] = True
    tries: ClassVar[int] = 20

    def direction(self, problem: Problem, compat: Compat) -> Direction:
        """See `SecondOrder`."""
        p, r, S = problem.constraints()
        plan = algebra.cpo_program(problem.q, r, S, problem.gap, problem.delta, released=compat == "omnisafe")
        move = plan.reward * problem.x - plan.cost @ p
        holds = plan.feasible & jnp.all(problem.gap < 0)
        return Direction(move, holds, True, {"update/feasible": plan.feasible.astype(jnp.float32)})
