"""PPO and TRPO on the early-terminated problem.

    episode ends, with reward 0, as soon as sum_t c_t > d

so that exceeding the limit costs all further reward. The observation does not show the accumulated cost.

Source: Sun et al. 2021 (arXiv 2107.04200), definition 2; the context models of the paper are left out, as in OmniSafe.
OmniSafe: the counter is not cleared where an episode ends by itself, so that later episodes inherit cost; one
environment only (`compat="omnisafe"` reproduces the counter).
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.on_policy.assembly import define
from jsafe.algos.on_policy.config import OnPolicyConfig, SecondOrderConfig, StepName, TransformName


@dataclasses.dataclass(frozen=True)
class PPOEarlyTerminatedConfig(OnPolicyConfig):
    """Options of ppo_early_terminated."""

    step: StepName = "ppo"
    transform: TransformName = "early_termination"


@dataclasses.dataclass(frozen=True)
class TRPOEarlyTerminatedConfig(SecondOrderConfig):
    """Options of trpo_early_terminated."""

    step: StepName = "trpo"
    transform: TransformName = "early_termination"


for _name, _config in (
    ("ppo_early_terminated", PPOEarlyTerminatedConfig),
    ("trpo_early_terminated", TRPOEarlyTerminatedConfig),
):
    define(
        _name,
        _config,
        paper="Sun et al. 2021, Safe Exploration by Solving Early Terminated MDP, arXiv 2107.04200",
        summary=f"{_config.step.upper()}; an episode ends where its cost exceeds the limit.",
    )
