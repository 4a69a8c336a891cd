"""The natural gradient with a line search."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from jsafe.components.steps.natural_pg import NaturalPG
from jsafe.options import part


@part("step", "trpo")
@dataclasses.dataclass(frozen=True)
class TRPO(NaturalPG):
    """The step of `NaturalPG`, shortened by 0.8 up to 15 times until the surrogate does not fall and `KL <= delta`.

    Source: Schulman et al. 2015 (arXiv 1502.05477).
    """

    tries: ClassVar[int] = 15
