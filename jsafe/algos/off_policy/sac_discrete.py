"""Soft actor-critic over choices, under a Lagrange multiplier.

    y   = r + gamma sum_a' pi(a' | s') (min_j Q'_j(s', a') - alpha log pi(a' | s')),   y_c likewise without entropy
    pi <- down the slope of  sum_a pi(a | s) (alpha log pi(a | s) - (min_j Q_j(s, a) - lam Q_c(s, a)) / (1 + lam))

Expectations over all choices stand in the place of samples; the rest is `sac_lag`. The target entropy is 0.98 of the
largest one, `log n`, as published: the policy stays close to chance until the temperature has fallen. `jsafe` wants
a tenth of it, and starts with a small temperature.

Source: Christodoulou 2019 (arXiv 1910.07207); the multiplier on costs: Ray, Achiam & Amodei 2019.
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.actors import Categorical
from jsafe.components.temperature import Learned
from jsafe.registry import Algorithm, Preset, register

register(
    Algorithm(
        "sac_discrete_lag",
        "off_policy",
        OffPolicyConfig(actor=Categorical(), temperature=Learned(target=-0.98)),
        assemble,
        {
            "jsafe": Preset(
                "A policy that decides: little entropy, and a temperature that starts small.",
                {"temperature.target": -0.1, "temperature.init": 0.05, "temperature.floor": 1e-3},
            )
        },
        paper="Christodoulou 2019, Soft Actor-Critic for Discrete Action Settings, arXiv 1910.07207; Ray et al. 2019",
        summary="SAC over choices with a Lagrange multiplier on the episodic cost.",
        recommended="jsafe",
        module=__name__,
    )
)
