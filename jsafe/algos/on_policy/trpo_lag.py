"""TRPO on a Lagrangian.

    lam <- max(0, lam + Adam step of (J_c - d))         once per iteration, before the policy
    A    = (A_r - lam A_c) / (1 + lam)                  then TRPO

Source: Ray, Achiam & Amodei 2019, Benchmarking safe exploration in deep RL, section 5; TRPO: arXiv 1502.05477.
OmniSafe: KL averaged over action components, cost averaged over 100 episodes (preset `omnisafe`).
Preset `jsafe`: plain dual ascent instead of Adam, and critics that are fitted four times to a batch at 3e-4, as those
of `ppo_lag`'s preset. Ten times at 1e-3 they know next to nothing of what will be spent where costs are noisy
(`experiments/benchmark`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.rules import Lagrange
from jsafe.components.steps import TRPO
from jsafe.registry import Preset

define(
    "trpo_lag",
    OnPolicyConfig(step=TRPO(), rule=Lagrange()),
    paper="Ray, Achiam & Amodei 2019, Benchmarking Safe Exploration in Deep Reinforcement Learning",
    summary="TRPO with a Lagrange multiplier on the episodic cost.",
    module=__name__,
    more={
        "jsafe": Preset(
            "plain dual ascent, which comes to rest at the limit, and critics that do not fit noise",
            {
                "rule.optimizer": "sgd",
                "rule.learning_rate": 0.002,
                "step.passes": 4,
                "step.critics.learning_rate": 3e-4,
            },
        )
    },
    recommended="jsafe",
)
