"""PPO with a PID-controlled multiplier.

    lam = max(0, kp P + I + kd D)       of the violation J_c - d (`components.rules.pid`)
    A   = (A_r - lam A_c) / (1 + lam)   then PPO

Source: Stooke, Achiam & Abbeel 2020 (arXiv 2007.03964), algorithms 1 and 2; weights of equation 10.
OmniSafe: cost averaged over 100 episodes (preset `omnisafe`); its bound on the multiplier never acts, ours does if set.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import FEW_PASSES, define
from jsafe.components.rules import PID
from jsafe.components.steps import PPO

define(
    "cppo_pid",
    OnPolicyConfig(step=PPO(), rule=PID()),
    paper="Stooke, Achiam & Abbeel 2020, Responsive Safety in RL by PID Lagrangian Methods, arXiv 2007.03964",
    summary="PPO under a PID controller of the cost.",
    module=__name__,
    more={"jsafe": FEW_PASSES},
    recommended="jsafe",
)
