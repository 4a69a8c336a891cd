"""PPO and TRPO on the Saute problem: the remaining safety budget is part of the observation.

    z_0 = 1,   z' = (z - c / budget) / gamma_z,   reward = r if z' > 0 else unsafe_reward

on the observation extended by the remaining budget `z` (one per cost, not normalised). `cost_limit` is the episodic
budget; `budget` is its discounted value.

Source: Sootla et al. 2022 (arXiv 2202.06558), section 3.
OmniSafe: the same. On the Goal tasks it has a milder budget and penalty, and for PPO more passes and raw observations
(preset `omnisafe_navigation`): with the defaults the budget of 25 is worth 15.8 there, and one unsafe step costs what
fifty good ones earn.
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import BUDGET_NAVIGATION, OnPolicyConfig, SecondOrderConfig, StepName, TransformName


@dataclasses.dataclass(frozen=True)
class PPOSauteConfig(OnPolicyConfig):
    """Options of ppo_saute."""

    step: StepName = "ppo"
    transform: TransformName = "saute"


@dataclasses.dataclass(frozen=True)
class TRPOSauteConfig(SecondOrderConfig):
    """Options of trpo_saute."""

    step: StepName = "trpo"
    transform: TransformName = "saute"


for _name, _config in (("ppo_saute", PPOSauteConfig), ("trpo_saute", TRPOSauteConfig)):
    define(
        _name,
        _config,
        paper="Sootla et al. 2022, Saute RL: Almost Surely Safe RL Using State Augmentation, arXiv 2202.06558",
        summary=f"{_config.step.upper()} with the safety budget in the observation.",
        navigation=BUDGET_NAVIGATION[_config.step],
    )
