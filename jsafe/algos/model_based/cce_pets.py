"""CCE-PETS: plans of high return among those whose expected cost is within the limit.

    C = mean_p sum_t c_p,t * T / H
    elites: the best R of {C <= d} if enough candidates are in there, else the least C of all

Source: Wen & Topcu 2018, Constrained cross-entropy method for safe reinforcement learning, NeurIPS, algorithm 1, whose
rule for the parameters of policies is applied to sequences of actions, in the models of PETS (Chua et al. 2018, arXiv
1805.12114). OmniSafe's CCEPETS is the same rule. Numbers by default: those of CAP's code for this planner.
"""

from __future__ import annotations

from jsafe.algos.model_based.assembly import assemble
from jsafe.algos.model_based.pets import PETS
from jsafe.algos.model_based.presets import JSAFE_CEM, OMNISAFE_CEM, presets
from jsafe.components.planners import CEM
from jsafe.components.scores import Constrained
from jsafe.options import replace
from jsafe.registry import Algorithm, register

CCE_PETS = replace(
    PETS, {"planner": CEM(horizon=30, samples=500, elites=50, last="zero"), "score": Constrained(over="mean")}
)

register(
    Algorithm(
        name="cce_pets",
        family="model_based",
        config=CCE_PETS,
        build=assemble,
        presets=presets(OMNISAFE_CEM, JSAFE_CEM),
        paper="Wen & Topcu 2018, Constrained Cross-Entropy Method, NeurIPS; Chua et al. 2018, arXiv 1805.12114",
        summary="Plans whose expected cost is within the limit, by the constrained cross-entropy method.",
        recommended="jsafe",
        module=__name__,
    )
)
