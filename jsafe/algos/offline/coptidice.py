"""COptiDICE: imitates recorded rows as often as the best policy within the limit would be in them.

    e     = r - lam . c + gamma d nu(s') - nu(s),    w = relu(f'^-1(e / alpha)),   f soft chi-square
    L_nu  = (1 - gamma) mean nu(s0) + mean (w e - alpha f(w))
    ell_m = (1 - gamma) chi_m(s0) + w (c_m + gamma d chi_m(s') - chi_m(s)),   v_m = B softmax_B(ell_m / tau_m)
    L_chi = sum_m mean v_m ell_m,    L_tau = sum_m tau_m (eps - KL(v_m)),   UB_m = mean v_m w c_m
    L_lam = -sum_m lam_m (UB_m - k_m / T),    L_pi = -mean w log pi(a | s)

No action outside the data is ever evaluated. Costs are means over steps under the discounted occupancy: the limit k per
episode is `k / T` there. The multiplier is its own; alpha is in the unit of the reward and has to fit its scale.

Source: Lee et al. 2022, COptiDICE: offline constrained reinforcement learning via stationary distribution correction
estimation, arXiv 2204.08957, and the authors' code. Differences: it acts with the current policy (theirs: a copy of
every 1000 updates). OmniSafe (preset `omnisafe`) pairs unrelated rows, sees the plain estimate instead of the upper
bound, and keeps the limit at 0.06 per step whatever is asked for.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import RELEASED, jsafe_preset
from jsafe.components.generators import Gaussian
from jsafe.components.regression_weights import Ratio
from jsafe.components.valuations import Dice
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

COPTIDICE = replace(
    OfflineConfig(),
    {
        "policy": Gaussian(hidden=(256, 256, 256)),
        "critic": Dice(hidden=(256, 256, 256)),
        "weight": Ratio(),
        "gamma": 0.995,
        "batch_size": 1024,
        "learning_rate": 3e-4,
    },
)

RELEASED_DICE = {
    **RELEASED,
    "compat": "omnisafe",
    "policy.squash": False,
    "learning_rate": 3e-3,
    "multiplier_learning_rate": 0.035,
    "critic.multiplier": 0.0,
    "critic.alpha": 8e-4,
    "critic.eps": 0.05,
    "gamma": 0.99,
    "cost_limit_per_step": 0.06,
}

register(
    Algorithm(
        name="coptidice",
        family="offline",
        config=COPTIDICE,
        build=assemble,
        presets={
            "jsafe": jsafe_preset(batch_size=256),
            "omnisafe": Preset("OmniSafe's numbers and its released behaviour.", RELEASED_DICE, 1_000_000),
        },
        paper="Lee et al. 2022, COptiDICE, arXiv 2204.08957",
        summary="Imitates recorded rows as often as the best policy within the limit would be in them.",
        recommended="jsafe",
        module=__name__,
    )
)
