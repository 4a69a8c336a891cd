"""Augmented proximal policy optimisation.

    f    = max(0, lam + sigma (J_c - d))        slope of (sigma / 2) max(0, lam / sigma + J_c - d)^2
    L    = (L_clip(A_r) + f mean(max(ratio A_c, clip(ratio) A_c))) / (1 + f)
    lam <- max(0, lam + rate (J_c - d))         once per iteration, before the policy

The quadratic term damps the swing of a multiplier: it answers a violation at once and is gone with it. `sigma` is
`rule.penalty`, and several costs have a multiplier each. Advantages keep their units, so that `lam` is the dual
variable of the limit: reward per cost.

Source: Dai, Ji, Yang, Zheng & Pan 2023 (AAAI 37(6), 7288-7295, doi 10.1609/aaai.v37i6.25888). The authors' code moves
`lam` by Adam with a rate of 0.2; plain ascent, as in the method of multipliers, does so for a violation of 20 here.
"""

from __future__ import annotations

from jsafe.algos.on_policy.assembly import assemble
from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import FEW_PASSES
from jsafe.components.rules import Augmented
from jsafe.components.steps import APPO
from jsafe.registry import Algorithm, register

register(
    Algorithm(
        "appo",
        "on_policy",
        OnPolicyConfig(step=APPO(), rule=Augmented(learning_rate=0.01, penalty=0.1, init=0.001), standardize="none"),
        assemble,
        presets={"jsafe": FEW_PASSES},
        paper="Dai et al. 2023, Augmented Proximal Policy Optimization for Safe Reinforcement Learning, AAAI 37(6)",
        summary="PPO on an augmented Lagrangian, reward and cost clipped apart.",
        recommended="jsafe",
        module=__name__,
    )
)
