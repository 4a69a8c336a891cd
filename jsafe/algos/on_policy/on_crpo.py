"""Constraint-rectified policy optimisation, on-policy.

    if J_c,i <= d_i + distance for all i:  TRPO on A_r,     else: TRPO on -A_c,i of the most violated cost

Source: Xu, Liang & Lan 2021 (arXiv 2011.05869), algorithm 1.
OmniSafe: the same, KL averaged over action components, cost over 100 episodes (preset `omnisafe`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.rules import CRPO
from jsafe.components.steps import TRPO

define(
    "on_crpo",
    OnPolicyConfig(step=TRPO(), rule=CRPO(distance=2.0)),
    paper="Xu, Liang & Lan 2021, CRPO: A New Approach for Safe RL with Convergence Guarantee, arXiv 2011.05869",
    summary="TRPO that switches between reward and cost.",
    module=__name__,
)
