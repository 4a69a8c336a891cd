"""Natural policy gradient.

    theta' = theta + sqrt(2 delta / g'H^-1 g) H^-1 g

`g` is the gradient of `mean(ratio A_r)`, `H` the Fisher matrix plus damping, `delta = target_kl`. No line search.

Source: Kakade 2001, A natural policy gradient; step size as in Schulman et al. 2015 (arXiv 1502.05477), appendix C.
OmniSafe: averages the KL divergence, hence `H`, over action components (`compat="omnisafe"`).
"""

from __future__ import annotations

from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.algos.on_policy.presets import define
from jsafe.components.steps import NaturalPG

define(
    "natural_pg",
    OnPolicyConfig(step=NaturalPG()),
    paper="Kakade 2001, A natural policy gradient",
    summary="Natural gradient step of fixed KL size; ignores costs.",
    module=__name__,
)
