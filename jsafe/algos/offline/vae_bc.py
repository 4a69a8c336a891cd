"""Behaviour cloning with a conditional variational auto-encoder.

    L = mean_A (D(s, m + sigma xi) - a)^2 + b mean_L KL(N(m, sigma^2) || N(0, 1)),   (m, sigma) = E(s, a),  b = 1/2
    act: D(s, z),  z = clip(N(0, I), -1/2, 1/2);  z = 0 where the action is to be certain

The preset `jsafe` has b = 0.02 and latents up to 2: at b = 1/2 the latent is used only where actions vary by more than
0.35 (see the policy's options), and the policy is the mean action elsewhere.

Source: Fujimoto, Meger & Precup 2019, Off-policy deep reinforcement learning without exploration, arXiv 1812.02900, the
baseline VAE-BC, and the authors' code. OmniSafe (preset `omnisafe`): b = 1, a linear decoder whose actions leave [-1,
1], latents without bounds, random ones in evaluation, too (here drawn once).
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import jsafe_preset
from jsafe.components.generators import CVAE
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

VAE_BC = replace(OfflineConfig(), {"policy": CVAE()})
WIDE = {"policy.kl_weight": 0.02, "policy.z_max": 2.0}
"""Latents that are used, see `jsafe.components.generators.CVAE`."""

RELEASED_CVAE = {
    "policy.kl_weight": 1.0,
    "policy.squash": False,
    "policy.z_max": None,
    "policy.log_std_low": -20.0,
    "policy.log_std_high": 2.0,
    "policy.certain": "random",
}

register(
    Algorithm(
        name="vae_bc",
        family="offline",
        config=VAE_BC,
        build=assemble,
        presets={
            "jsafe": jsafe_preset(**WIDE),
            "omnisafe": Preset("OmniSafe's released behaviour.", RELEASED_CVAE, 1_000_000),
        },
        paper="Fujimoto, Meger & Precup 2019, Off-policy deep reinforcement learning without exploration, "
        "arXiv 1812.02900",
        summary="Behaviour cloning with a variational auto-encoder; ignores the costs.",
        recommended="jsafe",
        module=__name__,
    )
)
