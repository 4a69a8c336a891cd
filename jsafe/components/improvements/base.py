"""The seam of improvements: how a policy that must stay near recorded actions is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jsafe.components.actors.base import Values
from jsafe.components.valuations.base import Context, Judgement
from jsafe.types import Array, Key, Metrics, Params


class Frozen(NamedTuple):
    """A valuation and weights as constants, over the rows of a minibatch.

    Attributes:
      values: `action [..., R, A] -> Values` at the rows' observations; None where there are no critics.
      judge: `key -> Judgement` of the recorded actions.
      weigh: `judgement -> [H or 1, R]`.
    """

    values: Callable[[Array], Values] | None
    judge: Callable[[Key], Judgement]
    weigh: Callable[[Judgement], Array]


class Improved(NamedTuple):
    """A loss of the policy and what came with it.

    Attributes:
      loss: Scalar, a mean over the rows of this device.
      metrics: Scalars.
      state: Its own new state.
      cost: `[M]`, the policy's mean cost in the states of the rows, if it was found on the way.
    """

    loss: Array
    metrics: Metrics
    state: Any = ()
    cost: Array | None = None


class ImprovementLossFn(Protocol):
    """`(params, context, frozen, state, key) -> Improved`; `params` are the policy's."""

    def __call__(self, params: Params, context: Context, frozen: Frozen, state: Any, key: Key, /) -> Improved: ...


class Improvement(NamedTuple):
    """A loss of the policy.

    Attributes:
      loss: See `ImprovementLossFn`.
      weighs: Whether it looks at the weights of rows.
      climbs: Whether it looks at the values of the policy's own actions.
      support: Whether the policy has to have a model of the recorded actions.
      start: `() -> state` of its own.
    """

    loss: ImprovementLossFn
    weighs: bool = False
    climbs: bool = False
    support: bool = False
    start: Callable[[], Any] = tuple
