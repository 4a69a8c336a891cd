"""TRPO with a PID-controlled multiplier.

    lam = max(0, kp P + I + kd D)       of the violation J_c - d (`components.rules.pid`)
    A   = (A_r - lam A_c) / (1 + lam)   then TRPO

Source: Stooke, Achiam & Abbeel 2020 (arXiv 2007.03964), algorithm 2; TRPO: arXiv 1502.05477.
OmniSafe: KL averaged over action components, cost averaged over 100 episodes (preset `omnisafe`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.rules import PID
from jsafe.components.steps import TRPO

define(
    "trpo_pid",
    OnPolicyConfig(step=TRPO(), rule=PID()),
    paper="Stooke, Achiam & Abbeel 2020, Responsive Safety in RL by PID Lagrangian Methods, arXiv 2007.03964",
    summary="TRPO under a PID controller of the cost.",
    module=__name__,
)
