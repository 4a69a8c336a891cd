"""Projection-based constrained policy optimisation.

    x_0 = sqrt(2 delta / g'H^-1 g) H^-1 g                              the TRPO step
    x   = argmin (x - x_0)'H(x - x_0)  subject to  b_i'x + c_i <= 0    its projection in the norm of H

With one constraint: `x = x_0 - max(0, (b'x_0 + c) / b'H^-1 b) H^-1 b`. Units of `c` as in CPO.

Source: Yang, Rosca, Narasimhan & Ramadge 2020 (arXiv 2010.03152), algorithm 1 (KL projection).
OmniSafe: `H H^-1 g`, about the plain gradient, in place of `H^-1 g`, and the episodic gap for `c`
(`compat="omnisafe"`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import PCPO
from jsafe.registry import Preset

define(
    "pcpo",
    OnPolicyConfig(step=PCPO()),
    paper="Yang et al. 2020, Projection-Based Constrained Policy Optimization, arXiv 2010.03152",
    summary="TRPO step projected onto the constraints.",
    module=__name__,
    more={"jsafe": Preset("with a learned safety margin", {"step.margin_learning_rate": 0.05})},
    recommended="jsafe",
)
