"""Constraints-penalised Q-learning: actions unlike the recorded ones are called costly, costly ones earn nothing.

    y_r  = r + gamma d 1[Q'_c(s', a') <= l] min_j Q'_r,j(s', a'),   a' ~ pi(s')
    y_c  = c + gamma d max_j Q'_c,j(s', a')
    L_c  = sum_j mean (y_c - Q_c,j)^2 - alpha mean_ood Q_c(s, a)
    L_pi = -mean 1[Q_c(s, a) <= l] Q_r(s, a)
    log alpha <- clip(log alpha + rate alpha (1.5 l - mean_ood Q_c), -5, 5),    l = k / ((1 - gamma) T)

`ood` are actions of the policy that an auto-encoder of the recorded ones finds unlikely. Two traps of the paper: once
every action exceeds the limit, `L_pi` has no gradient, and the policy is stuck; and a fixed quarter of the actions
counts as unlikely even where the data cover everything. The preset `jsafe` descends the cost where the limit is
exceeded, and flags what is less likely than 99 in 100 recorded actions.

Source: Xu, Zhan & Zhu 2022, Constraints penalized Q-learning for safe offline reinforcement learning, arXiv 2107.09003,
and OSRL's code, whose penalty has no gradient.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import jsafe_preset
from jsafe.components.generators import Supported
from jsafe.components.improvements import ClimbFeasible
from jsafe.components.valuations import Penalised
from jsafe.options import replace
from jsafe.registry import Algorithm, register

CPQ = replace(
    OfflineConfig(),
    {
        "policy": Supported(),
        "critic": Penalised(),
        "improve": ClimbFeasible(),
        "policy_learning_rate": 1e-4,
        "batch_size": 512,
    },
)

register(
    Algorithm(
        name="cpq",
        family="offline",
        config=CPQ,
        build=assemble,
        presets={
            "jsafe": jsafe_preset(
                batch_size=256,
                **{"improve.infeasible": "descend", "critic.ood": "calibrated", "policy_learning_rate": 3e-4},
            )
        },
        paper="Xu, Zhan & Zhu 2022, Constraints penalized Q-learning, arXiv 2107.09003",
        summary="Calls actions unlike the recorded ones costly, and lets costly ones earn nothing.",
        recommended="jsafe",
        module=__name__,
    )
)
