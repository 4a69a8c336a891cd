"""TD3: DDPG with twin critics, smoothed targets and a delayed actor; plain, under a multiplier, and under a controller.

    a'  = clip(mu'(s') + clip(N(0, 0.2^2), -0.5, 0.5), -1, 1)
    y   = r + gamma min(Q1'(s', a'), Q2'(s', a')),   y_c = c + gamma Q_c'(s', a')
    mu <- up the slope of (Q1(s, mu(s)) - lam Q_c(s, mu(s))) / (1 + lam), with the targets, every second update

`lam` follows the mean cost of the last ten episodes, once per iteration. With several critics per cost the largest
counts, in targets and for the actor.

Source: Fujimoto, van Hoof & Meger 2018, Addressing function approximation error in actor-critic methods,
arXiv 1802.09477, algorithm 1 and table 3 of its appendix; the multiplier on costs: Ray, Achiam & Amodei 2019; the
controller: Stooke et al. 2020, arXiv 2007.03964.
OmniSafe: costs bootstrap from the current actor without smoothing; smaller networks and rates; one step of the
multiplier per environment step, from epoch 101 on (preset `omnisafe`; `omnisafe_navigation` has its overrides for the
Goal1 and Circle1 tasks).
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.algos.off_policy.presets import jsafe_presets, omnisafe_presets
from jsafe.components.actors import Deterministic
from jsafe.components.critics import Ensemble
from jsafe.components.rules import PID, Lagrange, NoRule
from jsafe.components.temperature import NoTemperature
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

TD3_LAG = replace(
    OffPolicyConfig(),
    {
        "actor": Deterministic(hidden=(400, 300), smoothing_noise=0.2),
        "critics": Ensemble(hidden=(400, 300), climb="first"),
        "temperature": NoTemperature(),
        "policy_delay": 2,
        "learning_rate": 1e-3,
        "num_envs": 20,
        "unroll": 5,
        "sequences": 100,
        "replay_rows": 50_000,
        "updates": 100,
    },
)

LAPTOP = {
    "learning_rate": 3e-4,
    "hidden": (256, 256),
    "num_envs": 16,
    "unroll": 4,
    "sequences": 256,
    "replay_rows": 62_500,
    "updates": 8,
}

RELEASED = {"initial_rows": 25_000, "random_steps": 25_000}

for _name, _changes, _summary in (
    (
        "td3",
        {"rule": NoRule(), "critics.cost_replicas": 0},
        "Twin critics, smoothed targets, delayed deterministic policy; ignores the costs.",
    ),
    ("td3_lag", {"rule": Lagrange(learning_rate=1e-3)}, "TD3 with a Lagrange multiplier on the episodic cost."),
    ("td3_pid", {"rule": PID(kp=0.01, ki=1e-5, kd=0.01)}, "TD3 with a multiplier set by a PID controller."),
):
    _config = replace(TD3_LAG, _changes)
    register(
        Algorithm(
            _name,
            "off_policy",
            _config,
            assemble,
            {
                "laptop": Preset("Sizes and rates of the authors' later code, an update per eight steps.", LAPTOP),
                **jsafe_presets(_config, _config, {}),
                **omnisafe_presets(_config, _config, RELEASED, 0.001, {}),
            },
            "Fujimoto et al. 2018, arXiv 1802.09477; Ray et al. 2019; Stooke et al. 2020, arXiv 2007.03964",
            _summary,
            recommended="jsafe",
            module=__name__,
        )
    )
