"""Policy gradient with several passes over a batch.

    L = -mean(pi(a|s) / mu(a|s) * A_r)

The ratio is not clipped; the early stop at `target_kl` keeps the policy near the one that acted. Costs
are only measured.

Source: Sutton, McAllester, Singh & Mansour 1999, Policy gradient methods for RL with function approximation.
OmniSafe: the same; its window of cost statistics is 50 episodes here (100 elsewhere), which nothing depends on.
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import OnPolicyConfig, StepName


@dataclasses.dataclass(frozen=True)
class PolicyGradientConfig(OnPolicyConfig):
    """Options of policy_gradient."""

    step: StepName = "policy_gradient"
    passes: int = 10


define(
    "policy_gradient",
    PolicyGradientConfig,
    paper="Sutton et al. 1999, Policy gradient methods for reinforcement learning with function approximation",
    summary="Unclipped policy gradient; ignores costs.",
    omnisafe={"cost_window": 50},
)
