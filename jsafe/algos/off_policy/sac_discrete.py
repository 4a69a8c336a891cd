"""Soft actor-critic over choices, under a Lagrange multiplier.

    y   = r + gamma sum_a' pi(a' | s') (min_j Q'_j(s', a') - alpha log pi(a' | s')),   y_c = c + gamma sum_a' pi Q_c'
    pi <- down the slope of  sum_a pi(a | s) (alpha log pi(a | s) - (min_j Q_j(s, a) - lam Q_c(s, a)) / (1 + lam))

Expectations over the choices are exact in targets, actor and temperature. The target entropy is a share of `log n`;
98 per cent, the paper's, leaves the policy almost uniform wherever values are small beside the temperature.

Source: Christodoulou 2019, Soft Actor-Critic for Discrete Action Settings, arXiv 1910.07207; the multiplier on costs:
Ray, Achiam & Amodei 2019, Benchmarking safe exploration.
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.actors import Categorical
from jsafe.components.temperature import Learned
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

SAC_DISCRETE_LAG = replace(OffPolicyConfig(), {"actor": Categorical(), "temperature": Learned(target=0.98)})

LAPTOP = {"hidden": (128, 128), "updates": 8, "temperature.init": 0.1, "temperature.target": 0.3}

register(
    Algorithm(
        name="sac_discrete_lag",
        family="off_policy",
        config=SAC_DISCRETE_LAG,
        build=assemble,
        presets={"laptop": Preset("Smaller networks, an update per eight steps, a lower target entropy.", LAPTOP)},
        paper="Christodoulou 2019, Soft Actor-Critic for Discrete Action Settings, arXiv 1910.07207; Ray et al. 2019",
        summary="Soft actor-critic over choices with a Lagrange multiplier on the episodic cost.",
        recommended="laptop",
        module=__name__,
    )
)
