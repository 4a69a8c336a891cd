"""DDPG: a deterministic policy climbs its critic; plain, under a Lagrange multiplier, and under a PID controller.

    y   = r + gamma Q'(s', mu'(s')),   y_c = c + gamma Q_c'(s', mu'(s'))
    mu <- up the slope of (Q(s, mu(s)) - lam Q_c(s, mu(s))) / (1 + lam)

`lam` follows the mean cost of the last ten episodes, once per iteration.

Source: Lillicrap et al. 2016, Continuous control with deep reinforcement learning, arXiv 1509.02971, section 7 (without
the critic's weight decay and batch normalisation, and with white exploration noise instead of Ornstein-Uhlenbeck's);
the multiplier on costs: Ray, Achiam & Amodei 2019; the controller: Stooke et al. 2020, arXiv 2007.03964.
OmniSafe: targets at the current actor, one update and one step of the multiplier per environment step, from epoch 101
on (preset `omnisafe`; `omnisafe_navigation` has its overrides for the Goal1 and Circle1 tasks).
"""

from __future__ import annotations

import dataclasses

from jsafe.algos.off_policy.assembly import define
from jsafe.algos.off_policy.config import ActorName, RuleName, TextbookConfig, omnisafe_presets


@dataclasses.dataclass(frozen=True)
class DDPGConfig(TextbookConfig):
    """Options of ddpg."""

    actor: ActorName = "ddpg"
    rule: RuleName = "none"
    tau: float = 0.001
    learning_rate: float = 1e-3
    actor_learning_rate: float | None = 1e-4
    hidden: tuple[int, ...] = (400, 300)
    replicas: int = 1
    cost_replicas: int | None = 0
    sequences: int = 64


@dataclasses.dataclass(frozen=True)
class DDPGLagConfig(DDPGConfig):
    """Options of ddpg_lag."""

    rule: RuleName = "lagrange"
    cost_replicas: int | None = 1


@dataclasses.dataclass(frozen=True)
class DDPGPIDConfig(DDPGLagConfig):
    """Options of ddpg_pid."""

    rule: RuleName = "pid"


LAPTOP = {"learning_rate": 3e-4, "tau": 0.005, "hidden": (256, 256), "sequences": 256, "updates": 8}
"""What the preset `laptop` changes: TD3's later network sizes and rates, and an update per eight environment steps."""

for _name, _config, _summary in (
    ("ddpg", DDPGConfig, "A deterministic policy climbs its critic; ignores the costs."),
    ("ddpg_lag", DDPGLagConfig, "DDPG with a Lagrange multiplier on the episodic cost."),
    ("ddpg_pid", DDPGPIDConfig, "DDPG with a multiplier set by a PID controller."),
):
    define(
        _name,
        _config,
        paper="Lillicrap et al. 2016, arXiv 1509.02971; Ray et al. 2019; Stooke et al. 2020, arXiv 2007.03964",
        summary=_summary,
        presets={"laptop": LAPTOP, **omnisafe_presets(_config.rule, initial_rows=25_000, random_steps=25_000)},
        total_steps={},
    )
