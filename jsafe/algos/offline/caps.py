"""CAPS: one training, every limit. Policies from greedy to careful on one trunk; the budget that is left picks one.

    L_V  = mean |tau - 1[u < 0]| u^2,   u = min_j Q'_j(s, a) - V(s),   of the reward and of each negated cost, tau 0.7
    L_Q  = sum_j mean (x + gamma d V(s') - Q_j(s, a))^2,   x = r or -c
    L_pi = -mean_h mean w_h log pi_h(a | s),   w_0 = min(exp(3 A_r), 100),   w_1 = min(exp(-3 A_c), 100)
    act: b = max(k - C_t, 0) (1 - gamma^(T-t)) / ((1 - gamma) (T - t));  among the heads of Q_c(s, a_h) < b the largest
         Q_r, else the smallest Q_c

The limit k is a number of the policy state: no gradient depends on it. `C_t` and t are kept beside the environment.

Source: Chemingui, Deshwal, Wei, Fern & Doppa 2025, Constraint-adaptive policy switching for offline safe reinforcement
learning, AAAI, arXiv 2412.18946, and the authors' code. Differences: one deviation per head for all observations; the
policy's rate stays (theirs falls to 0 over 1e6 updates: `cosine_updates=1_000_000`).
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import jsafe_preset
from jsafe.components.choices import Switch
from jsafe.components.generators import Gaussian
from jsafe.components.regression_weights import PerHead
from jsafe.components.valuations import Expectile
from jsafe.options import replace
from jsafe.registry import Algorithm, register

CAPS = replace(
    OfflineConfig(),
    {
        "policy": Gaussian(hidden=(512, 512), heads=2, log_std_low=-20.0),
        "critic": Expectile(hidden=(512, 512)),
        "weight": PerHead(heads=2),
        "choice": Switch(),
        "learning_rate": 3e-4,
        "batch_size": 512,
        "reward_scale": 0.1,
    },
)

register(
    Algorithm(
        name="caps",
        family="offline",
        config=CAPS,
        build=assemble,
        presets={"jsafe": jsafe_preset(batch_size=256)},
        paper="Chemingui et al. 2025, Constraint-adaptive policy switching for offline safe RL, AAAI, arXiv 2412.18946",
        summary="One training for every limit: the budget that is left picks one of several policies.",
        recommended="jsafe",
        module=__name__,
    )
)
