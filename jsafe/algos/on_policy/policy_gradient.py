"""Policy gradient with several passes over a batch.

    L = -mean(pi(a|s) / mu(a|s) * A_r)

The ratio is not clipped; the early stop at `target_kl` keeps the policy near the one that acted. Costs
are only measured.

Source: Sutton, McAllester, Singh & Mansour 1999, Policy gradient methods for RL with function approximation.
OmniSafe: the same; its window of cost statistics is 50 episodes here (100 elsewhere), which nothing depends on.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import PolicyGradient

define(
    "policy_gradient",
    OnPolicyConfig(step=PolicyGradient(passes=10)),
    paper="Sutton et al. 1999, Policy gradient methods for reinforcement learning with function approximation",
    summary="Unclipped policy gradient; ignores costs.",
    module=__name__,
    omnisafe={"limit.window": 50},
)
