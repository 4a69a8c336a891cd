"""Presets that several off-policy algorithms share, as changes of a config (`jsafe.options.replace`)."""

from __future__ import annotations

import dataclasses
from typing import Any

from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.reward_normalizer import MovingNormalizer, NoNormalizer
from jsafe.components.rules import PID, Lagrange
from jsafe.options import replace
from jsafe.registry import Preset

LAPTOP = {
    "hidden": (128, 128),
    "sequences": 32,
    "updates": 8,
    "temperature.init": 0.1,
    "temperature.floor": 1e-3,
}
"""SEditor and its baselines for a laptop: smaller networks and minibatches pay for eight updates per iteration instead
of one, and temperatures start where the paper's are after some 7 000 updates (0.1 instead of 1). It needs a quarter of
the environment steps of the paper's networks with one update (experiments/seditor). The floor is of version 0.2:
eight times the updates let the temperature fall eight times as fast, to 4e-10 in 1.4 million steps, and it took half a
million to come back."""

RACING = {
    "encoder": "average",
    "hidden": (256, 256),
    "num_envs": 16,
    "frame_stack": 1,
    "sequences": 256,
    "initial_rows": 50_000,
    "replay_rows": 100_000,
}
"""What SEditor's paper changes for SafeRacing's pictures, in its own run and in those of its baselines."""

OMNISAFE: dict[str, Any] = {
    "compat": "omnisafe",
    "learning_rate": 3e-4,
    "tau": 0.005,
    "max_grad_norm": 40.0,
    "hidden": (256, 256),
    "rule_warmup": 200_000,
    "sequences": 256,
    "num_envs": 1,
    "unroll": 1,
    "updates": 1,
    "replay_rows": 1_000_000,
}
"""OmniSafe's defaults: one environment, and one update (`update_iters`) and one step of the multiplier after each step
of it (`update_cycle`). With N environments there, a minibatch has 256 N rows, and the buffer is per environment: here
`num_envs=N, sequences=256 * N`, and `replay_rows` as it is. Costs are normalised when they are replayed, by moving
averages; there when they are stored, by the statistics of all before."""

NAVIGATION: dict[str, Any] = {"critic_learning_rate": 1e-3, "actor_learning_rate": 5e-6, "normalizer": NoNormalizer()}
"""OmniSafe's overrides for PointGoal1, CarGoal1, PointCircle1 and CarCircle1, besides those of the rule."""

JSAFE: dict[str, Any] = {
    "td_lambda": 0.95,
    "learning_rate": 3e-4,
    "hidden": (128, 128),
    "limit.window": 50,
    "limit.margin": 0.1,
    "num_envs": 16,
    "unroll": 4,
    "sequences": 32,
    "sequence_length": 8,
    "replay_rows": 62_500,
    "updates": 8,
}
"""What learns the stock navigation tasks; experiments/off_policy measures it choice by choice. A temperature is learned
from 0.01, for a step there earns some 0.02 (and, since version 0.2, not below 1e-4). Returns over up to seven steps,
and the larger of two critics per cost: one bootstrapped critic underestimates the costs of the very actions that the
actor prefers. Plain dual ascent at the pace at which costs fall, which is the controller's integral part, too; its
derivative is off, because an average over 50 episodes says nothing of the last iterations. An update per eight
environment steps, on smaller networks, for the time it takes."""

JSAFE_RULES: dict[str, dict[str, Any]] = {
    "lagrange": {"rule.optimizer": "sgd", "rule.learning_rate": 1.5e-6},
    "pid": {"rule.kp": 1e-3, "rule.ki": 1.5e-6, "rule.kd": 0.0},
}

JSAFE_VELOCITY = {"updates": 16, "rule_warmup": 100_000, "rule.learning_rate": 3e-6}
"""What the velocity tasks take besides `JSAFE`: a gait first, then a limit on it."""


def leading_to(config: OffPolicyConfig, base: OffPolicyConfig) -> dict[str, Any]:
    """The changes that make one config of another."""
    names = [field.name for field in dataclasses.fields(base)]
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(base, name)}


def jsafe_presets(base: OffPolicyConfig, start: OffPolicyConfig, family: dict[str, Any]) -> dict[str, Preset]:
    """The presets `jsafe` and, for a multiplier, `jsafe_velocity`.

    Args:
      base: The algorithm's config.
      start: What they change: the algorithm in single transitions.
      family: Changes of this kind of actor.
    """
    rule = getattr(type(start.rule), "kind", "")
    changes = JSAFE | ({"critics.cost_replicas": 2} if start.constrained else {}) | JSAFE_RULES.get(rule, {}) | family
    config = replace(start, changes)
    presets = {"jsafe": Preset("Learns the stock navigation tasks.", leading_to(config, base), 3_000_000)}
    if rule == "lagrange":
        faster = leading_to(replace(config, JSAFE_VELOCITY), base)
        presets["jsafe_velocity"] = Preset("`jsafe` for the velocity tasks: a gait first, then a limit on it.", faster)
    return presets


def omnisafe_presets(
    base: OffPolicyConfig,
    start: OffPolicyConfig,
    family: dict[str, Any],
    pid_init: float,
    navigation: dict[str, Any],
) -> dict[str, Preset]:
    """The presets `omnisafe` and `omnisafe_navigation`.

    Args:
      base: The algorithm's config.
      start: What they change: the algorithm in single transitions.
      family: Changes of this kind of actor.
      pid_init: Where the controller's integral starts in the source's file for this kind of actor.
      navigation: What the source's file changes for the navigation tasks besides `NAVIGATION`.
    """
    changes, more = OMNISAFE | family, NAVIGATION | navigation
    if start.constrained:
        changes = changes | {"normalizer": MovingNormalizer(reward=False, clip=5.0)}
    if isinstance(start.rule, Lagrange):
        changes = changes | {"rule.learning_rate": 1e-5}
        more = more | {"rule.learning_rate": 5e-7, "rule.init": 0.0}
    elif isinstance(start.rule, PID):
        changes = changes | {"rule.kp": 1e-6, "rule.ki": 1e-7, "rule.kd": 1e-7, "rule.init": pid_init}
        changes = changes | {"actor_learning_rate": 1e-4}
        more = more | {"rule.kp": 5e-7, "rule.ki": 1e-8, "rule.kd": 1e-8}
    config = replace(start, changes)
    tasks = leading_to(replace(config, more), base)
    return {
        "omnisafe": Preset("OmniSafe's numbers and its released behaviour.", leading_to(config, base)),
        "omnisafe_navigation": Preset("`omnisafe` with its overrides for the Goal1 and Circle1 tasks.", tasks),
    }
