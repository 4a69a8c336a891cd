"""The seam of scores: how a planner ranks what its candidates are predicted to lead to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jsafe.components.compat import Released
from jsafe.components.dynamics.propagation import Rollout
from jsafe.types import Array


class Aim(NamedTuple):
    """What costs may be, and what ignorance weighs.

    Attributes:
      limit: `[M]`, per episode.
      kappa: `[M]`, cost of a unit of spread.
    """

    limit: Array
    kappa: Array


class Judged(NamedTuple):
    """S candidates of a planner.

    Attributes:
      score: `[S]`, to be maximised; -inf for what must not be chosen.
      returns: `[S]`, predicted return over the plan.
      cost: `[S, M]`, predicted cost on the scale of an episode.
      feasible: `[S]` bool.
      enough: Whether there are enough feasible candidates to rank by return.
    """

    score: Array
    returns: Array
    cost: Array
    feasible: Array
    enough: Array


class Score(NamedTuple):
    """How candidates are ranked.

    Attributes:
      judge: `(rollout, terminal [E, K, S] or 0, aim, enough) -> Judged`; `enough` candidates have to be feasible for
        returns to count.
      uses_kappa: Whether `aim.kappa` matters.
    """

    judge: Callable[..., Judged]
    uses_kappa: bool = False


@dataclasses.dataclass(frozen=True)
class ScorePart(Released):
    """Base of scores: they are told how many steps an episode has for each of the plan."""

    def build(self, spec: Any, axis_name: str | None = None, compat: Any = "paper", steps: int = 1) -> Score:
        """The functions, for plans of so many `steps`."""
        raise NotImplementedError


def mean_return(rollout: Rollout, terminal: Array | float) -> Array:
    """`[S]`: mean over all particles of the summed reward and the value of the end; -inf where that is no number."""
    value = (rollout.reward + terminal).mean(axis=(0, 1))
    return jnp.where(jnp.isfinite(value), value, -jnp.inf)


def ranked(returns: Array, cost: Array, limit: Array, enough: int) -> Judged:
    """Returns of the feasible where at least `enough` candidates are, else the least violation of all.

    The violation is the cost itself, or of several `sum_m max(C_m - d_m, 0) / max(d_m, 1)`.

    Args:
      returns: `[S]`.
      cost: `[S, M]`, in the unit of the limits.
      limit: `[M]`.
      enough: Number of feasible candidates from which returns count.

    Source: Wen & Topcu 2018, "Constrained cross-entropy method for safe reinforcement learning", algorithm 1, on
      sequences of actions in the place of policies; the sum over several costs is ours.
    """
    cost = jnp.where(jnp.isfinite(cost), cost, jnp.inf)
    feasible = (cost <= limit).all(axis=-1)
    reached = feasible.sum() >= enough
    if cost.shape[-1] == 1:
        violation = cost[:, 0]
    else:
        violation = (jnp.maximum(cost - limit, 0.0) / jnp.maximum(limit, 1.0)).sum(axis=-1)
    score = jnp.where(reached, jnp.where(feasible, returns, -jnp.inf), -violation)
    return Judged(score, returns, cost, feasible, reached)
