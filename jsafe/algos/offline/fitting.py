"""The parts of an offline learner, built, and whether they fit each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.algos.offline.config import OfflineConfig
from jsafe.algos.offline.gradient import Parts
from jsafe.components import compat
from jsafe.components.rules import NoRule
from jsafe.ops.stats import pmean
from jsafe.types import EnvSpec, Key, Metrics


def check_flat(spec: EnvSpec) -> None:
    """Raises ValueError if observations are not flat vectors."""
    if not (isinstance(spec.obs, spaces.Box) and spec.obs.flat):
        raise ValueError(f"offline learners take observations that are flat vectors, got {spec.obs}")


def minibatches(
    step: Callable[..., Any], state: Any, rows: Any, key: Key, axis_name: str | None
) -> tuple[Any, Metrics]:
    """K gradient steps on K minibatches.

    Args:
      step: `(state, (minibatch, key)) -> (state, metrics)`; the state counts its steps in `updates`.
      state: The learner's.
      rows: The minibatches, leaves `[K, ...]`.
      key: One for all; folded with the device's index here.
      axis_name: Mapped axis to reduce over.

    Returns:
      The state, and means of the metrics.

    Collectives: `pmean` of metrics.
    """
    if axis_name is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
    keys = jax.random.split(key, len(jax.tree.leaves(rows)[0]))
    state, metrics = jax.lax.scan(step, state, (rows, keys))
    metrics = pmean({name: x.mean(axis=0) for name, x in metrics.items()}, axis_name)
    return state, metrics | {"train/updates": state.updates.astype(jnp.float32)}


def built(config: OfflineConfig, spec: EnvSpec, axis_name: str | None) -> Parts:
    """The parts of a config.

    Raises:
      ValueError: Naming the parts that do not fit each other: not a wrong number later.
    """
    names = Parts._fields
    if config.hidden is not None:
        sized = {name: _sized(getattr(config, name), config.hidden) for name in names}
        config = dataclasses.replace(config, **sized)
    parts = Parts(*(compat.build(getattr(config, name), spec, axis_name, config.compat) for name in names))
    _check(config, parts)
    return parts


def _sized(part: Any, hidden: tuple[int, ...]) -> Any:
    """A part, and those inside it, with these hidden widths wherever it has any."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    changes = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name.endswith("hidden"):
            changes[field.name] = hidden
        elif dataclasses.is_dataclass(value):
            changes[field.name] = _sized(value, hidden)
    return dataclasses.replace(part, **changes) if changes else part


def _check(config: OfflineConfig, parts: Parts) -> None:
    def kind(name):
        return f"{name}={getattr(type(getattr(config, name)), 'kind', '') or type(getattr(config, name)).__name__!r}"

    critic, losses = parts.critic, parts.policy.losses
    missing = [need for need in parts.weight.needs if need not in critic.knows]
    if parts.improve.weighs and missing:
        raise ValueError(f"{kind('weight')} needs the {' and '.join(missing)} of actions, which {kind('critic')} lacks")
    if not parts.improve.weighs and parts.weight.needs:
        raise ValueError(f"{kind('weight')} has no effect with {kind('improve')}, which weighs no recorded actions")
    if parts.improve.climbs and critic.values is None:
        raise ValueError(f"{kind('improve')} needs critics of actions, which {kind('critic')} has not")
    if parts.choice.asks and critic.values is None:
        raise ValueError(f"{kind('choice')} needs critics of actions, which {kind('critic')} has not")
    if not isinstance(config.rule, NoRule) and not critic.prices:
        raise ValueError(f"{kind('rule')} needs critics of the costs, which {kind('critic')} has not: take rule='none'")
    if (critic.support or parts.improve.support) and parts.policy.support is None:
        who = kind("critic") if critic.support else kind("improve")
        raise ValueError(f"{who} needs a model of the recorded actions: policy='supported', not {kind('policy')}")
    if parts.weight.heads not in (None, losses) or (losses > 1 and parts.weight.heads is None and parts.weight.needs):
        raise ValueError(f"{kind('weight')} is for {parts.weight.heads or 1} losses, {kind('policy')} has {losses}")
    if config.feed.length != 1:
        raise ValueError(f"feed.length must be 1 (single transitions), got {config.feed.length}")
    if config.limit_unit != "endless" and critic.unit is not None:
        raise ValueError(
            f"limit_unit={config.limit_unit!r} has no meaning with {kind('critic')}, which has a unit of its own"
        )
