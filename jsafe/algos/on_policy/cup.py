"""Constrained update projection.

    stage 1: PPO on A_r alone, giving pi_mid
    stage 2: L = mean((1 - gamma lam) / (1 - gamma) nu ratio A_c + KL(pi || pi_mid))

`nu` is a Lagrange multiplier in [0, 2]. The critics are trained in stage 1; each stage has its own early stop.

Source: Yang et al. 2022 (arXiv 2209.07089), algorithm 1.
OmniSafe: the same; cost averaged over 100 episodes (preset `omnisafe`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.rules import Lagrange
from jsafe.components.steps import CUP

define(
    "cup",
    OnPolicyConfig(step=CUP(), rule=Lagrange(upper_bound=2.0)),
    paper="Yang et al. 2022, Constrained Update Projection Approach to Safe Policy Optimization, arXiv 2209.07089",
    summary="PPO, then a projection that lowers the cost.",
    module=__name__,
)
