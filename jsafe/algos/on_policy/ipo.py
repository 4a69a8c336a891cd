"""Interior-point policy optimisation.

    L = L_PPO(A_r) - kappa log(d - J_c - mean(max(ratio A_c, clip(ratio) A_c)))        in costs per step

The barrier stays on the surrogate during the passes; its slope is taken of the whole batch before each of them, for the
mean of a minibatch is mostly noise. It is steepest at the limit: from slope `slope` on it continues as a straight line,
so that an infeasible policy is pushed back.

Source: Liu, Ding & Liu 2020 (arXiv 1910.09615), section 4 (there only for feasible policies, and with a plain ratio in
the barrier; clipped here, as P3O has it: nothing else holds back a step on a slope of 10).
OmniSafe: linearises the barrier at the batch: `A = (A_r - w A_c) / (1 + w)`, `w = kappa / (d - J_c)` episodic, capped
at 1, with normalised rewards and costs: the parts of preset `omnisafe`.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import FEW_PASSES, define
from jsafe.components import rules
from jsafe.components.steps import IPO, PPO

define(
    "ipo",
    OnPolicyConfig(step=IPO()),
    paper="Liu, Ding & Liu 2020, IPO: Interior-point Policy Optimization under Constraints, arXiv 1910.09615",
    summary="PPO with a logarithmic barrier on the cost.",
    module=__name__,
    omnisafe={
        "step": PPO(passes=10),
        "rule": rules.IPO(),
        "normalize_reward": True,
        "normalize_cost": True,
    },
    more={"jsafe": FEW_PASSES},
    recommended="jsafe",
)
