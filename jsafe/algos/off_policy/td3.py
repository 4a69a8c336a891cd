"""TD3: DDPG with twin critics, smoothed targets and a delayed actor; plain, under a multiplier, and under a controller.

    a'  = clip(mu'(s') + clip(N(0, 0.2^2), -0.5, 0.5), -1, 1)
    y   = r + gamma min(Q1'(s', a'), Q2'(s', a')),   y_c = c + gamma Q_c'(s', a')
    mu <- up the slope of (Q1(s, mu(s)) - lam Q_c(s, mu(s))) / (1 + lam), with the targets, every second update

`lam` follows the mean cost of the last ten episodes, once per iteration.

Source: Fujimoto, van Hoof & Meger 2018, Addressing function approximation error in actor-critic methods,
arXiv 1802.09477, algorithm 1 and table 3 of its appendix; the multiplier on costs: Ray, Achiam & Amodei 2019; the
controller: Stooke et al. 2020, arXiv 2007.03964.
OmniSafe: costs bootstrap from the current actor without smoothing; smaller networks and rates; one step of the
multiplier per environment step, from epoch 101 on (preset `omnisafe`; `omnisafe_navigation` has its overrides for the
Goal1 and Circle1 tasks).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from jsafe.algos.off_policy.assembly import define
from jsafe.algos.off_policy.config import ActorName, RuleName, TextbookConfig, jsafe_presets, omnisafe_presets


@dataclasses.dataclass(frozen=True)
class TD3Config(TextbookConfig):
    """Options of td3."""

    actor: ActorName = "td3"
    rule: RuleName = "none"
    actor_critic: Literal["min", "first"] = "first"
    policy_delay: int = 2
    learning_rate: float = 1e-3
    hidden: tuple[int, ...] = (400, 300)
    cost_replicas: int | None = 0
    num_envs: int = 20
    unroll: int = 5
    sequences: int = 100
    replay_rows: int = 50_000
    updates: int = 100


@dataclasses.dataclass(frozen=True)
class TD3LagConfig(TD3Config):
    """Options of td3_lag."""

    rule: RuleName = "lagrange"
    cost_replicas: int | None = 1


@dataclasses.dataclass(frozen=True)
class TD3PIDConfig(TD3LagConfig):
    """Options of td3_pid."""

    rule: RuleName = "pid"


LAPTOP = {
    "learning_rate": 3e-4,
    "hidden": (256, 256),
    "num_envs": 16,
    "unroll": 4,
    "sequences": 256,
    "replay_rows": 62_500,
    "updates": 8,
}
"""What the preset `laptop` changes: sizes and rates of the authors' later code, an update per eight steps."""

for _name, _config, _summary in (
    ("td3", TD3Config, "Twin critics, smoothed targets, delayed deterministic policy; ignores the costs."),
    ("td3_lag", TD3LagConfig, "TD3 with a Lagrange multiplier on the episodic cost."),
    ("td3_pid", TD3PIDConfig, "TD3 with a multiplier set by a PID controller."),
):
    define(
        _name,
        _config,
        paper="Fujimoto et al. 2018, arXiv 1802.09477; Ray et al. 2019; Stooke et al. 2020, arXiv 2007.03964",
        summary=_summary,
        presets={
            "laptop": LAPTOP,
            **jsafe_presets(_config.rule),
            **omnisafe_presets(_config.rule, initial_rows=25_000, random_steps=25_000),
        },
        total_steps={"jsafe": 3_000_000},
    )
