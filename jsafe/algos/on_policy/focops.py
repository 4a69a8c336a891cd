"""First-order constrained optimisation in policy space.

    A = (A_r - nu A_c) / (1 + nu),     L = mean(1[KL_s <= eta] (KL_s(pi || pi_old) - ratio A / lam))

`nu` is a Lagrange multiplier in [0, 2], moved once per iteration.

Source: Zhang, Vuong & Ross 2020 (arXiv 2002.06506), algorithm 1. The paper does not divide by `1 + nu`.
The authors' code scales both advantages to unit variance (which its bound of 2 on `nu` belongs to), moves `nu` by plain
ascent, 0.01 (J_c - d), and decays the critics' rate, too: preset `authors`, with a constant critics' rate.
OmniSafe: its arrays broadcast to [B, B], pairing every row's KL with every row's advantage (`compat="omnisafe"`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import FEW_PASSES, define
from jsafe.components.rules import Lagrange
from jsafe.components.steps import FOCOPS
from jsafe.registry import Preset

define(
    "focops",
    OnPolicyConfig(step=FOCOPS(), rule=Lagrange(upper_bound=2.0)),
    paper="Zhang, Vuong & Ross 2020, First Order Constrained Optimization in Policy Space, arXiv 2002.06506",
    summary="First-order projection of the optimal constrained policy.",
    module=__name__,
    more={
        "jsafe": FEW_PASSES,
        "authors": Preset(
            "the scaling of the authors' code",
            {
                "standardize": "all",
                "rule.normalize": "none",
                "rule.optimizer": "sgd",
                "rule.learning_rate": 0.01,
                "rule.init": 0.0,
            },
        ),
    },
    recommended="jsafe",
)
