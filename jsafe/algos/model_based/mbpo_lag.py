"""MBPO-Lag: SAC under a Lagrange multiplier, mostly on what it imagines.

    s_0 ~ replay,   a_t ~ pi(s_t),   s_{t+1}, r_t, c_t ~ model e_t,   e_t drawn anew in each step,   t < k
    minibatch: a quarter of real windows, the rest imagined;   lam <- [lam + eta (J_C - d)]+   on real episodes

It acts with its policy: no search at run time. Any other off-policy learner takes SAC's place, SEditor too:
`jsafe.imagining(spec, "seditor")`.

Source: Janner et al. 2019, When to trust your model, NeurIPS, arXiv 1906.08253, algorithm 2, with the multiplier of
Ray, Achiam & Amodei 2019; `violation="absorbing"`: Thomas, Luo & Ma 2021, Safe reinforcement learning by imagining the
near future, NeurIPS, arXiv 2202.07789. Differences: no second buffer (what is imagined serves one update), no holdout
set.
Compare Jayant & Bhatnagar 2022 (arXiv 2210.07573), who imagine whole episodes for PPO-Lag.
"""

from __future__ import annotations

from jsafe.algos.model_based.imagination import ImaginationConfig, assemble
from jsafe.algos.off_policy.presets import jsafe_presets
from jsafe.algos.off_policy.sac import TEXTBOOK
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

MBPO_LAG = ImaginationConfig(inner=replace(TEXTBOOK, {"updates": 8}))

JSAFE = replace(
    TEXTBOOK,
    {
        **jsafe_presets(TEXTBOOK, TEXTBOOK, {"temperature.init": 0.01, "temperature.floor": 1e-4})["jsafe"].changes,
        "initial_rows": 2_000,
        "random_steps": 10_000,
    },
)
"""The preset `jsafe` of `sac_lag`, which learns earlier: windows of eight rows, all of which are imagined at once."""

register(
    Algorithm(
        name="mbpo_lag",
        family="model_based",
        config=MBPO_LAG,
        build=assemble,
        presets={
            "jsafe": Preset(
                "`sac_lag` as it learns the stock tasks, with imagined windows.", {"inner": JSAFE, "rollout": 7}
            ),
            "absorbing": Preset(
                "Violations end what is imagined, as in SMBPO.", {"violation": "absorbing", "rollout": 10}
            ),
        },
        paper="Janner et al. 2019, When to Trust Your Model, arXiv 1906.08253; Thomas et al. 2021, arXiv 2202.07789",
        summary="SAC under a Lagrange multiplier, mostly on windows that it imagines in a learned model.",
        recommended="jsafe",
        module=__name__,
    )
)
