"""LSPC: an auto-encoder of what is cheap among the recorded actions, and a policy that earns in its latent space.

    L_vae = mean min(exp(-2 A_c), 200) (|D(s, z) - a|^2 + b KL),   z ~ E(s, a)
    L_pi  = mean min(exp(2 A_r), 200) |D(s, e tanh(m + sigma xi)) - a|^2,   (m, sigma) = pi(s), the decoder held fixed
    A     = min_j Q'_j(s, a) - V(s) of the reward and of the negated costs, by expectiles, tau 0.7
    act: D(s, e tanh(m))

No limit enters: cheap is relative to what is recorded. A small e keeps the policy where the auto-encoder is surest.

Source: Koirala, Jiang, Sarkar & Fleming 2025, Latent safety-constrained policy approach for safe offline reinforcement
learning, ICLR, arXiv 2412.08794, and the authors' code. Differences: values of costs are not clamped at 0.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import jsafe_preset
from jsafe.components.generators import Latent
from jsafe.components.regression_weights import PerHead
from jsafe.components.valuations import Expectile
from jsafe.options import replace
from jsafe.registry import Algorithm, register

LSPC = replace(
    OfflineConfig(),
    {
        "policy": Latent(),
        "critic": Expectile(),
        "weight": PerHead(heads=2, beta=2.0, cap=200.0),
        "learning_rate": 3e-4,
        "batch_size": 1024,
    },
)

register(
    Algorithm(
        name="lspc",
        family="offline",
        config=LSPC,
        build=assemble,
        presets={"jsafe": jsafe_preset(batch_size=256)},
        paper="Koirala et al. 2025, Latent safety-constrained policy approach, arXiv 2412.08794",
        summary="A policy that earns in the latent space of what is cheap among the recorded actions; no limit.",
        recommended="jsafe",
        module=__name__,
    )
)
