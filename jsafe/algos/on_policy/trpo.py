"""Trust-region policy optimisation.

    maximise mean(ratio A_r)  subject to  mean KL(old || new) <= delta

The natural-gradient step, shrunk by 0.8 up to 15 times until the surrogate does not fall and the constraint holds.

Source: Schulman et al. 2015 (arXiv 1502.05477), equation 14 and appendix C.
OmniSafe: averages the KL divergence over action components (`compat="omnisafe"`): its region is A times as large.
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import TRPO

define(
    "trpo",
    OnPolicyConfig(step=TRPO()),
    paper="Schulman et al. 2015, Trust Region Policy Optimization, arXiv 1502.05477",
    summary="Natural gradient with a line search; ignores costs.",
    module=__name__,
)
