"""Proximal policy optimisation.

    L = -mean(min(ratio A_r, clip(ratio, 1 - eps, 1 + eps) A_r)) - entropy_coef * entropy

Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.
OmniSafe: the same, with an early stop after the pass in which `KL(old || new)` exceeds `target_kl`, as here.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import PPO

define(
    "ppo",
    OnPolicyConfig(step=PPO()),
    paper="Schulman et al. 2017, Proximal Policy Optimization Algorithms, arXiv 1707.06347",
    summary="Clipped surrogate; ignores costs.",
    module=__name__,
)
