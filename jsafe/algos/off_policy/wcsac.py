"""WCSAC: worst-case soft actor-critic, a limit on the worst share of outcomes instead of their mean.

    CVaR = Q_c + pdf(ppf(risk)) / risk sqrt(V_c)                              (mean and variance critics)
    pi  <- down the slope of  alpha log pi - min_j Q_j + max(0, beta + c (E CVaR - d)) CVaR
    beta <- max(0, beta + rate (E CVaR - d)),   E over replayed states and actions, in every update

`risk` is the share that counts: 1 is the mean, 0.1 the worst tenth. The preset `quantile` has the critic of the later
paper: quantiles, which need not be those of a normal distribution.

Source: Yang et al. 2021, WCSAC: Worst-Case Soft Actor Critic for Safety-Constrained Reinforcement Learning, AAAI, and
the authors' code; Yang et al. 2023, Safety-constrained reinforcement learning with a distributional safety critic,
Machine Learning 112. Differences: the multiplier climbs by plain steps (theirs: Adam on its inverse softplus, 0.05) and
the weight of the costs does not fall below 0 (theirs may); the target of the variance (`components.critics`); the limit
as a discounted sum is that of episodes that go on after a cut, `d / T / (1 - gamma)`.
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.critics import MeanVariance, Quantile
from jsafe.components.rules import Augmented
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

WCSAC = replace(
    OffPolicyConfig(),
    {
        "critics": MeanVariance(),
        "rule": Augmented(init=0.6931, learning_rate=1e-3, penalty=10.0, normalize="none"),
        "cost_estimate": "critics",
        "learning_rate": 1e-3,
    },
)

LAPTOP = {"hidden": (128, 128), "learning_rate": 3e-4, "updates": 8, "temperature.init": 0.01}

register(
    Algorithm(
        name="wcsac",
        family="off_policy",
        config=WCSAC,
        build=assemble,
        presets={
            "quantile": Preset("The quantile safety critic of the paper of 2023.", {"critics": Quantile()}),
            "laptop": Preset("Smaller networks, an update per eight steps.", LAPTOP),
        },
        paper="Yang et al. 2021, WCSAC: Worst-Case Soft Actor Critic, AAAI; Yang et al. 2023, Machine Learning 112",
        summary="SAC with a limit on the worst share of the costs' outcomes.",
        module=__name__,
    )
)
