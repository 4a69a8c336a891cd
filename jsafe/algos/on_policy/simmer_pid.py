"""PPO and TRPO on the Saute problem with a controlled budget.

    z_0 = budget_k / upper,   z' = (z - c / upper) / gamma_z,   reward = r if z' > 0 else unsafe_reward
    budget_k+1 = clip(budget_k + a_k, 0, upper)        with a_k from a PI controller on budget_k - J_c

As Saute, with a budget that is moved once per iteration (`components.transforms.simmer`). `cost_limit` is the upper
bound.

Source: Sootla et al. 2022 (arXiv 2206.02675), section 4.
OmniSafe: a cost takes `c / budget_k` and only the first episode of an epoch starts below 1 (`compat="omnisafe"`);
preset `omnisafe_navigation` for its overrides on the Goal tasks.
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import BUDGET_NAVIGATION, OnPolicyConfig, SecondOrderConfig, StepName, TransformName


@dataclasses.dataclass(frozen=True)
class PPOSimmerPIDConfig(OnPolicyConfig):
    """Options of ppo_simmer_pid."""

    step: StepName = "ppo"
    transform: TransformName = "simmer"


@dataclasses.dataclass(frozen=True)
class TRPOSimmerPIDConfig(SecondOrderConfig):
    """Options of trpo_simmer_pid."""

    step: StepName = "trpo"
    transform: TransformName = "simmer"


for _name, _config in (("ppo_simmer_pid", PPOSimmerPIDConfig), ("trpo_simmer_pid", TRPOSimmerPIDConfig)):
    define(
        _name,
        _config,
        paper="Sootla et al. 2022, Enhancing Safe Exploration Using Safety State Augmentation, arXiv 2206.02675",
        summary=f"{_config.step.upper()} with a safety budget moved by a PI controller.",
        navigation=BUDGET_NAVIGATION[_config.step],
    )
