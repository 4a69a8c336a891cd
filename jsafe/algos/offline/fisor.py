"""FISOR: a hard constraint. Where a violation can be avoided, the best safe actions; elsewhere the way out.

    Q_h  -> (1 - gamma) h + gamma max(h, V_h(s')),   h = 25 where c > 0, else -1;   V_h leans to the safest action
    V_h > 0:              w = min(exp(5 (V_h - Q_h)), 150)
    V_h <= 0, Q_h <= 0:   w = min(exp(3 A_r), 100);     V_h <= 0, Q_h > 0:   w = 0
    L_pi = -mean w log pi(a | s)
    act: of 16 samples the one of the least Q_h

No limit enters: any cost counts. A hazard k steps ahead makes a state infeasible as long as `gamma^k > 1/26`, 324 steps
at gamma 0.99.

Source: Zheng et al. 2024, Safe offline reinforcement learning with feasibility-guided diffusion model, ICLR, arXiv
2401.10700. The preset `diffusion` has the authors' policy; the default is a Gaussian. Differences: one step of the
policy per update, on the critics' minibatch of 256 (theirs: two on 1024 rows); `Q_h` and `V_h` are held between the
least and the largest h, as their equations say.
"""

from __future__ import annotations

from jsafe.algos.offline.assembly import assemble
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.presets import jsafe_preset
from jsafe.components.choices import Safest
from jsafe.components.generators import Diffusion, Gaussian
from jsafe.components.regression_weights import Feasible
from jsafe.components.valuations import Reach
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

FISOR = replace(
    OfflineConfig(),
    {
        "policy": Gaussian(),
        "critic": Reach(),
        "weight": Feasible(),
        "choice": Safest(candidates=16),
        "learning_rate": 3e-4,
        "reward_scale": "range",
        "tau": 0.001,
    },
)

register(
    Algorithm(
        name="fisor",
        family="offline",
        config=FISOR,
        build=assemble,
        presets={
            "jsafe": jsafe_preset(tau=0.005),
            "diffusion": Preset(
                "The authors' diffusion policy, acting with a slow copy.",
                {"policy": Diffusion(), "cosine_updates": 3_000_000},
                1_000_000,
            ),
        },
        paper="Zheng et al. 2024, Safe offline reinforcement learning with feasibility-guided diffusion model, "
        "arXiv 2401.10700",
        summary="Best safe actions where a violation can be avoided, the way out elsewhere; no limit.",
        recommended="jsafe",
        module=__name__,
    )
)
