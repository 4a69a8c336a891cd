"""What a learner is fed with: fresh rollouts, windows of a replay. A collector produces what a feed describes.

A feed is any frozen dataclass with the attributes of `jsafe.types.Feed`; `jsafe.data.feeds_with` says which collector
serves it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
import numpy as np

from jsafe import spaces
from jsafe.options import Options, number
from jsafe.types import CMDPTransform, EnvSpec


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """Fresh on-policy steps: `num_envs` environments, `length` steps of each per iteration.

    `Steps` are `[length, num_envs, ...]` with `next_obs` (the final observation where an episode ended there, never
    the reset one), and `extras["log_prob"]` of the policy that acted. `Batch.memory` is the policy's memory at row 0.
    """

    num_envs: int = 20
    length: int = 1000
    reset_each_epoch: bool = False
    """All environments start anew with each batch, and an episode that is cut there counts as truncated."""
    transform: CMDPTransform | None = None
    """Applied by the collector to what the learner sees (Saute, Simmer, early termination)."""

    batch_option = "num_envs"

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of `Steps`; devices share the last of them."""
        return (self.length, self.num_envs)

    @property
    def steps_per_batch(self) -> int:
        """Environment steps behind one batch."""
        return self.length * self.num_envs

    def divided(self, processes: int) -> Rollouts:
        """The part of one of several processes."""
        return dataclasses.replace(self, num_envs=_share("num_envs", self.num_envs, processes))

    def stored_bytes(self, spec: EnvSpec, total_steps: int) -> int:
        """Memory that is kept between batches: none."""
        del spec, total_steps
        return 0


@dataclasses.dataclass(frozen=True)
class Replay(Options):
    """Windows of replayed rows.

    One iteration steps `num_envs` environments `unroll` times with sampled actions, appends the rows to the replay
    and hands over `updates` minibatches of `sequences` windows. `Batch.ready` is False until the replay holds
    `initial_rows` rows (all envs).

    `Steps` are `[sequence_length, sequences, ...]`, with `updates` > 1 behind a leading axis of that size. `next_obs`
    is None: what followed row t is row t + 1 of the window. Its last row is there to bootstrap from: what it holds
    besides observation, action and weight is zero. A row of weight 0 is the final observation of an episode: its
    action means nothing, and the next row starts another episode.
    """

    num_envs: int = number(32, low=1, high=10**6)
    """Environments that are stepped."""
    unroll: int = number(5, low=1, high=10**9)
    """Steps of every environment per iteration."""
    sequences: int = number(1024, low=1, high=10**9)
    """Windows per update: the minibatch."""
    sequence_length: int = number(8, low=2, high=10**9)
    """Rows per window; 2 is a single transition."""
    frame_stack: int = number(1, low=1, high=10**4)
    """Observations that are concatenated, oldest first; the policy's memory does the same while acting."""
    replay_rows: int = number(50_000, low=1, high=10**12)
    """Capacity in rows per environment."""
    initial_rows: int = number(10_000, low=0)
    """Rows (all environments) collected before the first update."""
    updates: int = number(1, low=1, high=10**6)
    """Updates per iteration."""
    random_steps: int = number(0, low=0)
    """Environment steps (all envs) with uniformly random actions at the start."""
    dtype: Literal["float32", "float16"] = "float32"
    """Storage type of float observations: float32 or float16. Images stay uint8."""
    jumps: bool = False
    """Rows say whether what followed is another problem, `extras["jump"]` (bool): the environment reported a success,
    and the episode went on (a goal that was met and drawn anew)."""
    replay_on_device: bool = False
    """Keep a copy of the observations in the device's memory, and gather minibatches there."""

    def __post_init__(self):
        super().__post_init__()
        need = self.sequence_length + self.frame_stack - 1
        if self.replay_rows < need:
            raise ValueError(
                f"replay_rows must be at least sequence_length + frame_stack - 1 = {need}, got {self.replay_rows}"
            )
        if self.initial_rows > (capacity := self.replay_rows * self.num_envs):
            raise ValueError(
                f"initial_rows must be at most replay_rows * num_envs = {capacity}, got {self.initial_rows}"
            )

    batch_option = "sequences"
    memory_option = "replay_rows"
    """Name of the option that sets `stored_bytes`, for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of `Steps`; devices share the last of them."""
        window = (self.sequence_length, self.sequences)
        return (self.updates, *window) if self.updates > 1 else window

    @property
    def steps_per_batch(self) -> int:
        """Environment steps behind one batch."""
        return self.unroll * self.num_envs

    def divided(self, processes: int) -> Replay:
        """The part of one of several processes."""
        return dataclasses.replace(
            self,
            num_envs=_share("num_envs", self.num_envs, processes),
            sequences=_share("sequences", self.sequences, processes),
            initial_rows=-(-self.initial_rows // processes),
            random_steps=-(-self.random_steps // processes),
        )

    def stored_bytes(self, spec: EnvSpec, total_steps: int) -> int:
        """Memory of the rows that a run of so many steps will fill."""
        rows = min(self.num_envs * self.replay_rows, total_steps)
        floats = np.dtype(self.dtype).itemsize
        observation = sum(
            math.prod(leaf.shape) * (floats if leaf.dtype.startswith("float") else np.dtype(leaf.dtype).itemsize)
            for leaf in jax.tree.leaves(spaces.tree_map(lambda leaf: leaf, spec.obs))
        )
        action = sum(jax.tree.leaves(spaces.tree_map(lambda leaf: math.prod(leaf.shape), spec.action)))
        return rows * (observation + 4 * (action + spec.num_costs + 4))


def _share(name: str, total: int, processes: int) -> int:
    if total % processes:
        raise ValueError(f"{name} must be a multiple of the number of processes, {processes}, got {total}")
    return total // processes
