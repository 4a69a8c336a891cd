"""RCE-PETS: plans of high return among those that no particle finds too costly.

    C = max_p sum_t c_p,t * T / H
    elites: the best R of {C <= d} if enough candidates are in there, else the least C of all

Source: Liu et al. 2020, Constrained model-based reinforcement learning with robust cross-entropy method, arXiv
2010.07968, algorithm 1. Differences: probabilistic nets (there deterministic ones and a classifier of costs), a search
that starts from the last plan, neither rewards nor costs of a plan are discounted (there by 0.98 and 0.4 per step).
OmniSafe sums the largest cost of any particle step by step (`compat="omnisafe"`).
"""

from __future__ import annotations

from jsafe.algos.model_based.assembly import assemble
from jsafe.algos.model_based.pets import PETS
from jsafe.algos.model_based.presets import JSAFE_CEM, OMNISAFE_CEM, presets
from jsafe.components.planners import CEM
from jsafe.components.scores import Constrained
from jsafe.options import replace
from jsafe.registry import Algorithm, register

RCE_PETS = replace(
    PETS,
    {
        "planner": CEM(horizon=8, iterations=8, samples=500, elites=12, init_var=1.0),
        "score": Constrained(over="max"),
        "particles": 5,
    },
)

register(
    Algorithm(
        name="rce_pets",
        family="model_based",
        config=RCE_PETS,
        build=assemble,
        presets=presets(OMNISAFE_CEM, JSAFE_CEM),
        paper="Liu et al. 2020, Constrained Model-Based RL with Robust Cross-Entropy Method, arXiv 2010.07968",
        summary="Plans that no particle finds too costly, by the robust cross-entropy method.",
        recommended="jsafe",
        module=__name__,
    )
)
