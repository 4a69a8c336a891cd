"""What an epoch of CRABS changes."""

from __future__ import annotations

from typing import Any, NamedTuple

from jsafe.components.barriers import Scale
from jsafe.components.certify import Search
from jsafe.components.dynamics import Model
from jsafe.types import Array, Params

INITIAL, TRIAL, CERTIFICATE, GUARDED = range(4)
"""Phases."""


class Core(NamedTuple):
    """What guards: a certificate with the policy and the models for which it was found."""

    barrier: Params
    actor: Params
    model: Model


class Counts(NamedTuple):
    """Scalars: calls of `update`; steps without a violation; violations before and in the guarded phase (float32);
    actor-critic steps of the phase; certificates found."""

    iteration: Array
    quiet: Array
    pretrain_violations: Array
    violations: Array
    updates: Array
    found: Array


class CrabsState(NamedTuple):
    """Everything that an update changes.

    `params` and `opt_state` hold `actor`, `critic` and `log_alpha`, `opt_state` also `adversary` and `barrier`;
    `target` is the critics' slow copy; `models` the dynamics' state; `barrier` h's parameters under way; `scale` of
    its inputs; `core` the reference; `search` the chains; `freq` actor-critic steps per adversarial step, and `debt`
    those that are due.
    """

    phase: Array
    params: dict[str, Params]
    target: Params
    opt_state: dict[str, Any]
    models: Any
    barrier: Params
    scale: Scale
    core: Core
    search: Search
    freq: Array
    debt: Array
    numbers: Any
    counts: Counts


class Rows(NamedTuple):
    """Transitions of one minibatch, `[R, ...]`."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    weight: Array
    next_obs: Array
