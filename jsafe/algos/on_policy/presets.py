"""The presets that on-policy algorithms share, and how they are registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsafe.algos.on_policy.assembly import assemble
from jsafe.algos.on_policy.config import OnPolicyConfig
from jsafe.registry import Algorithm, Preset, register

OMNISAFE = {"compat": "omnisafe", "limit.window": 100}
"""What OmniSafe does everywhere: its released behaviour, and costs averaged over the last 100 episodes."""
OMNISAFE_STEPS = 10_000_000

FEW_PASSES = Preset("four passes over a batch: forty fit the noise of its cost advantages", {"step.passes": 4})
"""Measured with `ppo_lag`, `cppo_pid`, `focops`, `p3o`, `appo` and `ipo` (`experiments/benchmark`)."""

_MILD = {"transform.gamma": 0.9999, "transform.unsafe_reward": -0.2}
BUDGET_NAVIGATION = {"ppo": _MILD | {"step.passes": 80, "normalize_obs": False}, "trpo": _MILD}
"""OmniSafe's overrides for the algorithms with a budget on the Goal and Circle tasks, by step (its observations on the
Circle tasks are normalised all the same)."""

BUDGET_FEW_PASSES = Preset(
    "four passes over a batch, and OmniSafe's mild price of an empty budget", {**_MILD, **FEW_PASSES.changes}
)
"""Measured on SafetyPointGoal1 with `ppo_saute` (`experiments/benchmark`)."""


def define(
    name: str,
    config: OnPolicyConfig,
    *,
    paper: str,
    summary: str,
    module: str,
    omnisafe: Mapping[str, Any] | None = None,
    navigation: Mapping[str, Any] | None = None,
    more: Mapping[str, Preset] | None = None,
    recommended: str | None = None,
) -> Algorithm:
    """Registers an algorithm with OmniSafe's presets.

    Args:
      name: Of the algorithm.
      config: Its parts.
      paper: Citation with the arXiv number.
      summary: One line.
      module: `__name__` of its file.
      omnisafe: What the released configuration changes besides `OMNISAFE`.
      navigation: What it changes further on the Goal tasks: the preset `omnisafe_navigation`.
      more: Other presets.
      recommended: The preset to start with; None: the defaults.
    """
    released = OMNISAFE | dict(omnisafe or {})
    presets = {"omnisafe": Preset("OmniSafe's configuration and released behaviour", released, OMNISAFE_STEPS)}
    if navigation is not None:
        text = "the same with OmniSafe's overrides for the Goal and Circle tasks"
        presets["omnisafe_navigation"] = Preset(text, released | dict(navigation), OMNISAFE_STEPS)
    presets |= more or {}
    return register(Algorithm(name, "on_policy", config, assemble, presets, paper, summary, recommended, module=module))
