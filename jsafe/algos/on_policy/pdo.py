"""Primal-dual optimisation.

    theta: ascent on mean(ratio (A_r - lam A_c)) / (1 + lam),      lam: projected ascent on J_c - d

Unclipped policy gradient on the Lagrangian.

Source: Chow, Ghavamzadeh, Janson & Pavone 2017 (arXiv 1512.01629), algorithm 1 with the expected cost as risk.
OmniSafe: scales rewards and costs by running statistics, their mean subtracted (preset `omnisafe`). Here neither: the
limit then has the unit of the costs that the critics learn.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.rules import Lagrange
from jsafe.components.steps import PolicyGradient

define(
    "pdo",
    OnPolicyConfig(step=PolicyGradient(), rule=Lagrange()),
    paper="Chow et al. 2017, Risk-Constrained RL with Percentile Risk Criteria, arXiv 1512.01629",
    summary="Policy gradient on a Lagrangian.",
    module=__name__,
    omnisafe={"normalize_reward": True, "normalize_cost": True},
)
