"""Projection-based constrained policy optimisation.

    x_0 = sqrt(2 delta / g'H^-1 g) H^-1 g                              the TRPO step
    x   = argmin (x - x_0)'H(x - x_0)  subject to  b_i'x + c_i <= 0    its projection in the norm of H

With one constraint: `x = x_0 - max(0, (b'x_0 + c) / b'H^-1 b) H^-1 b`. Units of `c` as in CPO.

Source: Yang, Rosca, Narasimhan & Ramadge 2020 (arXiv 2010.03152), algorithm 1 (KL projection).
OmniSafe: `H H^-1 g`, about the plain gradient, in place of `H^-1 g`, and the episodic gap for `c`
(`compat="omnisafe"`).
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import SecondOrderConfig, StepName


@dataclasses.dataclass(frozen=True)
class PCPOConfig(SecondOrderConfig):
    """Options of pcpo."""

    step: StepName = "pcpo"


define(
    "pcpo",
    PCPOConfig,
    paper="Yang et al. 2020, Projection-Based Constrained Policy Optimization, arXiv 2010.03152",
    summary="TRPO step projected onto the constraints.",
    jsafe={"margin_lr": 0.05},
)
