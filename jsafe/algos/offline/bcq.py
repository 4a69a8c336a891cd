"""Batch-constrained Q-learning: the best of the actions that a model of the data proposes, slightly moved.

    a'_i  = clip(D(s', z_i) + phi tanh(f'(s', D(s', z_i))), -1, 1),   z_i = clip(N(0, I), -1/2, 1/2),   i = 1..10
    y     = r + gamma d max_i m(Q'_1, Q'_2)(s', a'_i),   m = 3/4 min + 1/4 max
    L_Q   = sum_j mean (y - Q_j(s, a))^2,    L_f = -mean Q_1(s, a_f),    L_vae as in `vae_bc`
    act: argmax of Q_1 over 100 candidates

All three move in every update, then the slow copies of Q and of the perturbation f. Where the action is to be certain,
the 100 latents are the same in every call and every state.

Source: Fujimoto, Meger & Precup 2019, Off-policy deep reinforcement learning without exploration, arXiv 1812.02900,
algorithm 1, and the authors' code. OmniSafe (preset `omnisafe`): one random candidate at test, no argmax; latents and
candidates without bounds; a linear decoder; KL weight 1; no slow copy of the perturbation; three layers of 256. There
the perturbation climbs critics that have just moved, here all move from the same parameters.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import RELEASED, jsafe_preset
from jsafe.algos.offline.vae_bc import RELEASED_CVAE, WIDE
from jsafe.components.choices import Best
from jsafe.components.critics import Blended
from jsafe.components.generators import CVAE
from jsafe.components.improvements import Climb
from jsafe.components.valuations import Bootstrapped
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

BCQ = replace(
    OfflineConfig(),
    {
        "policy": CVAE(phi=0.05),
        "critic": Bootstrapped(Blended(hidden=(400, 300), blend=0.75, climb="first", costs=False), candidates=10),
        "improve": Climb(),
        "choice": Best(candidates=100),
        "batch_size": 100,
    },
)

RELEASED_BCQ = {**RELEASED, **RELEASED_CVAE, "policy.clip": False, "policy.slow": False, "choice": "policy"}

register(
    Algorithm(
        name="bcq",
        family="offline",
        config=BCQ,
        build=assemble,
        presets={
            "jsafe": jsafe_preset(batch_size=256, **WIDE),
            "omnisafe": Preset("OmniSafe's numbers and its released behaviour.", RELEASED_BCQ, 1_000_000),
        },
        paper="Fujimoto, Meger & Precup 2019, Off-policy deep reinforcement learning without exploration, "
        "arXiv 1812.02900",
        summary="The best of the actions that a model of the data proposes; ignores the costs.",
        recommended="jsafe",
        module=__name__,
    )
)
