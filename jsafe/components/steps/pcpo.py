"""The trust-region step, projected onto the constraints."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jsafe.components.compat import Compat
from jsafe.components.steps.base import WithMargin
from jsafe.components.steps.second_order import Direction, Problem, SecondOrder
from jsafe.ops import second_order as algebra
from jsafe.options import part


@part("step", "pcpo")
@dataclasses.dataclass(frozen=True)
class PCPO(WithMargin, SecondOrder):
    """The step of `NaturalPG`, projected (`ops.second_order.pcpo_program`), 200 tries, no test on the reward.

    As released `H g` stands in place of `H^-1 g`, and the search does not shrink a step whose divergence is not finite.

    Source: Yang et al. 2020 (arXiv 2010.03152).
    """

    constrained: ClassVar[bool] = True
    tries: ClassVar[int] = 200

    def direction(self, problem: Problem, compat: Compat) -> Direction:
        """See `SecondOrder`."""
        p, r, S = problem.constraints()
        scale = algebra.natural_scale(problem.q, problem.delta)
        start = scale * (problem.fisher(problem.x) if compat == "omnisafe" else problem.x)
        nu = algebra.pcpo_program(scale * r, S, problem.gap)
        return Direction(start - nu @ p, False, True, {"update/projection": nu.sum()})
