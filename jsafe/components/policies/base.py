"""The seam `policy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jsafe.types import NO_MEMORY, Key, Memory, Obs, Params


class ApplyFn(Protocol):
    """`(params, memory, obs) -> (distribution, memory)`; see `jsafe.distributions`."""

    def __call__(self, params: Params, memory: Any, obs: Obs, /) -> tuple[Any, Any]: ...


class PolicyNetwork(NamedTuple):
    """A stochastic policy.

    Attributes:
      init: `key -> params`.
      apply: `(params, memory, obs [..., O]) -> (distribution, memory)`; one step of a memory.
      memory: How its memory starts; `NO_MEMORY` where the observation is all.
    """

    init: Callable[[Key], Params]
    apply: ApplyFn
    memory: Memory = NO_MEMORY
