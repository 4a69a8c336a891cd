"""PPO and TRPO on the Saute problem with a controlled budget.

    z_0 = budget_k / upper,   z' = (z - c / upper) / gamma_z,   reward = r if z' > 0 else unsafe_reward
    budget_k+1 = clip(budget_k + a_k, 0, upper)        with a_k from a PI controller on budget_k - J_c

As Saute, with a budget that is moved once per iteration (`components.transforms.simmer`). It starts full, at the upper
bound that is `cost_limit`; the paper raises it from a small one.

Source: Sootla et al. 2022 (arXiv 2206.02675), section 4.
OmniSafe: a cost takes `c / budget_k`, and only the first episode of an epoch starts below 1, which acts where an
environment finishes several in one (`compat="omnisafe"`). Preset `omnisafe_navigation` for its overrides on the Goal
tasks.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import BUDGET_NAVIGATION, define
from jsafe.components.steps import PPO, TRPO
from jsafe.components.transforms import Simmer

for _step in (PPO(), TRPO()):
    define(
        f"{_step.kind}_simmer_pid",
        OnPolicyConfig(step=_step, transform=Simmer()),
        paper="Sootla et al. 2022, Enhancing Safe Exploration Using Safety State Augmentation, arXiv 2206.02675",
        summary=f"{_step.kind.upper()} with a safety budget moved by a PI controller.",
        module=__name__,
        navigation=BUDGET_NAVIGATION[_step.kind],
    )
