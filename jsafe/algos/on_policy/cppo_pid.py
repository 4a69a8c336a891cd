"""PPO with a PID-controlled multiplier.

    lam = max(0, kp P + I + kd D)       of the violation J_c - d (`components.rules.pid`)
    A   = (A_r - lam A_c) / (1 + lam)   then PPO

Source: Stooke, Achiam & Abbeel 2020 (arXiv 2007.03964), algorithms 1 and 2; weights of equation 10.
OmniSafe: cost averaged over 100 episodes (preset `omnisafe`); its bound on the multiplier never acts, ours does if set.
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import OnPolicyConfig, RuleName, StepName


@dataclasses.dataclass(frozen=True)
class CPPOPIDConfig(OnPolicyConfig):
    """Options of cppo_pid."""

    step: StepName = "ppo"
    rule: RuleName = "pid"


define(
    "cppo_pid",
    CPPOPIDConfig,
    paper="Stooke, Achiam & Abbeel 2020, Responsive Safety in RL by PID Lagrangian Methods, arXiv 2007.03964",
    summary="PPO under a PID controller of the cost.",
)
