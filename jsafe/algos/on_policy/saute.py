"""PPO and TRPO on the Saute problem: the remaining safety budget is part of the observation.

    z_0 = 1,   z' = (z - c / budget) / gamma_z,   reward = r if z' > 0 else unsafe_reward

on the observation extended by the remaining budget `z` (one per cost, not normalised). `cost_limit` is the episodic
budget; `budget` is its discounted value.

Source: Sootla et al. 2022 (arXiv 2202.06558), section 3.
OmniSafe: truncated steps bootstrap from a full budget, and the budget is that of 1000 steps on every task
(`compat="omnisafe"`). On the Goal tasks it has a milder budget and penalty, and for PPO more passes and raw
observations (preset `omnisafe_navigation`): with the defaults the budget of 25 is worth 15.8 there, and one unsafe step
costs what fifty good ones earn.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import BUDGET_FEW_PASSES, BUDGET_NAVIGATION, define
from jsafe.components.steps import PPO, TRPO
from jsafe.components.transforms import Saute

for _step in (PPO(), TRPO()):
    define(
        f"{_step.kind}_saute",
        OnPolicyConfig(step=_step, transform=Saute()),
        paper="Sootla et al. 2022, Saute RL: Almost Surely Safe RL Using State Augmentation, arXiv 2202.06558",
        summary=f"{_step.kind.upper()} with the safety budget in the observation.",
        module=__name__,
        navigation=BUDGET_NAVIGATION[_step.kind],
        more={"jsafe": BUDGET_FEW_PASSES} if isinstance(_step, PPO) else None,
        recommended="jsafe" if isinstance(_step, PPO) else None,
    )
