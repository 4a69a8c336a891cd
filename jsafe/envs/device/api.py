"""The seam of environments that run inside the compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jsafe.envs.api import Spec, Step


class DeviceEnv(NamedTuple):
    """One episode as pure functions of jax arrays: the caller vmaps, and starts new episodes (`vectorise`).

    Attributes:
      spec: Sizes, names and bounds.
      reset: `(key) -> (state, obs)`.
      step: `(state, action [A], key) -> (state, Step)`. The step's leaves lack the leading axis that those of a
        batched environment have; `final_obs` is `obs`. What follows the end of an episode is undefined.
      paint: `(state, height, width) -> uint8 [height, width, 3]`, a picture to look at; None if there is none.
    """

    spec: Spec
    reset: Callable[[jax.Array], tuple[Any, Any]]
    step: Callable[[Any, jax.Array, jax.Array], tuple[Any, Step]]
    paint: Callable[[Any, int, int], jax.Array] | None = None
