"""TRPO on a Lagrangian.

    lam <- max(0, lam + Adam step of (J_c - d))         once per iteration, before the policy
    A    = (A_r - lam A_c) / (1 + lam)                  then TRPO

Source: Ray, Achiam & Amodei 2019, Benchmarking safe exploration in deep RL, section 5; TRPO: arXiv 1502.05477.
OmniSafe: KL averaged over action components, cost averaged over 100 episodes (preset `omnisafe`).
Preset `jsafe`: plain dual ascent instead of Adam.
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import RuleName, SecondOrderConfig, StepName


@dataclasses.dataclass(frozen=True)
class TRPOLagConfig(SecondOrderConfig):
    """Options of trpo_lag."""

    step: StepName = "trpo"
    rule: RuleName = "lagrange"


define(
    "trpo_lag",
    TRPOLagConfig,
    paper="Ray, Achiam & Amodei 2019, Benchmarking Safe Exploration in Deep Reinforcement Learning",
    summary="TRPO with a Lagrange multiplier on the episodic cost.",
    jsafe={"multiplier_optimizer": "sgd", "multiplier_lr": 0.002},
)
