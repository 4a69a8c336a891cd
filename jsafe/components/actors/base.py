"""The seam of off-policy actors: a policy (or several), and the loss that trains it on frozen critics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jsafe.types import Array, Key, Params, Weights


class Values(NamedTuple):
    """Action values `reward [..., R]`, and `cost [..., R, M]` as positive costs."""

    reward: Array
    cost: Array


class FrozenQ(NamedTuple):
    """Critics as constants, over the observations of a batch of R rows, reduced to one number per signal.

    Attributes:
      values: `action [..., R, A] -> Values`; several actions per row may lie in front of the rows.
      reward: `action [..., R, A] -> [..., R]`, the reward's value alone (half the work).
    """

    values: Callable[[Array], Values]
    reward: Callable[[Array], Array]


class Draw(NamedTuple):
    """An action of the current policy.

    Attributes:
      action: `[R, A]` in [-1, 1], or int32 choices `[R]`; where `chance` is given, `[n, R]` of them.
      log_probs: `[R]` of each policy that has an entropy, by name (with `chance`: its mean).
      extras: What a curious user may want.
      chance: `[n, R]` probabilities of n actions per row, for expectations; None: one action.
    """

    action: Array
    log_probs: dict[str, Array]
    extras: dict[str, Array] | None = None
    chance: Array | None = None


class ActorInputs(NamedTuple):
    """What an actor's loss may look at.

    Attributes:
      obs: `[R, O]`.
      taken: `[R, A]`, the replayed action.
      weight: `[R]`, 0 where the row does not count.
      q: The critics as they are.
      slow_q: Their slow copies.
      slow: The actor's own slow copy; `()` where it wants none.
      weights: Of reward and costs, from the constraint rule.
      limit: `[M]`, what the rule steers for, as a discounted sum: the unit of the cost critics.
      alpha: Temperature of each policy.
      state: The actor's own state.
    """

    obs: Array
    taken: Array
    weight: Array
    q: FrozenQ
    slow_q: FrozenQ
    slow: Params
    weights: Weights
    limit: Array
    alpha: dict[str, Array]
    state: Any


class ActorLoss(NamedTuple):
    """Losses per row, and what the rest of the update needs of the samples behind them.

    Attributes:
      loss: `[R]`, to be averaged over the rows that count.
      draw: A fresh action of the current policy, as a constant; its `log_probs` serve the temperatures.
      metrics: Scalars.
      state: The actor's new state.
    """

    loss: Array
    draw: Draw
    metrics: dict[str, Array]
    state: Any = ()


class DrawFn(Protocol):
    """`(params, obs [R, O], key, deterministic) -> Draw`."""

    def __call__(self, params: Params, obs: Array, key: Key, deterministic: bool = False, /) -> Draw: ...


class ActorLossFn(Protocol):
    """`(params, key, inputs) -> ActorLoss`."""

    def __call__(self, params: Params, key: Key, inputs: ActorInputs, /) -> ActorLoss: ...


class BootstrapFn(Protocol):
    """`(params, slow, obs [R, O], key) -> Draw`: from where targets bootstrap."""

    def __call__(self, params: Params, slow: Params, obs: Array, key: Key, /) -> Draw: ...


class Actor(NamedTuple):
    """A policy (or a pair of them) and its loss.

    Attributes:
      init: `key -> params`.
      draw: `(params, obs, key, deterministic) -> Draw`: how it acts.
      loss: `(params, key, inputs) -> ActorLoss`.
      policies: Names of the policies that have an entropy, one temperature each.
      bootstrap: `(params, slow, obs, key) -> Draw`, drawn apart from the loss's, on the rows that follow. None: the
        draw of the loss serves, on the same rows.
      slow: Whether it wants a slow copy of its parameters.
      start: `() -> state` of its own (dual variables).
    """

    init: Callable[[Key], Params]
    draw: DrawFn
    loss: ActorLossFn
    policies: tuple[str, ...]
    bootstrap: BootstrapFn | None = None
    slow: bool = False
    start: Callable[[], Any] = tuple


def mixture(values: Values, weights: Weights) -> Array:
    """`w_r Q_r - sum_m w_m Q_m`, `[..., R]`."""
    return weights.reward * values.reward - values.cost @ weights.cost
