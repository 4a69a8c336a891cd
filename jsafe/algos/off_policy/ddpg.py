"""DDPG: a deterministic policy climbs its critic; plain, under a Lagrange multiplier, and under a PID controller.

    y   = r + gamma Q'(s', mu'(s')),   y_c = c + gamma Q_c'(s', mu'(s'))
    mu <- up the slope of (Q(s, mu(s)) - lam Q_c(s, mu(s))) / (1 + lam)

`lam` follows the mean cost of the last ten episodes, once per iteration.

Source: Lillicrap et al. 2016, Continuous control with deep reinforcement learning, arXiv 1509.02971, section 7 (without
the critic's weight decay and batch normalisation, and with white exploration noise instead of Ornstein-Uhlenbeck's);
the multiplier on costs: Ray, Achiam & Amodei 2019; the controller: Stooke et al. 2020, arXiv 2007.03964.
OmniSafe: targets at the current actor, one update and one step of the multiplier per environment step, from epoch 101
on (preset `omnisafe`; `omnisafe_navigation` has its overrides for the Goal1 and Circle1 tasks, where DDPGLag alone goes
on normalising costs).
"""

from __future__ import annotations

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.algos.off_policy.presets import omnisafe_presets
from jsafe.components.actors import Deterministic
from jsafe.components.critics import Ensemble
from jsafe.components.reward_normalizer import MovingNormalizer
from jsafe.components.rules import PID, Lagrange, NoRule
from jsafe.components.temperature import NoTemperature
from jsafe.options import replace
from jsafe.registry import Algorithm, Preset, register

DDPG_LAG = replace(
    OffPolicyConfig(),
    {
        "actor": Deterministic(hidden=(400, 300)),
        "critics": Ensemble(hidden=(400, 300), replicas=1),
        "temperature": NoTemperature(),
        "tau": 0.001,
        "critic_learning_rate": 1e-3,
        "actor_learning_rate": 1e-4,
        "sequences": 64,
    },
)

LAPTOP = {"critic_learning_rate": 3e-4, "tau": 0.005, "hidden": (256, 256), "sequences": 256, "updates": 8}

RELEASED = {"actor.slow": False, "initial_rows": 25_000, "random_steps": 25_000}

for _name, _changes, _navigation, _summary in (
    (
        "ddpg",
        {"rule": NoRule(), "critics.cost_replicas": 0},
        {},
        "A deterministic policy climbs its critic; ignores the costs.",
    ),
    (
        "ddpg_lag",
        {"rule": Lagrange(learning_rate=1e-3)},
        {"normalizer": MovingNormalizer(reward=False, clip=5.0)},
        "DDPG with a Lagrange multiplier on the episodic cost.",
    ),
    (
        "ddpg_pid",
        {"rule": PID(kp=0.01, ki=1e-5, kd=0.01)},
        {},
        "DDPG with a multiplier set by a PID controller.",
    ),
):
    _config = replace(DDPG_LAG, _changes)
    register(
        Algorithm(
            _name,
            "off_policy",
            _config,
            assemble,
            {
                "laptop": Preset("TD3's later network sizes and rates, an update per eight steps.", LAPTOP),
                **omnisafe_presets(_config, _config, RELEASED, 0.0, _navigation),
            },
            "Lillicrap et al. 2016, arXiv 1509.02971; Ray et al. 2019; Stooke et al. 2020, arXiv 2007.03964",
            _summary,
            recommended="laptop",
            module=__name__,
        )
    )
