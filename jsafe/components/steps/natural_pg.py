"""The natural gradient."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jsafe.components.compat import Compat
from jsafe.components.steps.second_order import Direction, Problem, SecondOrder
from jsafe.ops import second_order as algebra
from jsafe.options import part


@part("step", "natural_pg")
@dataclasses.dataclass(frozen=True)
class NaturalPG(SecondOrder):
    """`sqrt(2 delta / g'H^-1 g) H^-1 g`, taken as it is.

    Source: Kakade 2001.
    """

    tries: ClassVar[int] = 0

    def direction(self, problem: Problem, compat: Compat) -> Direction:
        """See `SecondOrder`."""
        return Direction(algebra.natural_scale(problem.q, problem.delta) * problem.x, True, False, {})
