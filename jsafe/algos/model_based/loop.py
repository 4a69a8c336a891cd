"""LOOP: plans over a few steps, with an off-policy learner's value at their ends; ignores the costs.

    R = mean_p [sum_{t<H} r_p,t + min_j Q_j(s_p,H, pi(s_p,H))]
    mu <- sum_i w_i a_i,   w = softmax(kappa R)   over samples of the last Gaussian and proposals of the actor pi

SAC learns on real steps. Training executes a candidate drawn by w, evaluation the mean.

Source: Sikchi, Zhou & Held 2021, Learning off-policy with online planning, CoRL, arXiv 2008.10066, section 4, and the
authors' code (which values the last state but one with the plan's last action). OmniSafe sums all rewards and then adds
the value at the last state and the action before it (`compat="omnisafe"`).
"""

from __future__ import annotations

from jsafe.algos.model_based.assembly import assemble
from jsafe.algos.model_based.config import ModelBasedConfig
from jsafe.algos.model_based.presets import JSAFE_ARC, OMNISAFE_ARC, VELOCITY, presets
from jsafe.algos.model_based.value import SAC
from jsafe.components.dynamics import Ensemble
from jsafe.components.planners import ARC
from jsafe.components.scores import Returns
from jsafe.options import replace
from jsafe.registry import Algorithm, register

LOOP = replace(
    ModelBasedConfig(),
    {
        "planner": ARC(horizon=3, kappa=1.0),
        "score": Returns(),
        "value": SAC(updates=100),
        "dynamics": Ensemble(size=7),
        "particles": 28,
        "sequences": 7 * 256,
    },
)
"""The authors' numbers."""

OMNISAFE = OMNISAFE_ARC | {
    "dynamics": Ensemble(),
    "sequences": 5 * 256,
    "planner.init_var": 0.01,
    "planner.mean_smoothing": 0.1,
}
JSAFE = JSAFE_ARC | {"dynamics": Ensemble(), "sequences": 5 * 256}

register(
    Algorithm(
        name="loop",
        family="model_based",
        config=LOOP,
        build=assemble,
        presets=presets(OMNISAFE, JSAFE, VELOCITY | {"planner.horizon": 3}),
        paper="Sikchi, Zhou & Held 2021, Learning Off-Policy with Online Planning, arXiv 2008.10066",
        summary="Plans over a few steps with an off-policy learner's value at their ends; ignores the costs.",
        recommended="jsafe",
        module=__name__,
    )
)
