"""Shared types: the seams between the floors of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
Params = Any
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What a learner has to know of an environment.

    Args:
      obs_dim: Width of one flattened observation (before frame stacking).
      act_dim: Number of action components; policies act in `[-1, 1]^act_dim`.
      num_costs: Number of separate cost signals M.
      horizon: Longest episode, in environment steps.

    Raises:
      ValueError: If a field is not a positive integer.
    """

    obs_dim: int
    act_dim: int
    num_costs: int = 1
    horizon: int = 1000

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"EnvSpec.{field.name} must be an integer of at least 1, got {value!r}")


def env_spec(env: Any) -> EnvSpec:
    """The part of an environment's `spec` that a learner is built from."""
    spec = env.spec
    return EnvSpec(spec.obs_dim, spec.act_dim, spec.num_costs, spec.horizon)


class ActOutput(NamedTuple):
    """What a policy returns for a batch of observations `[N, O]`.

    `action` is `[N, A]` in `[-1, 1]` (Gaussian policies may leave it); `log_prob` is `[N]`; `extras` holds
    whatever else the update or a curious user wants (SEditor: the `proposal` before the edit).
    """

    action: Array
    log_prob: Array
    extras: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class ReplayData:
    """Data that an off-policy learner asks of its collector.

    One iteration steps `num_envs` environments `unroll` times with sampled actions, appends the rows to the replay
    and hands over one `SequenceBatch`. `learn` is False until the replay holds `initial_rows` rows (all envs).
    """

    num_envs: int = 32
    unroll: int = 5
    sequences: int = 1024
    sequence_length: int = 8
    frame_stack: int = 1
    replay_rows: int = 50_000
    """Capacity in rows per environment."""
    initial_rows: int = 10_000
    updates: int = 1
    """Minibatches drawn per iteration: with more than one, the fields of the batch gain a leading axis `[K, ...]`."""
    random_steps: int = 0
    """Environment steps (all envs) with uniformly random actions at the start."""
    dtype: str = "float32"
    """Storage type of observations: float32 or float16."""
    replay_on_device: bool = False
    """Keep a copy of the replay's observations in the device's memory, and gather minibatches there."""


class TransformStep(NamedTuple):
    """What a `CMDPTransform` makes of one step of N environments.

    `z` continues (already reset where the episode ended), `z_final` is the value before that reset: the one that
    belongs to the final observation, from which a truncated step bootstraps.
    """

    z: Array
    z_final: Array
    reward: Array
    terminated: Array


class CMDPTransform(NamedTuple):
    """A change of the problem that carries a small state `z [N, ...]` per environment (a budget, a counter).

    The functions work on numpy and on jax arrays alike, so that host collectors and compiled rollouts share them.
    `params` is `learner.policy(state).transform` (a budget, say; it may change between iterations).
    The learner sees transformed data only: `act` and the batch get `augment(obs, z)`, `next_obs` is
    `augment(final_obs, z_final)`, `reward` and `terminated` are those of `step`. Episode statistics and `cost` stay
    raw. Where `step` terminates an episode that the environment would go on with, the collector resets it.

    Attributes:
      extra_obs: Columns that `augment` appends.
      init: `(params, N) -> z`, at the start of a run (numpy).
      augment: `(obs [..., O], z) -> [..., O + extra_obs]`.
      step: `(params, z, reward [N], cost [N, M], terminated [N], truncated [N]) -> TransformStep`.
    """

    extra_obs: int
    init: Callable[[Any, int], Any]
    augment: Callable[[Any, Any], Any]
    step: Callable[..., TransformStep]


@dataclasses.dataclass(frozen=True)
class RolloutData:
    """Data that an on-policy learner asks of its collector: `num_envs` x `length` fresh steps per iteration."""

    num_envs: int = 20
    length: int = 1000
    reset_each_epoch: bool = False
    transform: CMDPTransform | None = None
    """Applied by the collector to what the learner sees (Saute, Simmer, early termination)."""


class CostStats(NamedTuple):
    """Sums and a count, never means: exact to add over devices. `total` is `[M]`, `count` a scalar."""

    total: Array
    count: Array


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended in a batch, undiscounted, in environment units; `cost` is `[M]`."""

    total_return: Array
    cost: Array
    length: Array
    count: Array


class SequenceBatch(NamedTuple):
    """Replayed rows, time-major `[T, B, ...]`; the reward of a row is the one received on arriving there.

    `reward[t]`, `cost[t]` and `discount[t]` belong to the arrival at `obs[t]`; `action[t]` was taken from it.
    `first` rows start an episode (reward and cost 0), `last` rows end one (their action is meaningless).
    A window may cross an episode's end. `fresh` are the raw costs of the rows collected in this iteration (one per
    row, first rows included as zeros) and `episodes` the sums of the episodes that ended in it, for the multiplier.
    `learn` is a boolean scalar: False while the replay fills.
    With `ReplayData.updates = K > 1` every field but `fresh`, `episodes` and `learn` has a leading axis K.
    """

    obs: Array
    action: Array
    reward: Array
    cost: Array
    discount: Array
    first: Array
    last: Array
    fresh: CostStats
    episodes: EpisodeStats
    learn: Array


class RolloutBatch(NamedTuple):
    """Fresh on-policy steps, time-major `[T, N, ...]`.

    `next_obs[t]` is the observation that followed `action[t]`, the final one where the episode ended there (never the
    reset observation): a truncated row and the last row of the batch bootstrap from it.
    """

    obs: Array
    action: Array
    log_prob: Array
    reward: Array
    cost: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    episodes: EpisodeStats


class Learner(NamedTuple):
    """An algorithm as a handful of pure functions; jit, vmap or pmap them as you like.

    Attributes:
      init: `key -> state`.
      update: `(state, batch, key) -> (state, metrics)`; keeps the tree, shapes and dtypes of the state.
      act: `(policy_state, obs [N, O], key, deterministic) -> ActOutput`.
      policy: `state -> policy_state`, the small part that a collector needs.
      config: The frozen dataclass the learner was built from.
      data: `ReplayData` or `RolloutData`: what a collector has to produce.
      spec: The `EnvSpec` it was built for.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]
    act: Callable[[Any, Array, Key, bool], ActOutput]
    policy: Callable[[Any], Any]
    config: Any
    data: ReplayData | RolloutData
    spec: EnvSpec


class Weights(NamedTuple):
    """How an objective mixes reward and costs: `reward * R - sum(cost * C)`; `reward` is a scalar, `cost` is `[M]`."""

    reward: Array
    cost: Array


class ConstraintRule(NamedTuple):
    """Turns measured cost into weights (Lagrange multiplier, PID controller, barrier, switch ...).

    Attributes:
      init: `() -> state`.
      update: `(state, J_cost [M], limit [M]) -> state`; `J_cost` and `limit` in the same unit.
      weights: `(state, J_cost [M], limit [M]) -> Weights`.
    """

    init: Callable[[], Any]
    update: Callable[[Any, Array, Array], Any]
    weights: Callable[[Any, Array, Array], Weights]
