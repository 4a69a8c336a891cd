"""What feeds a learner inside the program: pure functions of the environments, the policy and a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jsafe.envs.device import DeviceEnv
from jsafe.types import Batch, Key, Learner, PolicyState


class Report(NamedTuple):
    """What an iteration tells the host, in sums: they add up over devices.

    Attributes:
      ended: `[4 + M]` float32 over the episodes that ended: their number, return, length, success, and each cost.
      finished: Environments that have finished an episode so far, int32.
      bad: `[2 + M]` int32: how many rewards, costs of each kind, and observations cannot be used by any learner.
    """

    ended: jax.Array
    finished: jax.Array
    bad: jax.Array


class CollectFn(Protocol):
    """`(world, policy_state, key) -> (world, batch, report)`."""

    def __call__(self, world: Any, policy_state: PolicyState, key: Key, /) -> tuple[Any, Batch, Report]: ...


class Collecting(NamedTuple):
    """A collector as pure functions: jit, scan, vmap or shard_map them together with `Learner.update`.

    Attributes:
      init: `(policy_state, seeds [N] uint32) -> world`: environments that have just been reset, environment i with the
        stream of the i-th seed. Every leaf of a world has a leading axis that counts environments.
      collect: `(world, policy_state, key) -> (world, batch, report)`; one batch as `Learner.feed` describes it.
    """

    init: Callable[[PolicyState, jax.Array], Any]
    collect: CollectFn


MakeFn = Callable[[Learner, DeviceEnv, str | None], Collecting]
_MAKERS: dict[type, MakeFn] = {}


def collects(feed: type) -> Callable[[MakeFn], MakeFn]:
    """Registers `(learner, env, axis_name) -> Collecting` for a type of feed, and for what derives from it."""

    def register(make: MakeFn) -> MakeFn:
        _MAKERS[feed] = make
        return make

    return register


def collecting(learner: Learner, env: DeviceEnv, axis_name: str | None = None) -> Collecting:
    """What feeds a learner from a device environment, as pure functions.

    Args:
      learner: Its `act`, `memory`, `spec` and `feed` are used; the feed counts the environments of one device.
      env: One episode; it is vectorised here.
      axis_name: Mapped axis over which devices share the environments, each with those of its own.

    Raises:
      ValueError: If the environment does not fit the learner, or nothing serves its feed.
    """
    for kind in type(learner.feed).__mro__:
        if kind in _MAKERS:
            return _MAKERS[kind](learner, env, axis_name)
    known = ", ".join(sorted(kind.__name__ for kind in _MAKERS))
    raise ValueError(
        f"nothing collects for a feed of type {type(learner.feed).__name__} in the program (known: {known}); "
        "register it with jsafe.data.device.collects, or use backend='host'"
    )
