"""CAP-PETS: plans within the limit, where costs grow with what the model does not know.

    c~ = c + kappa u,   u(s, a) = max_e ||sd_e(s, a)||_2,   C = mean_p sum_t c~_p,t * T / H
    kappa <- kappa + eta (J_C - d)    after episodes of mean cost J_C

Source: Ma et al. 2022, Conservative and adaptive penalty for model-based safe reinforcement learning, AAAI, arXiv
2112.07701, equations 6 to 8, and the authors' code: kappa from 1 by Adam at 0.1, here not below 0. OmniSafe: from 0 by
plain ascent at 0.1, within [0, 1], once per 20 000 steps on the last 50 episodes; and the penalties of one candidate
are counted for others (`compat="omnisafe"`). The preset `jsafe` starts at 0 and ascends at 1e-4: under a limit of 1 per
episode of 200 steps a penalty of 0.005 per step already makes every plan infeasible.
"""

from __future__ import annotations

from jsafe.algos.model_based.assembly import assemble
from jsafe.algos.model_based.cce_pets import CCE_PETS
from jsafe.algos.model_based.presets import JSAFE_CEM, OMNISAFE_CEM, presets
from jsafe.components.rules import Lagrange
from jsafe.components.scores import Penalised
from jsafe.options import replace
from jsafe.registry import Algorithm, register

CAP_PETS = replace(CCE_PETS, {"score": Penalised(), "rule": Lagrange(init=1.0, learning_rate=0.1, normalize="none")})

OMNISAFE = OMNISAFE_CEM | {
    "rule": Lagrange(init=0.0, learning_rate=0.1, optimizer="sgd", upper_bound=1.0, normalize="none"),
    "rule_interval": 20_000,
    "limit.window": 50,
}

JSAFE = JSAFE_CEM | {"rule": Lagrange(init=0.0, learning_rate=1e-4, optimizer="sgd", normalize="none")}

register(
    Algorithm(
        name="cap_pets",
        family="model_based",
        config=CAP_PETS,
        build=assemble,
        presets=presets(OMNISAFE, JSAFE),
        paper="Ma et al. 2022, Conservative and Adaptive Penalty for Model-Based Safe RL, arXiv 2112.07701",
        summary="Plans within the limit, with a penalty for what the model does not know that adapts to real costs.",
        recommended="jsafe",
        module=__name__,
    )
)
