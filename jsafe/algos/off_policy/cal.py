"""CAL: conservative augmented Lagrangian.

    Q_c  = mean_j Q_c,j + k std_j Q_c,j                                       (conservative policy optimisation)
    pi  <- down the slope of  alpha log pi - min_j Q_j + max(0, lam + c (E Q_c - d)) Q_c      (local convexification)
    lam <- max(0, lam + rate (E Q_c - d)),   E over replayed states and actions, in every update

Soft actor-critic beside it: two critics of the reward, the entropy in their targets alone; each of the four cost
critics bootstraps from its own slow copy.

Source: Wu et al. 2024, Off-Policy Primal-Dual Safe Reinforcement Learning, ICLR, arXiv 2401.14758, equations 5 and 8,
and the authors' code. Differences: the multiplier climbs by plain steps (theirs: Adam on its logarithm, 3e-4); one rate
for all critics (theirs: 1e-3 for the costs'); an update per environment step (theirs: up to 20 of 12 rows); the limit
as a discounted sum is that of episodes that go on after a cut, `d / T / (1 - gamma)`.
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.critics import UpperBound
from jsafe.components.rules import Augmented
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

CAL = replace(
    OffPolicyConfig(),
    {
        "critics": UpperBound(),
        "rule": Augmented(init=0.6931, learning_rate=3e-4, penalty=10.0, normalize="none"),
        "cost_estimate": "critics",
        "tau": 0.0025,  # 0.005 every second update
    },
)

LAPTOP = {"hidden": (128, 128), "updates": 8, "rule.learning_rate": 2.4e-3, "temperature.init": 0.01}

register(
    Algorithm(
        name="cal",
        family="off_policy",
        config=CAL,
        build=assemble,
        presets={"laptop": Preset("Smaller networks, an update per eight steps.", LAPTOP)},
        paper="Wu et al. 2024, Off-Policy Primal-Dual Safe Reinforcement Learning, arXiv 2401.14758",
        summary="SAC under an augmented Lagrangian on an upper bound of the critics' costs.",
        module=__name__,
    )
)
