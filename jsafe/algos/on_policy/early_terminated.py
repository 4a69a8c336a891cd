"""PPO and TRPO on the early-terminated problem.

    episode ends, with reward 0, as soon as sum_t c_t > d

so that exceeding the limit costs all further reward. The observation does not show the accumulated cost.

Source: Sun et al. 2021 (arXiv 2107.04200), definition 2; the context models of the paper are left out, as in OmniSafe.
OmniSafe: the counter is not cleared where an episode ends by itself, so that later episodes inherit cost; one
environment only (`compat="omnisafe"` reproduces the counter within an epoch, where it acts if an environment finishes
several episodes in one).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import PPO, TRPO
from jsafe.components.transforms import EarlyTermination

for _step in (PPO(), TRPO()):
    define(
        f"{_step.kind}_early_terminated",
        OnPolicyConfig(step=_step, transform=EarlyTermination()),
        paper="Sun et al. 2021, Safe Exploration by Solving Early Terminated MDP, arXiv 2107.04200",
        summary=f"{_step.kind.upper()}; an episode ends where its cost exceeds the limit.",
        module=__name__,
    )
