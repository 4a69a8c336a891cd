"""What a learner is fed with: fresh rollouts, windows of a replay, rows of a data set. A collector produces what a
feed describes.

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
from jsafe.errors import unknown
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


EXTRAS = ("initial_obs", "return_to_go", "cost_to_go", "episode_return", "episode_cost", "step")
"""What `Dataset.extras` may ask for."""


@dataclasses.dataclass(frozen=True)
class Dataset(Options):
    """Minibatches of a data set that was recorded before.

    One batch holds `updates` = K minibatches of `batch_size` = B transitions, drawn uniformly and with replacement
    from the episodes that are kept. `Steps` are `[K, B, ...]` (K is there when it is 1, too), and a learner scans over
    K gradient steps:

    - `obs [K, B, ...]`, `action [K, B, A]` float32 in `[-1, 1]` (int32 choices `[K, B]`), `reward [K, B]` (times
      `reward_scale`), `cost [K, B, M]` as recorded;
    - `next_obs`: what followed; the final observation where the episode ended, never that of another one;
    - `terminated [K, B]`: the task ended for good, nothing is bootstrapped. `truncated [K, B]`: the episode was cut
      after this row (a time limit, or the end of the recording) and its value goes on: bootstrap from `next_obs`;
    - `weight [K, B]` float32: 1;
    - `extras`: those that `extras` names, and no others:
      `initial_obs [K, B, ...]`, first observations of episodes, drawn uniformly from the episodes and independently of
      the rows beside them;
      `return_to_go [K, B]`, `cost_to_go [K, B, M]`, sums from this row to the last recorded one of its episode, this
      one included, discounted by `to_go_gamma` (1: plain sums); the former is scaled like the reward;
      `episode_return [K, B]`, `episode_cost [K, B, M]`, undiscounted sums over the whole episode of the row;
      `step [K, B]` int32, the number of the row in its episode, from 0.

    With `length` = L > 1 the leading axes are `[K, L, B]`: windows of consecutive rows of one episode, whose first row
    is drawn uniformly from all rows. Rows behind the end of the episode have weight 0 and repeat its last row;
    `extras["initial_obs"]` then has a copy in every row.

    `Batch.measured` is all zeros and `Batch.ready` is always True: nothing is stepped, and what evaluation episodes
    show does not flow back. `Batch.memory` is `()`. The policy may have a memory, for acting.
    """

    batch_size: int = number(256, low=1, high=10**9)
    """Transitions (or windows) per gradient update: the minibatch."""
    updates: int = number(250, low=1, high=10**6)
    """Gradient updates per call of the learner."""
    length: int = number(1, low=1, high=10**6)
    """Rows per window; 1 is a single transition."""
    filter: Literal["all", "safe", "risky", "boundary", "frontier"] = "all"
    """Episodes that are learnt from, by their cost C and the limit k: `safe` C <= k, `risky` C >= 2k, `boundary`
    k/2 < C <= 3k/2, `frontier` those near the best return for their cost."""
    filter_limit: float | None = number(None, low=0)
    """The limit k per episode for `filter`; None: the algorithm's own cost limit."""
    fraction: float = number(1.0, above=0, high=1)
    """Share of the kept episodes that is used, drawn with the run's seed."""
    reward_scale: float | Literal["range"] = number(1.0, above=0)
    """Factor of every reward. `range`: horizon / (largest - smallest return of the kept episodes). Costs are never
    scaled."""
    to_go_gamma: float = number(1.0, low=0, high=1)
    """Discount of `return_to_go` and `cost_to_go`."""
    resident: bool = True
    """Keep the data set in the device's memory, and draw and gather minibatches there; else on the host."""
    extras: tuple[str, ...] = ()
    """What `Steps.extras` holds; the learner says."""
    transform: CMDPTransform | None = None
    """Applied to what the policy sees when it acts (a budget, say). Rows are as recorded."""

    batch_option = "batch_size"
    num_envs = 0
    """None is stepped."""

    def __post_init__(self):
        super().__post_init__()
        for name in self.extras:
            if name not in EXTRAS:
                raise ValueError(unknown("extra of a data set", name, EXTRAS))

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of `Steps`; devices share the last of them."""
        window = () if self.length == 1 else (self.length,)
        return (self.updates, *window, self.batch_size)

    @property
    def steps_per_batch(self) -> int:
        """Gradient updates behind one batch: what a run without environments counts."""
        return self.updates

    def divided(self, processes: int) -> Dataset:
        """The part of one of several processes."""
        return dataclasses.replace(self, batch_size=_share("batch_size", self.batch_size, processes))

    def stored_bytes(self, spec: EnvSpec, total_steps: int) -> int:
        """Memory that is kept between batches, but for the data set, whose size only the file knows."""
        del spec, total_steps
        return 0


def _share(name: str, total: int, processes: int) -> int:
    if total % processes:
        raise ValueError(f"{name} must be a multiple of the number of processes, {processes}, got {total}")
    return total // processes
