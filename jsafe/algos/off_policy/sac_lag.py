"""Soft actor-critic, plain, under a Lagrange multiplier (also with a wider actor), and under a PID controller.

    L_actor = alpha log pi(a | s) - (w_u Q_u(s, a) - w_c Q_c(s, a))

A name means one learner, with presets; the defaults (`seditor_paper`, or `paper`) are the baselines of SEditor's paper.
What sets the presets apart:

| | `seditor_paper` | `textbook` | `omnisafe` |
|---|---|---|---|
| policy | Beta | tanh-Gaussian | tanh-Gaussian |
| targets | TD(0.95) over 8 rows, 4 stacked frames | one step | one step |
| entropy in targets | of reward and costs | of the reward | of the reward |
| temperature | learned, target -1.61 per component | learned, target -1 | fixed, 0.2 |
| critics per cost | 2, the larger counts | 1 | 1, bootstrapped at the mean action |
| rewards, costs | both normalised | raw | costs normalised |
| limit | cost per step, 5e-4 | cost per episode, 25 | cost per episode, 25 |
| multiplier | softplus, from 1 | clamped, from 0.001 | clamped, from 0.001, after 200 000 steps |
| Adam step of it | 0.01 per 160 steps | 0.001 per 64 steps | 1e-5 per step |
| updates per environment step | 1/160 of 1024 windows | 1 of 256 | 1 of 256, actor and targets every second |

`omnisafe_navigation` has OmniSafe's overrides for the Goal1 and Circle1 tasks. `jsafe` is `textbook` with the sizes,
rates and bias corrections that learn those tasks (`jsafe.algos.off_policy.config.JSAFE`; experiments/off_policy), and
`jsafe_velocity` what the velocity tasks take besides.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jsafe.algos.off_policy.assembly import assemble
from jsafe.algos.off_policy.config import (
    ActorName,
    OffPolicyConfig,
    RuleName,
    TextbookConfig,
    jsafe_presets,
    omnisafe_presets,
)
from jsafe.algos.off_policy.seditor import LAPTOP, STEPS
from jsafe.registry import Algorithm, register
from jsafe.types import EnvSpec, Learner


@dataclasses.dataclass(frozen=True)
class SACLagConfig(OffPolicyConfig):
    """Options of SAC-Lag; the defaults are the baseline of SEditor's paper on Safety Gym."""

    actor: ActorName = "beta"
    entropy_reward: bool = True


def build(config: OffPolicyConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Soft actor-critic on `w_u Q_u + w_c Q_c` with a constraint rule.

    By default critics, replay, normaliser, TD(0.95), temperature and multiplier are those of SEditor.

    Args:
      config: Options.
      spec: Sizes of the environment.
      axis_name: Mapped axis to reduce over.

    Returns:
      A `Learner`.

    Source: Haarnoja et al. 2018 (arXiv 1801.01290, and 1812.05905 for the learned temperature); the multiplier on
      costs: Ray, Achiam & Amodei 2019, and Yu, Xu & Zhang 2022 (arXiv 2201.12427), baselines SAC-Lag and
      SAC-actor2x-Lag; the controller: Stooke et al. 2020 (arXiv 2007.03964). No configuration of SEditor's
      unconstrained SAC was released: `sac` is this learner with weights (1, 0).
    """
    return assemble(config, spec, axis_name=axis_name)


@dataclasses.dataclass(frozen=True)
class SACActor2xLagConfig(SACLagConfig):
    """SAC-Lag with `256 * sqrt(2)` units per actor layer: about the parameter count of SEditor's two policies."""

    actor_hidden: tuple[int, ...] | None = (360, 360, 360)


@dataclasses.dataclass(frozen=True)
class SACConfig(SACLagConfig):
    """Unconstrained SAC."""

    rule: RuleName = "none"


@dataclasses.dataclass(frozen=True)
class SACPIDConfig(SACLagConfig):
    """SAC under a PID controller."""

    rule: RuleName = "pid"


def presets(kind: type[SACLagConfig]) -> dict[str, dict[str, Any]]:
    """The presets of one of the names."""
    plain = {"cost_replicas": 0} if kind.rule == "none" else {}
    wider = {"actor_hidden": (360, 360)} if kind.actor_hidden else {}
    fields = {f.name: f.default for f in dataclasses.fields(TextbookConfig) if f.name != "rule"}
    default = kind()
    textbook = {name: value for name, value in fields.items() if value != getattr(default, name)} | plain | wider
    released = omnisafe_presets(kind.rule, policy_delay=2, initial_rows=10_000, random_steps=10_000)
    released["omnisafe_navigation"]["initial_temperature"] = 1e-5
    return {
        "paper": {},
        "seditor_paper": {},
        "laptop": LAPTOP,
        "textbook": textbook,
        **{name: textbook | changes for name, changes in (released | jsafe_presets(kind.rule, **wider)).items()},
    }


for _name, _config, _summary in (
    ("sac_lag", SACLagConfig, "Soft actor-critic with a Lagrange multiplier, SEditor's baseline."),
    ("sac_actor2x_lag", SACActor2xLagConfig, "SAC-Lag with an actor of about SEditor's parameter count."),
    ("sac_pid", SACPIDConfig, "Soft actor-critic with a multiplier set by a PID controller."),
    ("sac", SACConfig, "Unconstrained soft actor-critic, the reference without costs."),
):
    register(
        Algorithm(
            name=_name,
            family="off_policy",
            config=_config,
            build=build,
            presets=presets(_config),
            paper="Haarnoja et al. 2018, arXiv 1801.01290; Yu, Xu & Zhang 2022, arXiv 2201.12427",
            summary=_summary,
            total_steps=STEPS,
        )
    )
