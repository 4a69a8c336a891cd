"""PPO on a Lagrangian.

    lam <- max(0, lam + Adam step of (J_c - d))         once per iteration, before the policy
    A    = (A_r - lam A_c) / (1 + lam)                  then PPO

`J_c` is the undiscounted cost of an episode. Several costs have a multiplier each.

Source: Ray, Achiam & Amodei 2019, Benchmarking safe exploration in deep RL, section 5.
OmniSafe: `J_c` is the mean over the last 100 episodes, across iterations (preset `omnisafe`); here over those that
ended in the newest batch, so that the multiplier does not lag five iterations behind the policy.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import FEW_PASSES, define
from jsafe.components.rules import Lagrange
from jsafe.components.steps import PPO

define(
    "ppo_lag",
    OnPolicyConfig(step=PPO(), rule=Lagrange()),
    paper="Ray, Achiam & Amodei 2019, Benchmarking Safe Exploration in Deep Reinforcement Learning",
    summary="PPO with a Lagrange multiplier on the episodic cost.",
    module=__name__,
    more={"jsafe": FEW_PASSES},
    recommended="jsafe",
)
