"""Constrained policy optimisation.

    maximise g'x   subject to   b_i'x + c_i <= 0,   x'Hx / 2 <= delta

solved exactly for any number of constraints (`ops.second_order.cpo_program`); where no step satisfies them, the
recovery step along `-H^-1 b`. Then a line search: cost within its slack, KL within `delta`, and, where the
constraints hold already, no loss of reward. `c_i = (J_c,i - d_i) / episode length`: the surrogate `mean(ratio A_c)`
whose gradient is `b` changes the cost per step.

Source: Achiam, Held, Tamar & Abbeel 2017 (arXiv 1705.10528), equations 11 to 14.
OmniSafe: takes the episodic gap for `c`, which is larger by the length of an episode, so that the program is nearly
always slack or infeasible: TRPO when safe, pure cost descent when not; in between, the reward's gradient has the wrong
sign there (`compat="omnisafe"`).
Preset `jsafe` learns a safety margin (`margin_learning_rate`, an option of Ray et al. 2019, "Benchmarking safe
exploration"): with estimates from one batch the program as published leaves the cost above the limit, as they found,
too.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import CPO
from jsafe.registry import Preset

define(
    "cpo",
    OnPolicyConfig(step=CPO()),
    paper="Achiam et al. 2017, Constrained Policy Optimization, arXiv 1705.10528",
    summary="Trust region with linearised cost constraints.",
    module=__name__,
    more={"jsafe": Preset("with a learned safety margin", {"step.margin_learning_rate": 0.05})},
    recommended="jsafe",
)
