"""TRPO on the Saute problem.

    z_0 = 1,   z' = (z - c / budget) / gamma_z,   reward = r if z' > 0 else unsafe_reward

on the observation extended by the remaining budget `z` (one per cost, not normalised). `cost_limit` is the episodic
budget; `budget` is its discounted value.

Source: Sootla et al. 2022 (arXiv 2202.06558), section 3.
OmniSafe: the same. On the navigation tasks its files set `saute_gamma=0.9999, unsafe_reward=-0.2`.
"""

from __future__ import annotations

import dataclasses

from jsafe.algos._on_policy import define
from jsafe.algos._on_policy_config import SecondOrderConfig, StepName, TransformName


@dataclasses.dataclass(frozen=True)
class TRPOSauteConfig(SecondOrderConfig):
    """Options of trpo_saute."""

    step: StepName = "trpo"
    transform: TransformName = "saute"


define(
    "trpo_saute",
    TRPOSauteConfig,
    paper="Sootla et al. 2022, Saute RL: Almost Surely Safe RL Using State Augmentation, arXiv 2202.06558",
    summary="TRPO with the safety budget in the observation.",
)
