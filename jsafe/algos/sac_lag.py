"""SAC-Lag as in SEditor's paper, its wider twin, and the unconstrained SAC."""

from __future__ import annotations

import dataclasses

from jsafe.algos._off_policy import OffPolicyConfig, assemble
from jsafe.algos.seditor import LAPTOP, STEPS
from jsafe.components import rules
from jsafe.components.actors import beta_actor
from jsafe.registry import Algorithm, register
from jsafe.types import EnvSpec, Learner


@dataclasses.dataclass(frozen=True)
class SACLagConfig(OffPolicyConfig):
    """Options of SAC-Lag; the defaults are the baseline of SEditor's paper on Safety Gym."""

    actor_hidden: tuple[int, ...] = (256, 256, 256)
    entropy_reward: bool = True
    """Adds the entropy to all rewards in the critics' targets, as the released baseline does; SEditor has none."""
    constrained: bool = True
    """False ignores the costs (weights 1 and 0): plain SAC."""


def build(config: SACLagConfig, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Soft actor-critic on `w_u Q_u + w_c Q_c` with a Lagrange multiplier on the cost per step.

    The critics, replay, normaliser, TD(0.95), temperature and multiplier are those of SEditor.

    Args:
      config: Options.
      spec: Sizes of the environment.
      axis_name: Mapped axis to reduce over.

    Returns:
      A `Learner`.

    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427), baselines SAC-Lag and SAC-actor2x-Lag; SAC: Haarnoja et al. 2018
      (arXiv 1801.01290). No configuration of the paper's unconstrained SAC was released: `sac` is this learner with
      weights (1, 0).
    """
    actor = beta_actor(
        spec.obs_dim * config.frame_stack, spec.act_dim, hidden=config.actor_hidden, act=config.activation
    )
    if config.constrained:
        rule = rules.lagrange(
            spec.num_costs, init=config.initial_multiplier, learning_rate=config.multiplier_learning_rate
        )
    else:
        rule = rules.none(spec.num_costs)
    return assemble(config, spec, actor, rule, entropy_reward=config.entropy_reward, axis_name=axis_name)


@dataclasses.dataclass(frozen=True)
class SACActor2xLagConfig(SACLagConfig):
    """SAC-Lag with `256 * sqrt(2)` units per actor layer: about the parameter count of SEditor's two policies."""

    actor_hidden: tuple[int, ...] = (360, 360, 360)


@dataclasses.dataclass(frozen=True)
class SACConfig(SACLagConfig):
    """Unconstrained SAC."""

    constrained: bool = False


for _name, _config, _summary in (
    ("sac_lag", SACLagConfig, "Soft actor-critic with a Lagrange multiplier, SEditor's baseline."),
    ("sac_actor2x_lag", SACActor2xLagConfig, "SAC-Lag with an actor of about SEditor's parameter count."),
    ("sac", SACConfig, "Unconstrained soft actor-critic, the reference without costs."),
):
    register(
        Algorithm(
            name=_name,
            family="off_policy",
            config=_config,
            build=build,
            presets={"paper": {}, "laptop": LAPTOP},
            paper="Haarnoja et al. 2018, arXiv 1801.01290; Yu, Xu & Zhang 2022, arXiv 2201.12427",
            summary=_summary,
            total_steps=STEPS,
        )
    )
