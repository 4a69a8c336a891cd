"""SafeLOOP: LOOP among the plans that no particle finds too costly.

    R as in LOOP,   C = max_p sum_t c_p,t * T / H
    w = softmax(kappa R) over {C <= d} if enough candidates are in there, else softmax(-kappa_c C) over all

There is no critic of costs: a plan looks H steps ahead, and no further.

Source: Sikchi, Zhou & Held 2021, Learning off-policy with online planning, CoRL, arXiv 2008.10066, section 4.3 and the
authors' code (whose costs are distances into hazards, against 0.2; which searches on until ten candidates are feasible,
eight times at most). OmniSafe sums the largest cost of any particle step by step (`compat="omnisafe"`).
"""

from __future__ import annotations

from jsafe.algos.model_based.assembly import assemble
from jsafe.algos.model_based.loop import JSAFE, LOOP, OMNISAFE
from jsafe.algos.model_based.presets import VELOCITY, presets
from jsafe.components.planners import ARC
from jsafe.components.scores import Constrained
from jsafe.options import replace
from jsafe.registry import Algorithm, register

SAFE_LOOP = replace(
    LOOP, {"planner": ARC(horizon=8, iterations=8, kappa=1.0, enough=10), "score": Constrained(over="max")}
)

register(
    Algorithm(
        name="safe_loop",
        family="model_based",
        config=SAFE_LOOP,
        build=assemble,
        presets=presets(
            OMNISAFE | {"planner.init_var": 0.075, "planner.mean_smoothing": 0.0},
            JSAFE,
            VELOCITY | {"planner.horizon": 3},
        ),
        paper="Sikchi, Zhou & Held 2021, Learning Off-Policy with Online Planning, arXiv 2008.10066",
        summary="LOOP among the plans that no particle finds too costly.",
        recommended="jsafe",
        module=__name__,
    )
)
