"""Penalised proximal policy optimisation.

    L = L_PPO(A_r) + kappa sum_i max(0, mean(max(ratio A_c,i, clip(ratio) A_c,i)) + (J_c,i - d_i) / length)

An exact penalty: for `kappa` above the optimal multiplier, minimising it solves the constrained problem. Whether a
maximum is 0 is asked of the whole batch before each pass: the mean over a minibatch is noise of many times the gap.

Source: Zhang et al. 2022 (arXiv 2205.11814), section 4: `(1 - gamma)(J - d)` of discounted costs is the cost per step.
OmniSafe: the raw episodic gap and no clip on the cost's ratio (`compat="omnisafe"`): the penalty is then practically
on or off.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import FEW_PASSES, define
from jsafe.components.steps import P3O

define(
    "p3o",
    OnPolicyConfig(step=P3O()),
    paper="Zhang et al. 2022, Penalized Proximal Policy Optimization for Safe RL, arXiv 2205.11814",
    summary="PPO with an exact penalty on the cost surrogate.",
    module=__name__,
    more={"jsafe": FEW_PASSES},
    recommended="jsafe",
)
